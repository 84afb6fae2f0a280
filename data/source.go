package data

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxBytes bounds what a source may hold once it is unpacked, all files of a folder together, so that a small file cannot fill the
// memory. Tests lower it.
var maxBytes int64 = 8 << 30

// textExtensions are the names under which a file is taken as plain text; a file without extension is too.
var textExtensions = []string{"", ".txt", ".text", ".md", ".rst", ".tex", ".xml", ".html", ".tsv", ".log"}

// folderExtensions are those that are read from a folder.
var folderExtensions = []string{".txt", ".text"}

// document is one text before it is cut into parts.
type document struct {
	name string
	text []byte
	part string // train, val or test where the source says so itself

	target   []byte // of a pair
	label    string // class
	group    string // what keeps it together with others; "": nothing
	sections []int  // where in text its sections begin, from 0 on; nil: it has none

	question string
	answers  []answer // to the question; none: the text has no answer to it
}

// fields are the names under which a source holds what is wanted of a document; "": not wanted.
type fields struct {
	text, target, label, group string
	question, start            string // of question_answering; target is then the answer, start where it begins, which a source need not have
	join                       bool   // one document for each group, a section for each line
	table                      bool   // a column is asked for by name or number, so that a tsv file is a table, not text
}

// fields are those that the objective needs.
func (c Config) fields() fields {
	or := func(name, standard string) string {
		if name == "" {
			return standard
		}
		return name
	}
	f := fields{text: or(c.TextField, "text"), group: c.GroupField, join: c.Join, table: c.TextField != ""}
	switch c.objective() {
	case "sequence_classification":
		f.label = or(c.LabelField, "label")
	case "seq2seq_lm":
		f.target = or(c.TargetField, "target")
	case "question_answering":
		f.text, f.target = or(c.TextField, "context"), or(c.TargetField, "answer")
		f.question, f.start = or(c.QuestionField, "question"), or(c.StartField, "answer_start")
	}
	return f
}

// plain refuses a plain text where more is wanted.
func (f fields) plain(path string) error {
	if f.target+f.label == "" {
		return nil
	}
	what, how := "classes", " (or a folder with a folder for each class)"
	if f.target != "" {
		what, how = "targets", ""
	}
	if f.question != "" {
		what = "questions"
	}
	return &Error{Kind: ErrFormat, Path: path, What: "a plain text has no " + what, Fix: "give a .jsonl, .csv, .tsv or .parquet file" + how + " with data.path"}
}

// values are what a source holds of a document, in the order of names.
type values [6]string

// names returns the names that are wanted, in the order text, target, label, group, question, start.
func (f fields) names() values {
	return values{f.text, f.target, f.label, f.group, f.question, f.start}
}

// set gives a document the values of names.
func (d *document) set(v values) {
	d.text, d.label, d.group, d.question = []byte(v[0]), v[2], v[3], v[4]
	if v[1] != "" {
		d.target = []byte(v[1])
	}
}

// usable reports whether a document has what is asked of it. A question need not have an answer.
func (f fields) usable(d document) bool {
	return len(d.text) > 0 && (f.target == "" || f.question != "" || len(d.target) > 0)
}

// setPart takes the part that a source names itself.
func (d *document) setPart(part string) {
	if slices.Contains(PartNames, part) {
		d.part = part
	}
}

// joined makes one document of those of each group that follow each other, with a section for each and a blank between them.
func joined(docs []document) []document {
	var all []document
	for _, doc := range docs {
		last := len(all) - 1
		if last < 0 || doc.group != all[last].group || doc.part != all[last].part || doc.group == "" {
			doc.sections = []int{0}
			doc.text = slices.Clip(doc.text)
			all = append(all, doc)
			continue
		}
		to := &all[last]
		to.text = append(to.text, ' ')
		to.sections = append(to.sections, len(to.text))
		to.text = append(to.text, doc.text...)
		if doc.target != nil {
			to.target = append(append(slices.Clip(to.target), ' '), doc.target...)
		}
	}
	return all
}

// source is what was read from a path.
type source struct {
	name string
	docs []document
}

// readSource reads a text file, a folder of text files, or a file with a document on each line.
func readSource(path string, f fields) (*source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	if info.IsDir() {
		return readFolder(path, f)
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{Kind: ErrFormat, Path: path, What: "neither a file nor a folder", Fix: "give a text file, a folder or a .jsonl file"}
	}
	left := maxBytes
	kind, err := f.kind(path)
	if err != nil {
		return nil, err
	}
	if kind != plainText {
		in, err := openRecords(path, f, kind, place{}, &left)
		if err != nil {
			return nil, err
		}
		return readAll(path, in, f)
	}
	if err := f.plain(path); err != nil {
		return nil, err
	}
	text, err := readText(path, &left)
	if err != nil {
		return nil, err
	}
	return &source{name: path, docs: []document{{name: path, text: text}}}, nil
}

// readFolder reads every .txt file below a folder, in the order of their paths. The class of a text is the name of the folder that it is in.
func readFolder(root string, f fields) (*source, error) {
	var paths []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fileError(path, err)
		}
		if ext, _ := extension(path); entry.Type().IsRegular() && slices.Contains(folderExtensions, ext) {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, &Error{Kind: ErrEmpty, Path: root, What: "no .txt file in this folder or below", Fix: "put .txt, .txt.gz or .txt.bz2 files there"}
	}
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(filepath.ToSlash(a), filepath.ToSlash(b)) })
	if f.target != "" {
		return nil, &Error{Kind: ErrFormat, Path: root, What: "a folder of texts has no targets", Fix: "give a .jsonl, .csv, .tsv or .parquet file"}
	}
	src := &source{name: root}
	left := maxBytes
	for _, path := range paths {
		text, err := readText(path, &left)
		if errors.Is(err, ErrEmpty) {
			continue // an empty file among others does no harm
		}
		if err != nil {
			return nil, err
		}
		doc := document{name: path, text: text}
		if f.label != "" {
			doc.label = filepath.Base(filepath.Dir(path))
		}
		src.docs = append(src.docs, doc)
	}
	if len(src.docs) == 0 {
		return nil, &Error{Kind: ErrEmpty, Path: root, What: fmt.Sprintf("all %d .txt files are empty", len(paths)), Fix: "give files with text"}
	}
	return src, nil
}

// readText reads a plain or compressed text file of at most left bytes, which it takes off, and checks that it is text.
func readText(path string, left *int64) ([]byte, error) {
	var text []byte
	err := open(path, left, func(r io.Reader) (err error) {
		text, err = io.ReadAll(r)
		return err
	})
	if err != nil {
		return nil, fileError(path, err)
	}
	return text, checkText(path, text)
}

// checkText refuses what is empty or not text: a NUL byte, or more than a tenth of the bytes outside valid UTF-8 (text in an
// old 8-bit encoding passes, as bytes).
func checkText(path string, text []byte) error {
	if len(text) == 0 {
		return emptyError(path)
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return &Error{Kind: ErrBinary, Path: path, What: fmt.Sprintf("binary file (byte %d is 0)", i), Fix: "give text in UTF-8"}
	}
	if utf8.Valid(text) {
		return nil
	}
	bad := 0
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 {
			bad++
		}
		rest = rest[size:]
	}
	if bad*10 > len(text) {
		return &Error{Kind: ErrBinary, Path: path, What: fmt.Sprintf("binary file (%d %% of its bytes are not UTF-8)", 100*bad/len(text)), Fix: "give text in UTF-8"}
	}
	return nil
}

func emptyError(path string) error {
	return &Error{Kind: ErrEmpty, Path: path, What: "the file is empty", Fix: "give a file with text"}
}

// changedError says that a stream cannot go on, since a file of it is not what it was.
func changedError(path, what string) error {
	return &Error{Kind: ErrChanged, Path: path, What: what, Fix: "bring the file back as it was, or start a new run with fit --from"}
}

// fileError says in the form of this package why a path cannot be read.
func fileError(path string, err error) error {
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{Kind: ErrMissing, Path: path, What: "no such file or folder", Fix: "check the path (it is relative to the current folder)", Err: err}
	}
	cause := err
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		cause = p.Err
	}
	return &Error{Kind: ErrRead, Path: path, What: fmt.Sprintf("cannot be read (%v)", cause), Fix: "check the file and its permissions", Err: err}
}
