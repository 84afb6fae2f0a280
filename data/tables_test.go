package data

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
)

// tableRow is a row of a table in the tests.
type tableRow struct {
	ID    int32   `parquet:"id"`
	Text  string  `parquet:"text,snappy"`
	Label int64   `parquet:"label"`
	Split *string `parquet:"split,optional"`
}

func rows(n int) (all []tableRow) {
	for i := range n {
		part := PartNames[i%3]
		all = append(all, tableRow{int32(i), fmt.Sprintf("Line %d, \"so\"\nand ä", i), int64(i % 2), &part})
	}
	return all
}

func parquetOf[T any](t testing.TB, all []T, options ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, parquet.Write(&b, all, options...))
	return b.Bytes()
}

// A csv and a parquet file give the documents that a jsonl file of the same content gives.
func TestTablesAgree(t *testing.T) {
	dir, all := t.TempDir(), rows(61)
	var lines, table, plain bytes.Buffer
	lines.WriteString("\ufeff")
	table.WriteString("\ufeffid,text,label,split\n")
	for _, r := range all {
		fmt.Fprintf(&lines, "{\"id\":%d,\"text\":%q,\"label\":%d,\"split\":%q}\n", r.ID, r.Text, r.Label, *r.Split)
		fmt.Fprintf(&table, "%d,\"Line %d, \"\"so\"\"\nand ä\",%d,%s\n", r.ID, r.ID, r.Label, *r.Split)
		fmt.Fprintf(&plain, "%d,\"Line %d, \"\"so\"\"\nand ä\",%d\r\n", r.ID, r.ID, r.Label)
	}
	for _, objective := range []string{"causal_lm", "sequence_classification"} {
		want, err := Load(Config{Path: write(t, dir, "a.jsonl", lines.Bytes()), Objective: objective})
		require.NoError(t, err)
		require.Equal(t, 21, want.Train.Documents())
		for _, path := range []string{write(t, dir, "a.csv", table.Bytes()), write(t, dir, "b.csv.gz", gzipped(t, table.Bytes())), write(t, dir, "a.parquet", parquetOf(t, all)),
			write(t, dir, "b.parquet", parquetOf(t, all, parquet.MaxRowsPerRowGroup(7), parquet.PageBufferSize(256)))} {
			got, err := Load(Config{Path: path, Objective: objective})
			require.NoError(t, err, path)
			require.Equal(t, want.Digest, got.Digest, path)
			require.Equal(t, want.Classes, got.Classes)
		}
	}
	part, err := LoadWhole(Config{Path: write(t, dir, "c.csv", plain.Bytes()), TextField: "2"})
	require.NoError(t, err)
	require.Equal(t, 61, part.Documents())
	require.Equal(t, all[60].Text, Bytes{}.Decode(part.Document(60)), "columns by number, without names")
}

func TestBrokenTables(t *testing.T) {
	dir := t.TempDir()
	good := parquetOf(t, rows(61))
	middle := bytes.Clone(good)
	for i := 20; i < len(good)/2; i++ {
		middle[i] ^= 0x5a
	}
	for name, c := range map[string]struct {
		file  string
		text  []byte
		kind  error
		parts []string
	}{
		"ragged":         {"a.csv", []byte("text,label\none,1\ntwo\n"), ErrTorn, []string{"a.csv:3", "number of fields"}},
		"too wide":       {"a.csv", []byte("text,label\none,1,2\n"), ErrTorn, []string{"a.csv:2"}},
		"open quote":     {"a.csv", []byte("text,label\n\"one,1\ntwo,2\n"), ErrTorn, []string{"a.csv:2"}},
		"quote within":   {"a.csv", []byte("text\non\"e\n"), ErrTorn, []string{"a.csv:2", "quotes"}},
		"column":         {"a.csv", []byte("body,label\none,1\n"), ErrFormat, []string{`"text"`, "body, label", "data.text_field"}},
		"nul":            {"a.csv", []byte("text\no\x00ne\n"), ErrBinary, []string{"a.csv:2"}},
		"header only":    {"a.csv", []byte("text\n"), ErrEmpty, nil},
		"no file":        {"a.csv.gz", gzipped(t, nil), ErrEmpty, nil},
		"torn gzip":      {"a.csv.gz", gzipped(t, bytes.Repeat([]byte("text\n"), 999))[:30], ErrTorn, nil},
		"cut":            {"a.parquet", good[:len(good)/2], ErrTorn, []string{"a.parquet"}},
		"cut at the end": {"a.parquet", good[:len(good)-1], ErrTorn, nil},
		"pages":          {"a.parquet", middle, ErrTorn, nil},
		"not parquet":    {"a.parquet", []byte("text\nthat is none, and long enough to be one"), ErrTorn, nil},
		"empty":          {"a.parquet", nil, ErrEmpty, nil},
		"no rows":        {"a.parquet", parquetOf(t, rows(0)), ErrEmpty, nil},
		"no column":      {"a.parquet", parquetOf(t, []struct{ Body string }{{"x"}}), ErrFormat, []string{`"text"`, "Body", "data.text_field"}},
	} {
		path := filepath.Join(dir, name, c.file)
		write(t, filepath.Dir(path), c.file, c.text)
		_, err := LoadWhole(Config{Path: path, TextField: "text"})
		require.ErrorIs(t, err, c.kind, name)
		require.NotContains(t, err.Error(), "\n", name)
		for _, part := range c.parts {
			require.Contains(t, err.Error(), part, name)
		}
	}

	old := maxBytes
	defer func() { maxBytes = old }()
	maxBytes = 99
	_, err := LoadWhole(Config{Path: write(t, dir, "large.parquet", good)})
	require.ErrorIs(t, err, ErrTooLarge)
}

// A file with any one byte changed is refused in one line or read, and no number in it is worth much memory.
func TestChangedParquet(t *testing.T) {
	good := parquetOf(t, rows(5))
	path := filepath.Join(t.TempDir(), "a.parquet")
	var m runtime.MemStats
	for i := range good {
		for _, change := range []byte{1, 0x80, 0xff} {
			b := bytes.Clone(good)
			b[i] ^= change
			require.NoError(t, os.WriteFile(path, b, 0o600))
			runtime.ReadMemStats(&m)
			before := m.TotalAlloc
			if _, err := LoadWhole(Config{Path: path}); err != nil {
				own := (*Error)(nil)
				require.ErrorAs(t, err, &own)
				require.NotContains(t, err.Error(), "\n")
			}
			runtime.ReadMemStats(&m)
			require.Less(t, m.TotalAlloc-before, uint64(64<<20), "byte %d", i)
		}
	}
}

// FuzzParquet: whatever the file holds, it is refused in one line or gives documents.
func FuzzParquet(f *testing.F) {
	f.Add(parquetOf(f, rows(5)))
	f.Add(parquetOf(f, rows(5), parquet.DataPageVersion(1), parquet.Compression(&parquet.Gzip)))
	type texts struct {
		Text []string `parquet:"text,list,zstd"`
		N    int64    `parquet:"n,delta"`
	}
	f.Add(parquetOf(f, []texts{{[]string{"a", "b"}, 1}, {nil, 2}, {[]string{"abc"}, 7}}))
	f.Add(hostile(int64(parquet.ByteArray), 0, 1, 0, 9, pageOf(0, 10, 9, 0, []byte{2, 0, 0, 0, 18, 0})))
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "a.parquet")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		p, err := LoadWhole(Config{Path: path})
		if err != nil {
			own := (*Error)(nil)
			require.True(t, errors.As(err, &own))
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.Positive(t, p.Documents())
	})
}
