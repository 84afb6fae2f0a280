package data

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
)

// What a stream does where the configuration leaves it open, and what bounds it; tests lower the bounds.
const (
	standardBuffer = 1000
	standardHeld   = 200
)

var (
	maxRecord   int64 = 256 << 20 // bytes of a record
	sampleBytes int64 = 16 << 20  // of the text that a BPE is trained on
)

// streamExtensions are those that are read from a folder: texts, or files with a document in each record.
var streamExtensions = append([]string{".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"}, folderExtensions...)

// streamed is a train part that is read while it is trained on: its files in an order that is drawn for each epoch, record by record. Its first records, by
// the paths of the files, are held out.
type streamed struct {
	files   []streamFile // by path
	fields  fields
	tok     Tokenizer
	classes []string
	buffer  int // examples among which the next one is drawn
	held    int // documents that are held out
	skip    int // files that they are all of
	begin   place
}

// streamFile is a file as it was when it was first looked at.
type streamFile struct {
	path string
	kind recordKind
	StreamFile
}

// StreamFile says by what a file of a stream is known again.
type StreamFile struct {
	Name string `json:"name"` // below the folder, with slashes
	Size int64  `json:"size"`
	Sum  string `json:"sum"` // of its first and last bytes
}

// summed is how much of the beginning and of the end of a file is summed up.
const summed = 1 << 16

// lookAt notes by what a file is known again.
func lookAt(path string) (size int64, sum string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, "", fileError(path, err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return 0, "", fileError(path, err)
	}
	size = info.Size()
	h := sha256.New()
	for _, part := range [][2]int64{{0, min(size, summed)}, {max(0, size-summed), min(size, summed)}} {
		if _, err := io.Copy(h, io.NewSectionReader(file, part[0], part[1])); err != nil {
			return 0, "", fileError(path, err)
		}
	}
	return size, hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// check refuses a file that is not what it was.
func (f streamFile) check() error {
	size, sum, err := lookAt(f.path)
	switch {
	case err != nil:
		return err
	case size != f.Size:
		return changedError(f.path, fmt.Sprintf("the file has %d bytes, it had %d when it was first read", size, f.Size))
	case sum != f.Sum:
		return changedError(f.path, "the file has another beginning or end than when it was first read")
	}
	return nil
}

// streamFiles lists the files of a path.
//
// Errors: ErrMissing, ErrEmpty; ErrFormat for a file of unknown form, for files of several, and for plain texts if classes are asked for.
func streamFiles(root string, f fields) ([]streamFile, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fileError(root, err)
	}
	var files []streamFile
	add := func(path, name string) error {
		kind, err := f.kind(path)
		if err != nil {
			return err
		}
		if kind == plainText && info.IsDir() {
			if ext, _ := extension(path); !slices.Contains(folderExtensions, ext) {
				return nil
			}
		}
		if kind == plainText && f.label != "" {
			return &Error{Kind: ErrFormat, Path: path, What: "a plain text in a stream has no classes", Fix: "give .jsonl, .csv, .tsv or .parquet files, or leave data.streaming out"}
		}
		file := streamFile{path: path, kind: kind}
		file.Name = filepath.ToSlash(name)
		if file.Size, file.Sum, err = lookAt(path); err != nil {
			return err
		}
		if file.Size > 0 || !info.IsDir() { // an empty file among others does no harm
			files = append(files, file)
		}
		return nil
	}
	switch {
	case info.IsDir():
		err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return fileError(path, err)
			}
			if ext, _ := extension(path); !entry.Type().IsRegular() || !slices.Contains(streamExtensions, ext) {
				return nil
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			return add(path, name)
		})
	case info.Mode().IsRegular():
		err = add(root, filepath.Base(root))
	default:
		err = &Error{Kind: ErrFormat, Path: root, What: "neither a file nor a folder", Fix: "give a text file, a folder or a .jsonl file"}
	}
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, &Error{Kind: ErrEmpty, Path: root, What: "no file with text in this folder or below", Fix: "put .txt, .jsonl, .csv, .tsv or .parquet files there"}
	}
	slices.SortFunc(files, func(a, b streamFile) int { return strings.Compare(a.Name, b.Name) })
	for _, file := range files {
		if file.kind != files[0].kind {
			return nil, &Error{Kind: ErrFormat, Path: file.path, What: fmt.Sprintf("a file of another form than %s in one stream", files[0].Name), Fix: "leave files of one form in the folder"}
		}
	}
	return files, nil
}

// validateStream reports the faults of a stream.
func (c Config) validateStream(fault func(ok bool, path string, value any, want string)) {
	fault(c.ShuffleBuffer >= 0 && (c.Streaming || c.ShuffleBuffer == 0), "shuffle_buffer", c.ShuffleBuffer, "at least 1 (0: 1,000), and none without data.streaming")
	fault(c.HeldOut >= 0 && c.HeldOut != 1 && (c.Streaming || c.HeldOut == 0), "held_out", c.HeldOut, "at least 2 (0: 200), and none without data.streaming")
	if !c.Streaming {
		return
	}
	o := c.objective()
	fault(o == "causal_lm" || o == "masked_lm" || o == "sequence_classification", "streaming", true, "false for "+o+": streams are read for causal_lm, masked_lm and sequence_classification")
	fault(c.Task == "", "streaming", true, "false with data.task, which takes no memory")
	fault(c.Task != "" || c.Path != "" && !IsName(c.Path), "path", c.Path, "a file or a folder with data.streaming; what has a name is read whole")
	fault(c.GroupField == "" && !c.Join, "group_field", c.GroupField, "none with data.streaming, which holds out the first records whatever their group")
	fault(o != "sequence_classification" || len(c.Classes) > 0, "classes", c.Classes, "the classes with data.streaming, since they cannot be collected beforehand")
}

// whole is the configuration of the same data read as a whole.
func (c Config) whole() Config {
	c.Streaming, c.ShuffleBuffer, c.HeldOut = false, 0, 0
	return c
}

// loadStream is Load for data that are larger than memory.
func (c Config) loadStream() (*Corpus, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &streamed{fields: c.fields(), buffer: c.ShuffleBuffer, held: c.HeldOut, classes: c.Classes}
	if s.buffer == 0 {
		s.buffer = standardBuffer
	}
	if s.held == 0 {
		s.held = standardHeld
	}
	var err error
	if s.files, err = streamFiles(c.Path, s.fields); err != nil {
		return nil, err
	}
	parts, err := s.holdOut(c.Path)
	if err != nil {
		return nil, err
	}
	tok, err := c.NewTokenizer()
	if u := (*untrained)(nil); errors.As(err, &u) {
		docs, serr := s.sample()
		if serr != nil {
			return nil, serr
		}
		tok, err = trainBPE(u.size, docs)
	}
	if err != nil {
		return nil, err
	}
	s.tok = tok
	m := c.maker(&source{name: c.Path}, tok)
	corpus := &Corpus{Name: c.Path, Tokenizer: tok, Classes: m.classes}
	corpus.Digest = digest(c, tok, parts)
	if corpus.Val, err = m.part(PartNames[1], parts[1]); err != nil {
		return nil, err
	}
	if corpus.Test, err = m.part(PartNames[2], parts[2]); err != nil {
		return nil, err
	}
	corpus.Train = &Part{Name: PartNames[0], source: c.Path, view: corpus.Val.view, vocab: m.vocab, bounds: []int{0}, streamed: s}
	return corpus, nil
}

// holdOut takes the first documents out of the stream: those that say so themselves to the test part, of the others the first half to validation.
//
// Errors: ErrTooShort if nothing is left to train on.
func (s *streamed) holdOut(root string) (parts [3][]document, err error) {
	r := reading{s: s}
	defer r.close()
	last, left := -1, maxBytes
	for n := 0; n < s.held; {
		doc, ended, err := r.next()
		if err == io.EOF {
			return parts, &Error{Kind: ErrTooShort, Path: root, What: fmt.Sprintf("a stream of %d records, the first %d of which are held out: none is left to train on", n, s.held), Fix: "set data.held_out to less, or leave data.streaming out"}
		}
		if err != nil {
			return parts, err
		}
		if ended {
			continue
		}
		if left -= int64(len(doc.text)); left < 0 {
			return parts, &Error{Kind: ErrTooLarge, Path: root, What: fmt.Sprintf("the first %d records, which are held out, have more than %d bytes", s.held, maxBytes), Fix: "set data.held_out to less"}
		}
		at := 1
		if doc.part == "test" || doc.part != "val" && n >= (s.held+1)/2 {
			at = 2
		}
		file := r.index()
		if docs := parts[at]; s.files[file].kind == plainText && last == file && len(docs) > 0 { // pieces of one text
			docs[len(docs)-1].text = append(docs[len(docs)-1].text, doc.text...)
		} else {
			parts[at] = append(docs, doc)
		}
		last = file
		n++
	}
	s.skip, s.begin = r.file, r.at
	return parts, nil
}

// sample is the beginning of what is trained on, by the paths of the files.
func (s *streamed) sample() (docs []document, err error) {
	r := reading{s: s, file: s.skip, at: s.begin}
	defer r.close()
	for size := int64(0); size < sampleBytes; {
		doc, ended, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if !ended && doc.trains() {
			docs = append(docs, doc)
			size += int64(len(doc.text))
		}
	}
	return docs, nil
}

// trains reports whether a document is one to train on, if it says what it is for.
func (d document) trains() bool { return d.part == "" || d.part == PartNames[0] }

// reading goes through the files of a stream.
type reading struct {
	s     *streamed
	order *permutation // of the files; nil: by path
	file  int          // the one that is read, in this order; those before it are read
	in    records      // nil: it is not open
	at    place        // of its next record
	left  int64        // bytes that the record may have
}

// index is that of the file that is read.
func (r *reading) index() int {
	if r.order == nil {
		return r.file
	}
	return r.order.at(r.file)
}

// next reads the next document; ended says instead that a file ended. io.EOF comes after the last file.
//
// Errors: those of the files; ErrChanged.
func (r *reading) next() (doc document, ended bool, err error) {
	for {
		if r.in == nil {
			if r.file == len(r.s.files) {
				return doc, false, io.EOF
			}
			if r.index() < r.s.skip {
				r.forward()
				continue
			}
			if err := r.open(); errors.Is(err, ErrEmpty) && len(r.s.files) > 1 {
				r.forward()
				continue
			} else if err != nil {
				return doc, false, err
			}
		}
		r.left = maxRecord
		doc, ok, err := r.in.next()
		if err == io.EOF {
			r.forward()
			return document{}, true, nil
		}
		if err != nil && r.left < 0 {
			err = &Error{Kind: ErrTooLarge, Path: r.s.files[r.index()].path, What: fmt.Sprintf("record %d has more than %d bytes", r.at.Record+1, maxRecord), Fix: "cut it into smaller ones"}
		}
		if err != nil {
			return document{}, false, err
		}
		r.at = r.in.place()
		if ok {
			return doc, false, nil
		}
	}
}

func (r *reading) open() error {
	file := r.s.files[r.index()]
	if err := file.check(); err != nil {
		return err
	}
	r.left = maxRecord
	in, err := openRecords(file.path, r.s.fields, file.kind, r.at, &r.left)
	if err == nil {
		r.in = in
	}
	return err
}

// forward leaves a file for the next one.
func (r *reading) forward() {
	r.close()
	r.start(r.file + 1)
}

// start goes to the beginning of a file, past what is held out.
func (r *reading) start(file int) {
	r.file, r.at = file, place{}
	if file < len(r.s.files) && r.index() == r.s.skip {
		r.at = r.s.begin
	}
}

func (r *reading) close() {
	if r.in != nil {
		r.in.close()
		r.in = nil
	}
}

// tooMany refuses a buffer that no tensor holds.
func (s *streamed) tooMany(t int) error {
	const most = 1<<31 - 1
	if s.buffer > most/(t+1) {
		return &config.FieldError{Path: "data.shuffle_buffer", Value: s.buffer, Want: fmt.Sprintf("want at most %d for train.sequence_length %d", most/(t+1), t)}
	}
	return nil
}
