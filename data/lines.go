package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// lineReader makes a document of a line; false if the line holds none.
type lineReader interface {
	read(path string, number int, line []byte) (document, bool, error)
	example() string // what a line should be, for errors
}

// readLines reads a document from each line. Blank lines and empty texts are passed over.
func readLines(path string, f fields, reader lineReader) (*source, error) {
	left := maxBytes
	in, err := openLines(path, f, reader, place{}, &left)
	if err != nil {
		return nil, err
	}
	return readAll(path, in, f)
}

// lineRecords reads a document from each line.
type lineRecords struct {
	path   string
	f      fields
	reader lineReader
	in     *input
	lines  *bufio.Reader
	at     place
	ended  bool
}

// openLines opens a file to be read line by line. Whatever the place, the first line may say what the others are.
func openLines(path string, f fields, reader lineReader, from place, left *int64) (*lineRecords, error) {
	if from.Offset > 0 {
		head, err := openLines(path, f, reader, place{}, left)
		if err != nil {
			return nil, err
		}
		_, _, err = head.next()
		head.close()
		if err != nil {
			return nil, err
		}
	}
	in, err := openInput(path, from.Offset, left)
	if err != nil {
		return nil, err
	}
	return &lineRecords{path: path, f: f, reader: reader, in: in, lines: bufio.NewReaderSize(in, 1<<16), at: from}, nil
}

func (l *lineRecords) next() (document, bool, error) {
	if l.ended {
		return document{}, false, io.EOF
	}
	line, err := l.lines.ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return document{}, false, fileError(l.path, err)
	}
	if l.ended = err != nil; l.ended && len(line) == 0 {
		return document{}, false, io.EOF
	}
	l.at.Record++
	l.at.Line++
	l.at.Offset += int64(len(line))
	if l.at.Line == 1 {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if len(bytes.TrimSpace(line)) == 0 {
		return document{}, false, nil
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return document{}, false, &Error{Kind: ErrBinary, Path: l.path, Line: l.at.Line, What: "binary file (a byte is 0)", Fix: "give lines such as " + l.reader.example()}
	}
	doc, ok, err := l.reader.read(l.path, l.at.Line, line)
	return doc, ok && l.f.usable(doc), err
}

func (l *lineRecords) place() place  { return l.at }
func (l *lineRecords) wants() string { return "give lines such as " + l.reader.example() }
func (l *lineRecords) close()        { l.in.close() }

// jsonLines reads one object from each line: strings (numbers and truth values too) in the fields that are wanted and, if it likes, "split"
// with the part that the document belongs to (train, val or test).
type jsonLines struct{ names values }

func (j *jsonLines) example() string {
	var keys []string
	for _, name := range j.names {
		if name != "" {
			keys = append(keys, fmt.Sprintf("%q: \"…\"", name))
		}
	}
	return "{" + strings.Join(keys, ", ") + "}"
}

// fieldKeys are the keys of the configuration that name the fields.
var fieldKeys = values{"data.text_field", "data.target_field", "data.label_field", "data.group_field", "data.question_field", "data.answer_start_field"}

func (j *jsonLines) read(path string, number int, line []byte) (document, bool, error) {
	doc := document{name: fmt.Sprintf("%s:%d", path, number)}
	fault := func(kind error, what, fix string) (document, bool, error) {
		return doc, false, &Error{Kind: kind, Path: path, Line: number, What: what, Fix: fix}
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil || object == nil {
		what := "not a JSON object"
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			what = fmt.Sprintf("damaged JSON at column %d (%v)", syntax.Offset, err)
		}
		return fault(ErrTorn, what, "write one object such as "+j.example()+" on each line")
	}
	var got values
	texts, starts, several := jsonAnswers(object[answersField])
	several = several && j.names[4] != ""
	for i, name := range j.names {
		if name == "" {
			continue
		}
		raw, ok := object[name]
		if !ok && (i == 5 || i == 1 && several) {
			continue
		}
		if !ok {
			return fault(ErrFormat, fmt.Sprintf("no field %q (there are: %s)", name, strings.Join(slices.Sorted(maps.Keys(object)), ", ")),
				"name the field with "+fieldKeys[i])
		}
		plain := string(bytes.TrimSpace(raw))
		if i == 1 && j.names[4] != "" && plain == "null" {
			continue // a question without an answer
		}
		err := json.Unmarshal(raw, &got[i])
		if err != nil || i >= 2 && plain == "null" {
			got[i] = plain // numbers and truth values do for a class or a group
			if i < 2 || strings.ContainsAny(plain, "{[") || plain == "null" {
				return fault(ErrFormat, fmt.Sprintf("field %q is not a string", name), "name the field with "+fieldKeys[i])
			}
		}
	}
	doc.set(got)
	if j.names[4] != "" {
		if !several || got[1] != "" {
			texts, starts = one(got)
		}
		if what := doc.ask(texts, starts); what != "" {
			return fault(ErrFormat, what, "check "+fieldKeys[1]+" and "+fieldKeys[5]+", which counts characters from 0")
		}
	}
	if raw, ok := object["split"]; ok {
		var part string
		if json.Unmarshal(raw, &part) == nil {
			doc.setPart(part)
		}
	}
	return doc, true, nil
}

// columns reads fields from a table with a tab between its columns, no quotes. The first line names them, unless those that are wanted
// are numbers, from 1.
type columns struct {
	names values
	at    [len(values{})]int // from 0; -1: not wanted
	known bool
	group func(value string) string // what of the value of the group counts; nil: all of it
}

func (c *columns) example() string { return "SOURCE<tab>TARGET" }

func (c *columns) read(path string, number int, line []byte) (document, bool, error) {
	cells := strings.Split(strings.TrimRight(string(line), "\r\n"), "\t")
	if !c.known {
		header, err := c.find(path, cells)
		if err != nil || header {
			return document{}, false, err
		}
	}
	doc, err := c.document(path, number, cells)
	return doc, err == nil, err
}

// document is that of the cells of a row.
func (c *columns) document(path string, number int, cells []string) (document, error) {
	doc := document{name: fmt.Sprintf("%s:%d", path, number)}
	var got values
	for i, at := range c.at {
		if at >= len(cells) {
			return doc, &Error{Kind: ErrTorn, Path: path, Line: number, What: fmt.Sprintf("%d columns, want at least %d", len(cells), at+1), Fix: "separate the columns of every line"}
		}
		if at >= 0 {
			got[i] = cells[at]
		}
	}
	if c.group != nil {
		got[3] = c.group(got[3])
	}
	doc.set(got)
	if c.names[4] != "" {
		if what := doc.ask(one(got)); what != "" {
			return doc, &Error{Kind: ErrFormat, Path: path, Line: number, What: what, Fix: "check " + fieldKeys[1] + " and " + fieldKeys[5] + ", which counts characters from 0"}
		}
	}
	return doc, nil
}

// find finds the columns that are wanted by the first line. It reports whether that is a header.
func (c *columns) find(path string, cells []string) (header bool, err error) {
	c.known = true
	for i, name := range c.names {
		c.at[i] = -1
		if name == "" {
			continue
		}
		if n, err := strconv.Atoi(name); err == nil && n >= 1 {
			c.at[i] = n - 1
			continue
		}
		if i == 5 && !slices.Contains(cells, name) {
			continue // answers are looked for
		}
		header = true
		if c.at[i] = slices.Index(cells, name); c.at[i] < 0 {
			return false, &Error{Kind: ErrFormat, Path: path, Line: 1, What: fmt.Sprintf("no column %q in the first line (there are: %s)", name, strings.Join(cells, ", ")),
				Fix: "name the column with " + fieldKeys[i] + ", or give its number from 1"}
		}
	}
	return header, nil
}
