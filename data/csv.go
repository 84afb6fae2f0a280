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

// readTable reads a document from each record of a file in the form of RFC 4180: commas between fields, which may stand in double quotes and
// then hold commas, quotes written twice, and line ends. The first record names the columns, unless those that are wanted are numbers, from 1; a
// column "split" may say which part a record belongs to. Every record has as many fields as the first.
//
// Cost: the wanted fields, and one record at a time.
//
// Errors: ErrTorn for a record with another number of fields or a broken quote; ErrFormat for a column that is not there; ErrBinary, ErrEmpty.
func readTable(path string, f fields) (*source, error) {
	src := &source{name: path}
	left := maxBytes
	err := open(path, &left, func(r io.Reader) error {
		records := csv.NewReader(r)
		records.ReuseRecord = true
		table := &columns{names: f.names()}
		part := -1 // column of "split"
		for first := true; ; first = false {
			cells, err := records.Read()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return csvError(path, err)
			}
			line, _ := records.FieldPos(0)
			if first {
				cells[0] = strings.TrimPrefix(cells[0], "\ufeff")
				header, err := table.find(path, cells)
				if err != nil {
					return err
				}
				if header {
					part = slices.Index(cells, "split")
					continue
				}
			}
			doc, err := table.document(path, line, cells)
			if err != nil {
				return err
			}
			if bytes.IndexByte(doc.text, 0) >= 0 {
				return &Error{Kind: ErrBinary, Path: path, Line: line, What: "binary file (a byte is 0)", Fix: "give text in UTF-8"}
			}
			if part >= 0 {
				doc.setPart(cells[part])
			}
			if f.usable(doc) {
				src.docs = append(src.docs, doc)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return src.whole(f, "give records under a header such as "+strings.Join(f.wanted(), ","))
}

// csvError says what is wrong with a record.
func csvError(path string, err error) error {
	at := (*csv.ParseError)(nil)
	if !errors.As(err, &at) {
		return fileError(path, err)
	}
	e := &Error{Kind: ErrTorn, Path: path, Line: at.StartLine, What: fmt.Sprintf("broken record (%v)", at.Err), Fix: `put a field with quotes, commas or line ends in double quotes, its quotes written twice`}
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
