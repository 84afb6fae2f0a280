package data

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// parquetLeaf is a column of values.
type parquetLeaf struct {
	kind           parquet.Kind
	length         int // of a fixed one, in bytes
	maxRep, maxDef int // levels: how often it may repeat, how many of its ways may be null
	codec          format.CompressionCodec
}

// parquetLeaves are the columns of a file, in the order of the chunks of its groups.
func parquetLeaves(file *parquet.File) (all []parquetLeaf) {
	var walk func(c *parquet.Column)
	walk = func(c *parquet.Column) {
		if c.Leaf() {
			l := parquetLeaf{kind: c.Type().Kind(), maxRep: c.MaxRepetitionLevel(), maxDef: c.MaxDefinitionLevel()}
			if l.kind == parquet.FixedLenByteArray {
				l.length = c.Type().Length()
			}
			if groups := file.Metadata().RowGroups; len(groups) > 0 {
				l.codec = groups[0].Columns[len(all)].MetaData.Codec
			}
			all = append(all, l)
		}
		for _, child := range c.Columns() {
			walk(child)
		}
	}
	walk(file.Root())
	return all
}

// parquetPages walks the pages of a column of a group of rows.
type parquetPages struct {
	r          io.ReaderAt
	leaf       parquetLeaf
	budget     *parquetBudget
	at, end    int64
	dictionary bool
}

// checkPages looks at all pages of a column of a group, before the library does.
//
// Cost: that of decompressing them; a page at a time.
func checkPages(r io.ReaderAt, size int64, leaf parquetLeaf, chunk *format.ColumnMetaData, budget *parquetBudget) error {
	start := chunk.DataPageOffset
	if chunk.DictionaryPageOffset != 0 {
		start = chunk.DictionaryPageOffset
	}
	n := chunk.TotalCompressedSize
	if start < 4 || n < 0 || start > size-8 || n > size-8-start {
		return errors.New("the pages of a column are not in it")
	}
	if chunk.Codec != leaf.codec {
		return errors.New("a column is compressed in several ways, which is not read")
	}
	p := &parquetPages{r: r, leaf: leaf, budget: budget, at: start, end: start + n}
	for p.at < p.end {
		if err := p.check(); err != nil {
			return err
		}
	}
	return nil
}

// pageHeader is what stands before a page.
type pageHeader struct {
	kind                 int64 // 0 data, 1 index, 2 dictionary, 3 data of the second form
	size, packed         int64 // bytes, and those of them in the file
	plain                bool  // of the second form, not compressed
	values               int64
	encoding             int64
	repLevels, defLevels int64 // bytes, of the second form
}

// header reads the header at the place, whose length nobody tells.
func (p *parquetPages) header() (h pageHeader, err error) {
	for n := int64(256); ; n *= 4 {
		n = min(n, p.end-p.at)
		b := make([]byte, n)
		if _, err := p.r.ReadAt(b, p.at); err != nil {
			return h, err
		}
		t := &thrift{b: b}
		if h = readHeader(t); t.err == nil {
			p.at += int64(t.at)
			return h, nil
		}
		if !errors.Is(t.err, errShort) || n == p.end-p.at || n >= 4<<20 {
			return h, t.err
		}
	}
}

func readHeader(t *thrift) (h pageHeader) {
	h.kind = -1
	forms := 0
	t.fields(func(id int64, kind byte) bool {
		switch {
		case id == 1 && kind == thriftI32:
			h.kind = t.int()
		case id == 2 && kind == thriftI32:
			h.size = t.int()
		case id == 3 && kind == thriftI32:
			h.packed = t.int()
		case (id == 5 || id == 7 || id == 8) && kind == thriftStruct:
			if forms++; forms > 1 {
				t.fail(errThrift)
			}
			second := id == 8
			t.fields(func(id int64, kind byte) bool {
				switch {
				case id == 1 && kind == thriftI32:
					h.values = t.int()
				case id == 2 && kind == thriftI32 && !second, id == 4 && kind == thriftI32 && second:
					h.encoding = t.int()
				case id == 5 && kind == thriftI32 && second:
					h.defLevels = t.int()
				case id == 6 && kind == thriftI32 && second:
					h.repLevels = t.int()
				case id == 7 && kind <= thriftFalse && second:
					h.plain = kind == thriftFalse
					return false // it has no bytes
				default:
					return false
				}
				return true
			})
		default:
			return false
		}
		return true
	})
	return h
}

// check looks at the next page.
func (p *parquetPages) check() error {
	h, err := p.header()
	if err != nil {
		return err
	}
	levels := h.repLevels + h.defLevels
	if h.packed < 0 || h.packed > p.end-p.at || h.size < 0 || h.values < 0 || h.repLevels < 0 || h.defLevels < 0 || levels > h.packed || levels > h.size {
		return errors.New("a page has sizes that cannot be")
	}
	place := p.at
	p.at += h.packed
	if h.size > p.budget.page || h.values > p.budget.values/parquetValue {
		return errParquetLarge
	}
	if h.kind != 0 && h.kind != 2 && h.kind != 3 {
		return fmt.Errorf("a page is of an unknown kind, %d", h.kind)
	}
	body := make([]byte, h.packed)
	if _, err := p.r.ReadAt(body, place); err != nil {
		return err
	}
	n := int(h.values)
	if h.kind == 3 {
		reps, defs := body[:h.repLevels], body[h.repLevels:levels]
		if n, err = p.levels(n, reps, defs); err != nil {
			return err
		}
		h.size -= levels
		body = body[levels:]
	}
	codec := p.leaf.codec
	if h.plain {
		codec = format.Uncompressed
	}
	if body, err = unfolded(codec, body, int(h.size), p.budget.page); err != nil {
		return err
	}
	switch h.kind {
	case 2:
		p.dictionary = true
		return p.dictionaryOf(h, body)
	case 0:
		var reps, defs []byte
		if p.leaf.maxRep > 0 {
			if reps, body, err = prefixed(body); err != nil {
				return err
			}
		}
		if p.leaf.maxDef > 0 {
			if defs, body, err = prefixed(body); err != nil {
				return err
			}
		}
		if n, err = p.levels(n, reps, defs); err != nil {
			return err
		}
	}
	return p.values(h.encoding, body, n)
}

// levels are those of n places; it returns how many of these have a value.
func (p *parquetPages) levels(n int, reps, defs []byte) (int, error) {
	if p.leaf.maxRep > 0 {
		if err := checkRuns(reps, width(p.leaf.maxRep), n); err != nil {
			return 0, err
		}
	}
	if p.leaf.maxDef == 0 {
		return n, nil
	}
	if err := checkRuns(defs, width(p.leaf.maxDef), n); err != nil {
		return 0, err
	}
	there, levels := 0, &runs{b: defs, width: width(p.leaf.maxDef)}
	for range n {
		level, err := levels.next()
		if err != nil {
			return 0, err
		}
		if int(level) == p.leaf.maxDef {
			there++
		}
	}
	return there, nil
}

// width is the number of bits of levels up to most.
func width(most int) (n int) {
	for ; most > 0; most >>= 1 {
		n++
	}
	return n
}

// fixedSize is the number of bytes of a value, 0 where that is not fixed.
func (l parquetLeaf) fixedSize() int {
	switch l.kind {
	case parquet.Int32, parquet.Float:
		return 4
	case parquet.Int64, parquet.Double:
		return 8
	case parquet.Int96:
		return 12
	case parquet.FixedLenByteArray:
		return max(l.length, 1)
	}
	return 0
}

// dictionaryOf looks at a dictionary.
func (p *parquetPages) dictionaryOf(h pageHeader, body []byte) error {
	if h.encoding != 0 && h.encoding != 2 {
		return errors.New("a dictionary is not plain")
	}
	size := max(p.leaf.fixedSize(), 1)
	if p.leaf.kind == parquet.ByteArray {
		size = 4 // the length of each
	}
	if p.leaf.kind != parquet.Boolean && h.values > int64(len(body)/size) {
		return errShort
	}
	return nil
}

// values looks at n values of a page.
func (p *parquetPages) values(encoding int64, body []byte, n int) error {
	if n == 0 && len(body) == 0 {
		return nil
	}
	switch encoding {
	case 0, 9: // plain, bytes apart
		if n > len(body) && p.leaf.kind != parquet.Boolean || p.leaf.fixedSize() > 0 && n > len(body)/p.leaf.fixedSize() {
			return errShort
		}
		return nil
	case 2, 8: // dictionary
		if !p.dictionary {
			return errors.New("a dictionary is missing")
		}
		if len(body) == 0 || body[0] > 32 {
			return errShort
		}
		return checkRuns(body[1:], int(body[0]), n)
	case 3: // runs of truth values
		part, _, err := prefixed(body)
		if err == nil {
			err = checkRuns(part, 1, n)
		}
		return err
	case 5, 6, 7:
		return p.deltas(encoding, body, n)
	}
	return fmt.Errorf("a column has the encoding %d, which is not read", encoding)
}

// deltas looks at numbers (5), at texts behind their lengths (6), or behind what each takes of the one before and its own length (7).
func (p *parquetPages) deltas(encoding int64, body []byte, n int) error {
	d, err := newDeltas(body)
	if err != nil {
		return err
	}
	if d.total > n {
		return errParquetLarge
	}
	sum := int64(0)
	for parts := min(encoding-4, 2); ; {
		for d.total > 0 {
			v, err := d.next()
			if err != nil {
				return err
			}
			if encoding > 5 && v < 0 {
				return errThrift
			}
			if encoding > 5 {
				sum += v
			}
		}
		if parts--; parts == 0 || encoding == 6 {
			break
		}
		if d, err = newDeltas(d.b); err != nil {
			return err
		}
		if d.total > n {
			return errParquetLarge
		}
	}
	if sum > p.budget.page {
		return errParquetLarge
	}
	return nil
}

// unfolded are the n bytes of a page, for which no more than about most are asked. LZ4 is refused: the library never comes back from a damaged block, and of a whole one it may leave what was in its memory
// before in place of what it unpacked.
func unfolded(codec format.CompressionCodec, b []byte, n int, most int64) ([]byte, error) {
	other := errors.New("a page is not as long as it says")
	if codec == format.Uncompressed {
		if len(b) != n {
			return nil, other
		}
		return b, nil
	}
	if len(b) == 0 {
		return nil, other
	}
	var r io.Reader
	switch codec {
	case format.Snappy:
		if long, at := binary.Uvarint(b); at <= 0 || long != uint64(n) {
			return nil, other
		}
	case format.Zstd:
		if long, err := zstdBound(b); err != nil || long > max(most, int64(n)) {
			return nil, other
		}
	case format.Gzip:
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		r = z
	case format.Brotli:
		r = brotli.NewReader(bytes.NewReader(b))
	default:
		return nil, fmt.Errorf("its pages are compressed in a way (%v) that is not read; write it with snappy, gzip, zstd or brotli", codec)
	}
	if r == nil {
		out, err := parquet.LookupCompressionCodec(codec).Decode(make([]byte, 0, n), b)
		if err == nil && len(out) != n {
			err = other
		}
		return out, err
	}
	out := make([]byte, n+1)
	got, err := io.ReadFull(r, out)
	if err == nil || got != n {
		return nil, other
	}
	if err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	return out[:n], nil
}
