package data

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// parquetRecords reads a document from each row of a parquet file. Fields are names of columns; those below another are named with a dot, and of a
// list the first element counts. A column "split" may say which part a row belongs to. Of question_answering there may be, in place of the
// answer's column, lists answers.text and answers.answer_start, as SQuAD has them.
//
// Cost: the wanted columns, a page of each at a time; other columns are not read.
//
// Errors: ErrTorn for a damaged file; ErrFormat for a column that is not there, with those that are; ErrTooLarge, ErrEmpty.
type parquetRecords struct {
	f      fields
	table  *parquetTable
	file   *os.File
	groups []parquet.RowGroup // those that were not begun
	rows   int64              // that remain of the one that was; 0: none was
	at     place
	left   *int64
}

// openParquet opens a file at a row.
func openParquet(path string, f fields, from place, left *int64) (p *parquetRecords, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	defer recovered(path, &err)
	info, err := file.Stat()
	if err != nil {
		return nil, fileError(path, err)
	}
	if info.Size() == 0 {
		return nil, emptyError(path)
	}
	if err := checkFooter(file, info.Size()); err != nil {
		return nil, tornParquet(path, err)
	}
	opened, err := parquet.OpenFile(file, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, tornParquet(path, err)
	}
	table, err := newParquetTable(path, f, opened)
	if err != nil {
		return nil, err
	}
	table.file, table.budget = opened, newParquetBudget(info.Size())
	p = &parquetRecords{f: f, table: table, file: file, groups: opened.RowGroups(), at: from, left: left}
	return p, p.seek(from.Record)
}

// seek goes to a row.
func (p *parquetRecords) seek(row int64) error {
	p.table.row = int(row)
	for len(p.groups) > 0 && row >= p.groups[0].NumRows() {
		row -= p.groups[0].NumRows()
		p.groups = p.groups[1:]
	}
	if row == 0 {
		return nil // at the beginning of a group, or at the end
	}
	if len(p.groups) == 0 {
		return changedError(p.table.path, "it ends before the place up to which it was read")
	}
	if err := p.table.open(p.groups); err != nil {
		return tornParquet(p.table.path, err)
	}
	p.rows, p.groups = p.groups[0].NumRows()-row, p.groups[1:]
	if err := p.table.seek(row); err != nil {
		return tornParquet(p.table.path, err)
	}
	return nil
}

// recovered turns a panic into an error: the reader of the format takes what lengths and codes a file gives for true.
func recovered(path string, err *error) {
	if why := recover(); why != nil {
		*err = tornParquet(path, why)
	}
}

func tornParquet(path string, why any) error {
	if err, ok := why.(error); ok && errors.Is(err, errParquetLarge) {
		return &Error{Kind: ErrTooLarge, Path: path, What: "a parquet file that unfolds to far more than its size", Fix: "if it is to be trusted, give its rows as .jsonl", Err: err}
	}
	return &Error{Kind: ErrTorn, Path: path, What: fmt.Sprintf("damaged parquet file (%v)", why), Fix: "fetch or write the file again"}
}

func (p *parquetRecords) next() (doc document, ok bool, err error) {
	path := p.table.path
	defer recovered(path, &err)
	for p.rows == 0 {
		if len(p.groups) == 0 {
			return doc, false, io.EOF
		}
		if err := p.table.open(p.groups); err != nil {
			return doc, false, tornParquet(path, err)
		}
		p.rows, p.groups = p.groups[0].NumRows(), p.groups[1:]
	}
	doc, size, err := p.table.document(p.f)
	if err != nil {
		if !errors.As(err, new(*Error)) {
			err = tornParquet(path, err)
		}
		return doc, false, err
	}
	if *p.left -= int64(size); *p.left < 0 {
		return doc, false, &Error{Kind: ErrTooLarge, Path: path, What: fmt.Sprintf("more than %d bytes of text", maxBytes), Fix: "train on a part of it"}
	}
	p.at.Record++
	if p.rows--; p.rows == 0 {
		p.table.close()
	}
	return doc, p.f.usable(doc), nil
}

func (p *parquetRecords) place() place { return p.at }
func (p *parquetRecords) wants() string {
	return "give rows with the columns " + strings.Join(p.f.wanted(), ", ")
}

func (p *parquetRecords) close() {
	if p.rows > 0 {
		p.table.close()
	}
	_ = p.file.Close()
}

// parquetTable reads rows of the wanted columns.
type parquetTable struct {
	path    string
	file    *parquet.File
	leaves  []parquetLeaf
	budget  *parquetBudget
	row     int
	columns [len(values{}) + 3]*parquetColumn // those of names, then split, answers.text and answers.answer_start; nil: not there or not wanted
}

// The columns that have no key.
const (
	splitColumn = len(values{}) + iota
	answerTexts
	answerStarts
)

// newParquetTable finds the columns.
func newParquetTable(path string, f fields, file *parquet.File) (*parquetTable, error) {
	t := &parquetTable{path: path, leaves: parquetLeaves(file)}
	have := map[string]int{}
	var names []string
	for at, full := range file.Schema().Columns() {
		full = slices.DeleteFunc(slices.Clone(full), func(s string) bool { // what the format puts between a list and its elements
			return slices.Contains([]string{"list", "element", "item", "array", "bag", "array_element"}, s)
		})
		name := strings.Join(full, ".")
		have[name] = at
		names = append(names, name)
	}
	column := func(name string) *parquetColumn {
		if at, ok := have[name]; ok && name != "" {
			return &parquetColumn{at: at}
		}
		return nil
	}
	t.columns[splitColumn] = column("split")
	if f.question != "" {
		t.columns[answerTexts], t.columns[answerStarts] = column(answersField+".text"), column(answersField+".answer_start")
	}
	for i, name := range f.names() {
		if name == "" {
			continue
		}
		if t.columns[i] = column(name); t.columns[i] == nil && i != 5 && (i != 1 || t.columns[answerTexts] == nil) {
			return nil, &Error{Kind: ErrFormat, Path: path, What: fmt.Sprintf("no column %q (there are: %s)", name, several(names)), Fix: "name the column with " + fieldKeys[i]}
		}
	}
	return t, nil
}

// several are names for an error, not too many.
func several(names []string) string {
	const most = 30
	text := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		text += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.ToValidUTF8(text, "?")
}

// open begins the first of the groups of rows that are left, once it has looked at the pages that are wanted.
func (t *parquetTable) open(left []parquet.RowGroup) error {
	chunks := left[0].ColumnChunks()
	meta := t.file.Metadata().RowGroups[len(t.file.RowGroups())-len(left)].Columns
	for _, c := range t.columns {
		if c == nil {
			continue
		}
		if c.at >= len(chunks) || c.at >= len(t.leaves) {
			return errors.New("a group of rows lacks a column")
		}
		if err := checkPages(t.file, t.file.Size(), t.leaves[c.at], &meta[c.at].MetaData, t.budget); err != nil {
			return err
		}
		c.pages, c.values, c.n, c.next = chunks[c.at].Pages(), nil, 0, 0
	}
	return nil
}

// seek goes to a row of the group that is open.
func (t *parquetTable) seek(row int64) error {
	for _, c := range t.columns {
		if c != nil {
			if err := c.pages.SeekToRow(row); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *parquetTable) close() {
	for _, c := range t.columns {
		if c != nil {
			_ = c.pages.Close()
		}
	}
}

// document is that of the next row, and how many bytes it has.
func (t *parquetTable) document(f fields) (doc document, size int, err error) {
	t.row++
	doc.name = fmt.Sprintf("%s:%d", t.path, t.row)
	var cells [len(t.columns)][]string
	for i, c := range t.columns {
		if c == nil {
			continue
		}
		if cells[i], err = c.row(t.budget); err != nil {
			return doc, 0, err
		}
		for _, s := range cells[i] {
			size += len(s)
		}
	}
	var got values
	for i := range got {
		if len(cells[i]) > 0 {
			got[i] = cells[i][0]
		}
	}
	doc.set(got)
	if len(cells[splitColumn]) > 0 {
		doc.setPart(cells[splitColumn][0])
	}
	if f.question != "" {
		texts, starts := one(got)
		if len(texts) == 0 {
			texts, starts = cells[answerTexts], cells[answerStarts]
		}
		if what := doc.ask(texts, starts); what != "" {
			return doc, 0, &Error{Kind: ErrFormat, Path: t.path, Line: t.row, What: what, Fix: "check " + fieldKeys[1] + " and " + fieldKeys[5] + ", which counts characters from 0"}
		}
	}
	return doc, size, nil
}

// parquetColumn reads a column from its pages.
type parquetColumn struct {
	at     int
	pages  parquet.Pages
	values parquet.ValueReader // of the page; nil: the next one is to be read
	buffer [64]parquet.Value
	n      int // values in buffer
	next   int // of them
}

// peek is the next value.
func (c *parquetColumn) peek() (parquet.Value, error) {
	for c.next == c.n {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return parquet.Value{}, err
			}
			c.values = page.Values()
		}
		var err error
		c.next = 0
		c.n, err = c.values.ReadValues(c.buffer[:])
		if errors.Is(err, io.EOF) {
			c.values = nil
		} else if err != nil {
			return parquet.Value{}, err
		} else if c.n == 0 {
			return parquet.Value{}, io.ErrNoProgress
		}
	}
	return c.buffer[c.next], nil
}

// row are the values of the next row that are not null.
func (c *parquetColumn) row(budget *parquetBudget) ([]string, error) {
	var cells []string
	for first := true; ; first = false {
		v, err := c.peek()
		if errors.Is(err, io.EOF) && !first {
			return cells, nil
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if !first && v.RepetitionLevel() == 0 {
			return cells, nil
		}
		text := ""
		if !v.IsNull() {
			text = parquetText(v)
			cells = append(cells, text)
		}
		if err := budget.value(len(text)); err != nil {
			return nil, err
		}
		c.next++
	}
}

// parquetText is a value as text: numbers and truth values do for a class or a group.
func parquetText(v parquet.Value) string {
	switch v.Kind() {
	case parquet.ByteArray, parquet.FixedLenByteArray:
		return string(v.ByteArray())
	case parquet.Boolean:
		return strconv.FormatBool(v.Boolean())
	case parquet.Int32:
		return strconv.Itoa(int(v.Int32()))
	case parquet.Int64:
		return strconv.FormatInt(v.Int64(), 10)
	}
	return v.String()
}
