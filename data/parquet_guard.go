package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// The library that reads parquet files takes what they say of themselves for true: a file of a hundred bytes can make it ask for any memory, or never
// come back. What is here looks at a file first. Nothing that it lets pass is larger than what was seen of it, or than the budget of the file.

// Limits of descriptions; no honest file comes near.
const (
	maxParquetFooter = 64 << 20
	maxParquetDepth  = 64
	maxParquetNames  = 4 << 20 // bytes of the names of all columns
)

var errParquetLarge = errors.New("it unfolds to far more than its size")

// parquetBudget bounds what a file of n bytes unfolds to: a page to 16 MiB + 64 n, its values altogether to 16 MiB + 1024 n. The most that gzip makes of
// something is 1032 times as long.
type parquetBudget struct{ page, values int64 }

// parquetValue is what a value costs besides its bytes: time, and a place in a list.
const parquetValue = 32

func newParquetBudget(size int64) *parquetBudget {
	size = min(size, math.MaxInt64>>12)
	return &parquetBudget{page: min(16<<20+64*size, math.MaxInt32), values: 16<<20 + 1024*size}
}

// value takes what a value of n bytes costs.
func (b *parquetBudget) value(n int) error {
	if b.values -= int64(n) + parquetValue; b.values < 0 {
		return errParquetLarge
	}
	return nil
}

// checkFooter looks at the description at the end of a file, whose length stands before the last four bytes.
func checkFooter(r io.ReaderAt, size int64) error {
	const around = 12 // PAR1 in front, the length and PAR1 at the end
	var end [8]byte
	if size < around {
		return errShort
	}
	if _, err := r.ReadAt(end[:], size-int64(len(end))); err != nil {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(end[:4]))
	switch {
	case string(end[4:]) == "PARE":
		return errors.New("it is encrypted")
	case string(end[4:]) != "PAR1":
		return errors.New("PAR1 is not at its end")
	case n > size-around || n > maxParquetFooter:
		return fmt.Errorf("a description of %d bytes is not in it", n)
	}
	text := make([]byte, n)
	if _, err := r.ReadAt(text, size-int64(len(end))-n); err != nil {
		return err
	}
	t := &thrift{b: text}
	var schema []schemaElement
	var chunks []int // of each group of rows
	t.fields(func(id int64, kind byte) bool {
		switch {
		case id == 2 && kind == thriftList && schema == nil:
			t.list(func(kind byte) { schema = append(schema, readElement(t, kind)) })
		case id == 4 && kind == thriftList && chunks == nil:
			t.list(func(kind byte) { chunks = append(chunks, countChunks(t, kind)) })
		case id == 2 || id == 4:
			t.fail(errThrift) // twice
		default:
			return false
		}
		return true
	})
	if t.err != nil {
		return t.err
	}
	columns, err := countColumns(schema)
	if err != nil {
		return err
	}
	for _, n := range chunks { // the library makes room for columns times groups before it counts
		if n != columns {
			return errors.New("a group of rows does not have the columns of the file")
		}
	}
	return nil
}

// schemaElement is a column, or a group of columns, in the order of a walk depth first.
type schemaElement struct {
	name     int // bytes of it
	leaf     bool
	children int64
}

func readElement(t *thrift, kind byte) (e schemaElement) {
	if kind != thriftStruct {
		t.fail(errThrift)
		return e
	}
	t.fields(func(id int64, kind byte) bool {
		switch {
		case id == 1 && kind == thriftI32:
			t.int()
			e.leaf = true
		case id == 4 && kind == thriftBinary:
			e.name = len(t.binary())
		case id == 5 && kind == thriftI32:
			e.children = t.int()
		default:
			return false
		}
		return true
	})
	if e.name == 0 && e.children == 0 {
		t.fail(errThrift)
	}
	return e
}

// countChunks reads a group of rows, and is how many columns it has.
func countChunks(t *thrift, kind byte) (n int) {
	if kind != thriftStruct {
		t.fail(errThrift)
		return 0
	}
	t.fields(func(id int64, kind byte) bool {
		if id != 1 || kind != thriftList {
			return false
		}
		if n > 0 {
			t.fail(errThrift) // twice
		}
		t.list(func(kind byte) {
			from := t.at
			if t.skip(kind, thriftDepth, true); t.at-from < 8 { // it has at least the place of its pages
				t.fail(errThrift)
			}
			n++
		})
		return true
	})
	return n
}

// countColumns is how many columns a schema has.
func countColumns(schema []schemaElement) (columns int, err error) {
	names := 0
	var walk func(depth, path int) error
	walk = func(depth, path int) error {
		if len(schema) == 0 || depth > maxParquetDepth {
			return errThrift
		}
		e := schema[0]
		schema = schema[1:]
		path += e.name + 1
		if names += path; names > maxParquetNames {
			return errThrift
		}
		if e.leaf { // whatever it says of children
			columns++
			return nil
		}
		for range e.children {
			if err := walk(depth+1, path); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(0, 0); err != nil {
		return 0, err
	}
	if len(schema) > 0 {
		return 0, errThrift
	}
	return columns, nil
}
