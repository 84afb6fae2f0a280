package data

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// tableRecords reads a document from each record of a file in the form of RFC 4180: commas between fields, which may stand in double quotes and
// then hold commas, quotes written twice, and line ends. The first record names the columns, unless those that are wanted are numbers, from 1; a
// column "split" may say which part a record belongs to. Every record has as many fields as the first.
//
// Cost: the wanted fields, and one record at a time.
//
// Errors: ErrTorn for a record with another number of fields or a broken quote; ErrFormat for a column that is not there; ErrBinary, ErrEmpty.
type tableRecords struct {
	path    string
	f       fields
	table   *columns
	part    int // column of "split"; -1: none
	in      *input
	records *csv.Reader
	begin   place    // of what records reads
	first   []string // the first record, if it does not name the columns and was not given yet
	at      place
}

// openTable opens a file of records. Whatever the place, the first record is read, which may name the columns.
func openTable(path string, f fields, from place, left *int64) (*tableRecords, error) {
	t := &tableRecords{path: path, f: f, table: &columns{names: f.names()}, part: -1}
	if err := t.open(place{}, left); err != nil {
		return nil, err
	}
	err := t.head()
	if err == nil && from.Offset > 0 {
		t.close()
		t.first = nil
		err = t.open(from, left)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tableRecords) open(from place, left *int64) error {
	in, err := openInput(t.path, from.Offset, left)
	if err != nil {
		return err
	}
	columns := 0
	if t.records != nil {
		columns = t.records.FieldsPerRecord
	}
	t.in, t.records, t.begin, t.at = in, csv.NewReader(in), from, from
	t.records.ReuseRecord, t.records.FieldsPerRecord = true, columns
	return nil
}

// head reads the first record and finds the columns.
func (t *tableRecords) head() error {
	cells, err := t.read()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return err
	}
	cells[0] = strings.TrimPrefix(cells[0], "\ufeff")
	header, err := t.table.find(t.path, cells)
	if err != nil {
		return err
	}
	if header {
		t.part = slices.Index(cells, "split")
	} else {
		t.first = cells
	}
	return nil
}

// read reads a record and notes where the next one begins.
func (t *tableRecords) read() ([]string, error) {
	cells, err := t.records.Read()
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, t.error(err)
	}
	line, _ := t.records.FieldPos(len(cells) - 1)
	t.at.Record++
	t.at.Line = t.begin.Line + line + strings.Count(cells[len(cells)-1], "\n")
	t.at.Offset = t.begin.Offset + t.records.InputOffset()
	return cells, nil
}

func (t *tableRecords) next() (document, bool, error) {
	cells := t.first
	if t.first = nil; cells == nil {
		var err error
		if cells, err = t.read(); err != nil {
			return document{}, false, err
		}
	}
	line, _ := t.records.FieldPos(0)
	line += t.begin.Line
	doc, err := t.table.document(t.path, line, cells)
	if err != nil {
		return doc, false, err
	}
	if bytes.IndexByte(doc.text, 0) >= 0 {
		return doc, false, &Error{Kind: ErrBinary, Path: t.path, Line: line, What: "binary file (a byte is 0)", Fix: "give text in UTF-8"}
	}
	if t.part >= 0 {
		doc.setPart(cells[t.part])
	}
	return doc, t.f.usable(doc), nil
}

// place is where the next record begins. The first one is not over while it waits.
func (t *tableRecords) place() place {
	if t.first != nil {
		return t.begin
	}
	return t.at
}

func (t *tableRecords) wants() string {
	return "give records under a header such as " + strings.Join(t.f.wanted(), ",")
}
func (t *tableRecords) close() { t.in.close() }

// error says what is wrong with a record.
func (t *tableRecords) error(err error) error {
	at := (*csv.ParseError)(nil)
	if !errors.As(err, &at) {
		return fileError(t.path, err)
	}
	e := &Error{Kind: ErrTorn, Path: t.path, Line: t.begin.Line + at.StartLine, What: fmt.Sprintf("broken record (%v)", at.Err), Fix: `put a field with quotes, commas or line ends in double quotes, its quotes written twice`}
	if errors.Is(at.Err, csv.ErrFieldCount) {
		e.What, e.Fix = "a record with another number of fields than the first", "give every record as many commas as the first has, or put fields with commas in double quotes"
	}
	return e
}

// wanted are the names of the fields that are asked for.
func (f fields) wanted() []string {
	names := f.names()
	return slices.DeleteFunc(names[:], func(s string) bool { return s == "" })
}

// whole completes what was read: lines of a group are joined if they should be.
//
// Errors: ErrEmpty, with what to do.
func (s *source) whole(f fields, fix string) (*source, error) {
	if len(s.docs) == 0 {
		return nil, &Error{Kind: ErrEmpty, Path: s.name, What: "no document in it", Fix: fix}
	}
	if f.join {
		s.docs = joined(s.docs)
	}
	return s, nil
}
