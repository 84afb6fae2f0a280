package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/stretchr/testify/require"
)

// parquetKinds is a row with a column of every physical type that the writer of the tests knows.
type parquetKinds struct {
	Text  string   `parquet:"text"`
	Maybe *string  `parquet:"maybe,optional"`
	Many  []string `parquet:"many,list"`
	Truth bool     `parquet:"truth"`
	Small int32    `parquet:"small"`
	Large int64    `parquet:"large"`
	Real  float32  `parquet:"real"`
	Fine  float64  `parquet:"fine"`
	Fixed [3]byte  `parquet:"fixed"`
}

func kindsOf(n int) (all []parquetKinds, want [][]string) {
	for i := range n {
		r := parquetKinds{Text: fmt.Sprintf("the same beginning, number %d", i*i), Truth: i%3 == 1, Small: int32(-i * 1001), Large: int64(i) << 33, Real: float32(i) / 8, Fine: -float64(i) / 3, Fixed: [3]byte{'a', byte('a' + i%7), 'z'}}
		if i%5 != 2 {
			s := fmt.Sprint("m", i%11)
			r.Maybe = &s
		}
		for k := range i % 4 {
			r.Many = append(r.Many, fmt.Sprint("k", k, "of", i%13))
		}
		maybe := []string(nil)
		if r.Maybe != nil {
			maybe = []string{*r.Maybe}
		}
		all = append(all, r)
		want = append(want, []string{r.Text}, maybe, append([]string(nil), r.Many...), []string{fmt.Sprint(r.Truth)}, []string{fmt.Sprint(r.Small)},
			[]string{fmt.Sprint(r.Large)}, []string{fmt.Sprint(r.Real)}, []string{fmt.Sprint(r.Fine)}, []string{string(r.Fixed[:])})
	}
	return all, want
}

// cellsOf reads all columns of a file, row by row.
func cellsOf(t *testing.T, file []byte) (all [][]string) {
	t.Helper()
	require.NoError(t, checkFooter(bytes.NewReader(file), int64(len(file))))
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	leaves, budget := parquetLeaves(f), newParquetBudget(int64(len(file)))
	for g, group := range f.RowGroups() {
		columns := make([]*parquetColumn, len(leaves))
		for i, leaf := range leaves {
			require.NoError(t, checkPages(f, f.Size(), leaf, &f.Metadata().RowGroups[g].Columns[i].MetaData, budget), "column %d", i)
			columns[i] = &parquetColumn{at: i, pages: group.ColumnChunks()[i].Pages()}
		}
		for range group.NumRows() {
			for i, c := range columns {
				cells, err := c.row(budget)
				require.NoError(t, err, "column %d", i)
				all = append(all, cells)
			}
		}
	}
	return all
}

// Every encoding, compression and form of page gives the values that were written.
func TestParquetForms(t *testing.T) {
	all, want := kindsOf(613)
	encoded := func(text, many, number parquet.Node, dictionary bool) parquet.Node {
		wrap := func(n parquet.Node) parquet.Node {
			if dictionary {
				return parquet.Encoded(n, &parquet.RLEDictionary)
			}
			return n
		}
		truth := parquet.Leaf(parquet.BooleanType)
		return parquet.Group{"text": wrap(text), "maybe": parquet.Optional(wrap(text)), "many": parquet.List(wrap(many)), "truth": truth, "small": wrap(number), "large": wrap(parquet.Int(64)),
			"real": wrap(parquet.Leaf(parquet.FloatType)), "fine": wrap(parquet.Leaf(parquet.DoubleType)), "fixed": wrap(parquet.Leaf(parquet.FixedLenByteArrayType(3)))}
	}
	schemas := map[string]parquet.Node{
		"plain":      encoded(parquet.String(), parquet.String(), parquet.Int(32), false),
		"dictionary": encoded(parquet.String(), parquet.String(), parquet.Int(32), true),
		"delta": encoded(parquet.Encoded(parquet.String(), &parquet.DeltaByteArray), parquet.Encoded(parquet.String(), &parquet.DeltaLengthByteArray),
			parquet.Encoded(parquet.Int(32), &parquet.DeltaBinaryPacked), false),
	}
	for name, node := range schemas {
		schema := parquet.NewSchema("rows", node)
		order := map[string]int{}
		for i, path := range schema.Columns() {
			order[path[0]] = i
		}
		for codecName, codec := range map[string]compress.Codec{"none": &parquet.Uncompressed, "snappy": &parquet.Snappy, "gzip": &parquet.Gzip, "brotli": &parquet.Brotli, "zstd": &parquet.Zstd} {
			for version := 1; version <= 2; version++ {
				file := parquetOf(t, all, schema, parquet.Compression(codec), parquet.DataPageVersion(version), parquet.PageBufferSize(1999), parquet.MaxRowsPerRowGroup(347))
				got := cellsOf(t, file)
				require.Len(t, got, len(want), "%s %s %d", name, codecName, version)
				names := []string{"text", "maybe", "many", "truth", "small", "large", "real", "fine", "fixed"}
				for i := range want {
					at := i/len(names)*len(names) + order[names[i%len(names)]]
					require.Equal(t, want[i], got[at], "%s %s %d: row %d, %s", name, codecName, version, i/len(names), names[i%len(names)])
				}
			}
		}
	}
}

// compact writes the compact form of Thrift.
type compact struct{ b []byte }

func (c *compact) field(delta, kind byte) *compact { c.b = append(c.b, delta<<4|kind); return c }
func (c *compact) int(v int64) *compact            { c.b = binary.AppendVarint(c.b, v); return c }
func (c *compact) uint(v uint64) *compact          { c.b = binary.AppendUvarint(c.b, v); return c }
func (c *compact) list(kind byte, n int) *compact {
	c.b = append(c.b, 0xf0|kind)
	return c.uint(uint64(n))
}
func (c *compact) text(s string) *compact { c.uint(uint64(len(s))); c.b = append(c.b, s...); return c }
func (c *compact) raw(b ...byte) *compact { c.b = append(c.b, b...); return c }
func (c *compact) stop() *compact         { return c.raw(0) }

// hostile is a file with a column "text" of a type and repetition, whose pages are given, and which says it has so many rows.
func hostile(kind, length, repeat, codec, rows int64, pages []byte) []byte {
	c := &compact{}
	c.field(1, thriftI32).int(1)
	c.field(1, thriftList).list(thriftStruct, 2)
	c.field(4, thriftBinary).text("root").field(1, thriftI32).int(1).stop()
	c.field(1, thriftI32).int(kind).field(1, thriftI32).int(length).field(1, thriftI32).int(repeat).field(1, thriftBinary).text("text").stop()
	c.field(1, thriftI64).int(rows)
	c.field(1, thriftList).list(thriftStruct, 1)
	c.field(1, thriftList).list(thriftStruct, 1)
	c.field(2, thriftI64).int(4)
	c.field(1, thriftStruct).field(1, thriftI32).int(kind).field(1, thriftList).list(thriftI32, 1).int(0).field(1, thriftList).list(thriftBinary, 1).text("text")
	c.field(1, thriftI32).int(codec).field(1, thriftI64).int(rows).field(1, thriftI64).int(int64(len(pages))).field(1, thriftI64).int(int64(len(pages))).field(2, thriftI64).int(4).stop().stop()
	c.field(1, thriftI64).int(int64(len(pages))).field(1, thriftI64).int(rows).stop().stop()
	return enclosed(pages, c.b)
}

func enclosed(pages, footer []byte) []byte {
	b := append([]byte("PAR1"), pages...)
	b = append(b, footer...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(footer))), "PAR1"...)
}

// pageOf is a page of the first form (kind 0), or a dictionary (kind 2).
func pageOf(kind, size, values, encoding int64, body []byte) []byte {
	c := &compact{}
	c.field(1, thriftI32).int(kind).field(1, thriftI32).int(size).field(1, thriftI32).int(int64(len(body)))
	c.field(byte(2+kind), thriftStruct).field(1, thriftI32).int(values).field(1, thriftI32).int(encoding).field(1, thriftI32).int(3).field(1, thriftI32).int(3).stop()
	return append(c.stop().b, body...)
}

// A small file is refused, or read, with little memory and at once, whatever it says of itself.
func TestHostileParquet(t *testing.T) {
	const most = 1<<31 - 1
	binaryUvarint := func(v ...uint64) (b []byte) {
		for _, x := range v {
			b = binary.AppendUvarint(b, x)
		}
		return b
	}
	level := func(b []byte) []byte { return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...) }
	zeros := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x98} // blocks of one byte that becomes 128 KiB
	for i := range 9999 {
		zeros = append(zeros, byte(2|i/9998), 0, 16, 0)
	}
	again := append([]byte{1}, append(binaryUvarint(400000<<1), 0)...)
	run := append(binaryUvarint(most<<1), 1)
	nested := bytes.Repeat([]byte{0x1c}, 1<<20)
	var truths []byte // lists of truth values in lists, of which each says that it is as long as can be
	for range 20 {
		truths = append(truths, 0xf9, 0xff, 0xff, 0xff, 0xff, 7)
	}
	groups := (&compact{}).field(2, thriftList).list(thriftStruct, 30001).field(4, thriftBinary).text("r").field(1, thriftI32).int(30000).stop()
	for range 30000 {
		groups.field(1, thriftI32).int(6).field(3, thriftBinary).text("c").stop()
	}
	groups.field(2, thriftList).list(thriftStruct, 30000)
	for range 30000 {
		groups.field(1, thriftList).list(thriftStruct, 1).field(3, thriftStruct).field(3, thriftList).list(thriftBinary, 1).text("name").field(6, thriftI64).int(4).stop().stop().stop()
	}
	deep := (&compact{}).field(2, thriftList).list(thriftStruct, 50000)
	for range 50000 {
		deep.field(4, thriftBinary).text("r").field(1, thriftI32).int(1).stop()
	}
	wide := (&compact{}).field(2, thriftList).list(thriftStruct, 30002).field(4, thriftBinary).text("r").field(1, thriftI32).int(1).stop()
	wide.field(4, thriftBinary).text(string(bytes.Repeat([]byte("n"), 30000))).field(1, thriftI32).int(30000).stop()
	for range 30000 {
		wide.field(1, thriftI32).int(6).field(3, thriftBinary).text("c").stop()
	}
	nulls := hostile(int64(parquet.ByteArray), 0, 1, 0, most, bytes.Repeat(pageOf(0, 10, most, 0, level(append(binaryUvarint(most<<1), 0))), 3))
	for name, c := range map[string][]byte{
		"list longer than the file":    enclosed(nil, (&compact{}).field(2, thriftList).list(thriftStruct, most).b),
		"unknown lists of truths":      enclosed(nil, append([]byte{0xf9}, truths...)),
		"deep structure":               enclosed(nil, nested),
		"columns times groups":         enclosed(nil, groups.stop().b),
		"deep schema":                  enclosed(nil, deep.stop().b),
		"long names":                   enclosed(nil, wide.stop().b),
		"page of 2 GiB":                hostile(int64(parquet.ByteArray), 0, 0, 6, 1, pageOf(0, most, 1, 0, []byte("x"))),
		"page of 2 GiB, gzip":          hostile(int64(parquet.ByteArray), 0, 0, 2, 1, pageOf(0, most, 1, 0, gzipped(t, []byte("x")))),
		"page of 2 GiB, snappy":        hostile(int64(parquet.ByteArray), 0, 0, 1, 1, pageOf(0, most, 1, 0, binaryUvarint(most))),
		"zeros in gzip":                hostile(int64(parquet.ByteArray), 0, 0, 2, most, pageOf(0, 60<<20, 15<<20, 0, gzipped(t, make([]byte, 60<<20)))),
		"dictionary of 2^31":           hostile(int64(parquet.ByteArray), 0, 0, 0, 1, pageOf(2, 4, most, 0, make([]byte, 4))),
		"dictionary of nothing":        hostile(int64(parquet.FixedLenByteArray), 0, 0, 0, most, pageOf(2, 0, 1<<19, 0, nil)),
		"rows of nulls":                nulls,
		"one row of all":               hostile(int64(parquet.ByteArray), 0, 2, 0, 1, pageOf(0, 20, most, 0, append(level(append(binaryUvarint(most<<1), 1)), level(run)...))),
		"values of a dictionary again": hostile(int64(parquet.ByteArray), 0, 0, 0, 400000, append(pageOf(2, 4100, 1, 0, level(make([]byte, 4096))), pageOf(0, int64(len(again)), 400000, 8, again)...)),
		"differences of 2^31":          hostile(int64(parquet.ByteArray), 0, 0, 0, 1, pageOf(0, 12, 1, 6, append(binaryUvarint(1<<16, 1, most, 0), 0, 0))),
		"minis of no width":            hostile(int64(parquet.Int64), 0, 0, 0, most, pageOf(0, 11, most, 5, append(binaryUvarint(1<<16, 1, most, 0), 0, 0))),
		"empty pages":                  hostile(int64(parquet.ByteArray), 0, 0, 0, most, bytes.Repeat(pageOf(0, 0, 0, 0, nil), 3000)),
		"packed without end":           hostile(int64(parquet.Boolean), 0, 0, 0, most, pageOf(0, 9, 700000, 3, level(binaryUvarint(most<<1|1)))),
		"lz4":                          hostile(int64(parquet.ByteArray), 0, 0, 7, 1, pageOf(0, 5, 1, 0, nil)),
		"zeros in zstd":                hostile(int64(parquet.ByteArray), 0, 0, 6, most, pageOf(0, 16<<20, 1, 0, zeros)),
		"fixed values of 2^31 bytes":   hostile(int64(parquet.FixedLenByteArray), most, 0, 0, 1, pageOf(0, 1, 700000, 0, []byte("x"))),
		"pages of the second form":     hostile(int64(parquet.ByteArray), 0, 1, 0, 9, []byte{0x15, 6, 0x15, 20, 0x15, 20, 0x5c, 0x15, 18, 0x15, 0, 0x15, 18, 0x15, 0, 0x15, 20, 0x15, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0}),
		"negative sizes":               hostile(int64(parquet.ByteArray), 0, 0, 0, 1, pageOf(0, -1, -1, 0, []byte("x"))),
		"negative rows":                hostile(int64(parquet.ByteArray), 0, 0, 0, -1, pageOf(0, 5, 1, 0, level([]byte("x")))),
	} {
		path := filepath.Join(t.TempDir(), "a.parquet")
		require.NoError(t, os.WriteFile(path, c, 0o600))
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begin := time.Now()
		_, err := LoadWhole(Config{Path: path})
		took := time.Since(begin)
		runtime.ReadMemStats(&after)
		t.Logf("%-30s %8d bytes: %6.1f MiB, %4d ms: %v", name, len(c), float64(after.TotalAlloc-before.TotalAlloc)/(1<<20), took.Milliseconds(), err)
		own := (*Error)(nil)
		require.ErrorAs(t, err, &own, name)
		require.NotContains(t, err.Error(), "\n", name)
		require.Less(t, len(err.Error()), 2000, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "%s: all that was ever asked for", name)
	}
}
