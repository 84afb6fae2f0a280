package data

import (
	"fmt"
	"io"
	"slices"
)

// records reads the documents of a file one after the other, so that no more of it than one is in memory.
type records interface {
	// next reads a record. ok is false if it holds no document that is of use, such as a blank line. io.EOF comes after the last one.
	next() (doc document, ok bool, err error)
	place() place  // of the next record
	wants() string // what to do about a file without documents, for errors
	close()
}

// place is where in a file a record begins.
type place struct {
	Record int64 `json:"record"` // records before it, also those without a document
	Offset int64 `json:"offset"` // bytes before it, unpacked; not of parquet
	Line   int   `json:"line"`   // lines before it; not of parquet
}

// recordKind is the form of a file.
type recordKind int

const (
	plainText recordKind = iota
	jsonRecords
	tabRecords
	csvRecords
	parquetRows
)

// kind is the form of a file by its name.
//
// Errors: ErrFormat for a name that says nothing of the sort.
func (f fields) kind(path string) (recordKind, error) {
	ext, compression := extension(path)
	switch {
	case ext == ".jsonl" || ext == ".ndjson":
		return jsonRecords, nil
	case ext == ".tsv" && (f.table || f.target+f.label+f.group != ""):
		return tabRecords, nil
	case ext == ".csv":
		return csvRecords, nil
	case ext == ".parquet" && compression == "":
		return parquetRows, nil
	case slices.Contains(textExtensions, ext):
		return plainText, nil
	}
	return 0, &Error{Kind: ErrFormat, Path: path, What: fmt.Sprintf("unknown extension %q", ext),
		Fix: "use .txt (plain text), .jsonl, .csv or .tsv, also with .gz or .bz2, .parquet, or a folder of .txt files"}
}

// openRecords opens a file at a place. left bounds what may be read of it from there on.
func openRecords(path string, f fields, kind recordKind, from place, left *int64) (records, error) {
	switch kind {
	case jsonRecords:
		return openLines(path, f, &jsonLines{names: f.names()}, from, left)
	case tabRecords:
		return openLines(path, f, &columns{names: f.names()}, from, left)
	case csvRecords:
		return openTable(path, f, from, left)
	case parquetRows:
		return openParquet(path, f, from, left)
	}
	return openPieces(path, from, left)
}

// readAll reads all documents of a file.
//
// Errors: ErrEmpty if there are none; those of the file.
func readAll(path string, in records, f fields) (*source, error) {
	defer in.close()
	src := &source{name: path}
	for {
		doc, ok, err := in.next()
		if err == io.EOF {
			return src.whole(f, in.wants())
		}
		if err != nil {
			return nil, err
		}
		if ok {
			src.docs = append(src.docs, doc)
		}
	}
}
