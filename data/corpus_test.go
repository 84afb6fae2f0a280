package data

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// write makes a file below a temporary folder and returns its path.
func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, content, 0o644))
	return path
}

func gzipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(content)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}

// hello is "hello bzip2\n" 40 times, packed by bzip2.
const hello = "425a683931415926535910eeb2eb000077d9800010400010001264c0102000508069a680a55068d3d4e44d89f09d89e89a1304d8981304c13f17724538509010eeb2eb"

func prose(paragraphs int) []byte {
	var b bytes.Buffer
	for i := range paragraphs {
		fmt.Fprintf(&b, "Paragraph %d says that %d is a number.\nIt has a second line.\n\n", i, i*i)
	}
	return b.Bytes()
}

func TestEmbeddedCorpus(t *testing.T) {
	sum := sha256.Sum256(embedded)
	require.Equal(t, "ca37e7bdc0260f024f4042c6f304adaa93e6a306347117f883db1d704e256b70", hex.EncodeToString(sum[:]), "the file that LICENSE.md speaks of")
	c, err := Load(Config{})
	require.NoError(t, err)
	require.Equal(t, []int64{1085361, 59879, 59757}, []int64{c.Train.Bytes(), c.Val.Bytes(), c.Test.Bytes()})
	require.Equal(t, 1, c.Train.Documents())
	require.Equal(t, 1.0, c.Test.BytesPerToken())
	require.True(t, strings.HasPrefix(c.Tokenizer.Decode(c.Train.Document(0)[:22]), "CHAPTER 1. Loomings.\n\n"))
	require.True(t, strings.HasSuffix(c.Tokenizer.Decode(c.Train.Document(0)), "\n\n"), "cut at a blank line")
	require.True(t, strings.HasSuffix(c.Tokenizer.Decode(c.Val.Document(0)), "\n\n"))

	again, err := Load(Config{Path: EmbeddedName, Tokenizer: "bytes"})
	require.NoError(t, err)
	require.Equal(t, c.Digest, again.Digest)
	for _, name := range PartNames {
		p, ok := c.Part(name)
		require.True(t, ok)
		require.Equal(t, name, p.Name)
	}
	_, ok := c.Part("all")
	require.False(t, ok)
}

func TestSourcesAgree(t *testing.T) {
	dir, text := t.TempDir(), prose(97)
	plain, err := Load(Config{Path: write(t, dir, "a.txt", text)})
	require.NoError(t, err)
	packed, err := Load(Config{Path: write(t, dir, "a.md.gz", gzipped(t, text))})
	require.NoError(t, err)
	require.Equal(t, plain.Digest, packed.Digest)

	whole, err := LoadWhole(Config{Path: filepath.Join(dir, "a.txt")})
	require.NoError(t, err)
	require.Equal(t, "all", whole.Name)
	require.Equal(t, int64(len(text)), whole.Bytes())
	require.Equal(t, string(text), plain.Tokenizer.Decode(whole.Document(0)))

	line, err := Load(Config{Path: write(t, dir, "a.jsonl", fmt.Appendf(nil, "{\"body\":%q,\"id\":7}\n\n", text)), TextField: "body"})
	require.NoError(t, err)
	require.Equal(t, plain.Digest, line.Digest)

	text[31]++
	other, err := Load(Config{Path: write(t, dir, "b.txt", text)})
	require.NoError(t, err)
	require.NotEqual(t, plain.Digest, other.Digest)
}

func TestBzip2(t *testing.T) {
	packed, err := hex.DecodeString(hello)
	require.NoError(t, err)
	p, err := LoadWhole(Config{Path: write(t, t.TempDir(), "h.txt.bz2", packed)})
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("hello bzip2\n", 40), Bytes{}.Decode(p.Document(0)))
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for i := range 23 {
		write(t, dir, fmt.Sprintf("sub%d/%03d.txt", i%3, i), fmt.Appendf(nil, "document %02d", i))
	}
	write(t, dir, "sub0/ignored.png", []byte{0, 1})
	write(t, dir, "sub0/empty.txt", nil)
	c, err := Load(Config{Path: dir})
	require.NoError(t, err)
	// Order of paths: sub0 holds 0, 3, ... 21 (8 files), sub1 1, 4, ... 22 (8), sub2 2, 5, ... 20 (7).
	require.Equal(t, []int{21, 1, 1}, []int{c.Train.Documents(), c.Val.Documents(), c.Test.Documents()})
	require.Equal(t, "document 04", c.Tokenizer.Decode(c.Val.Document(0)), "index 9")
	require.Equal(t, "document 11", c.Tokenizer.Decode(c.Test.Document(0)), "index 19")
}

func TestFewDocumentsAreCut(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.txt", prose(50))
	write(t, dir, "b.txt", prose(71))
	c, err := Load(Config{Path: dir})
	require.NoError(t, err)
	for _, p := range []*Part{c.Train, c.Val, c.Test} {
		require.Equal(t, 2, p.Documents())
	}
	require.Equal(t, int64(len(prose(50))+len(prose(71))), c.Train.Bytes()+c.Val.Bytes()+c.Test.Bytes())
}

func TestJSONLSplit(t *testing.T) {
	var b bytes.Buffer
	for i := range 31 {
		fmt.Fprintf(&b, "{\"text\":\"speech %02d\",\"split\":%q}\n", i, PartNames[i%3])
	}
	own := b.String()
	c, err := Load(Config{Path: write(t, t.TempDir(), "own.jsonl", []byte(own))})
	require.NoError(t, err)
	require.Equal(t, []int{11, 10, 10}, []int{c.Train.Documents(), c.Val.Documents(), c.Test.Documents()})
	require.Equal(t, "speech 04", c.Tokenizer.Decode(c.Val.Document(1)))

	half := strings.Replace(own, `"split":"val"`, `"split":"dev"`, 1)
	c, err = Load(Config{Path: write(t, t.TempDir(), "half.jsonl", []byte(half))})
	require.NoError(t, err)
	require.Equal(t, []int{28, 2, 1}, []int{c.Train.Documents(), c.Val.Documents(), c.Test.Documents()}, "one line does not say its part")
}

func TestCut(t *testing.T) {
	long := strings.Repeat("x", 400)
	for _, c := range []struct {
		name, text string
		at, want   int
	}{
		{"blank line", long[:203] + "\n\n" + long, 200, 205},
		{"blank line of Windows", long[:203] + "\r\n\r\n" + long, 200, 207},
		{"first of both", long[:203] + "\n\nab\n\r\nc" + long, 200, 205},
		{"line", long[:203] + "\n" + long, 200, 204},
		{"blank line too far", long[:203] + "\n" + long[:200] + "\n\n", 200, 204},
		{"nothing", long, 200, 200},
		{"within a character", long[:199] + "日本" + long, 200, 202},
	} {
		require.Equal(t, c.want, cut([]byte(c.text), c.at), c.name)
	}
}

func TestBadData(t *testing.T) {
	dir, text := t.TempDir(), prose(97)
	packed := gzipped(t, text)
	flipped := bytes.Clone(packed)
	flipped[len(flipped)/2] ^= 16
	sealed := write(t, dir, "sealed.txt", text)
	require.NoError(t, os.Chmod(sealed, 0))
	latin := bytes.Repeat([]byte{'c', 'a', 'f', 0xe9, ' ', 'n', 'o', 'i', 'r', ' ', 'e', 't', ' '}, 40)
	for _, c := range []struct {
		name    string
		path    string
		content []byte
		kind    error
		want    []string // parts of the message
	}{
		{"missing", filepath.Join(dir, "nowhere.txt"), nil, ErrMissing, []string{"nowhere.txt", "no such file", "check the path"}},
		{"empty", "empty.txt", []byte{}, ErrEmpty, []string{"empty.txt", "is empty"}},
		{"empty gzip", "empty.txt.gz", []byte{}, ErrEmpty, []string{"empty.txt.gz"}},
		{"nothing in gzip", "nothing.txt.gz", gzipped(t, nil), ErrEmpty, []string{"is empty"}},
		{"tiny", "tiny.txt", []byte("hello there"), ErrTooShort, []string{"tiny.txt", "val part"}},
		{"NUL", "nul.txt", append(bytes.Clone(text), 0), ErrBinary, []string{fmt.Sprintf("byte %d is 0", len(text))}},
		{"not UTF-8", "random.txt", bytes.Repeat([]byte{0xff, 0xfe, 'a'}, 100), ErrBinary, []string{"66 %"}},
		{"latin 1 passes", "latin.txt", latin, nil, nil},
		{"extension", "table.feather", text, ErrFormat, []string{`".feather"`, ".jsonl"}},
		{"not gzip", "plain.txt.gz", text, ErrTorn, []string{"plain.txt.gz", "damaged gz"}},
		{"truncated gzip", "torn.txt.gz", packed[:len(packed)-9], ErrTorn, []string{"damaged gz"}},
		{"flipped bit in gzip", "flipped.txt.gz", flipped, ErrTorn, []string{"damaged gz"}},
		{"not bzip2", "plain.txt.bz2", text, ErrTorn, []string{"damaged bz2"}},
		{"torn jsonl", "torn.jsonl", []byte("{\"text\":\"a\"}\n\n{\"text\":\"b"), ErrTorn, []string{"torn.jsonl:3: ", "column"}},
		{"torn gzipped jsonl", "torn.jsonl.gz", gzipped(t, text)[:60], ErrTorn, []string{"damaged gz"}},
		{"jsonl of numbers", "n.jsonl", []byte("3\n"), ErrTorn, []string{"n.jsonl:1: ", "not a JSON object"}},
		{"jsonl with null", "null.jsonl", []byte("null\n"), ErrTorn, []string{"not a JSON object"}},
		{"jsonl without field", "f.jsonl", []byte("{\"body\":\"a\",\"and\":1}\n"), ErrFormat, []string{"f.jsonl:1", `"text"`, "and, body", "data.text_field"}},
		{"jsonl with a number", "i.jsonl", []byte("{\"text\":1}\n"), ErrFormat, []string{"not a string"}},
		{"jsonl with NUL", "z.jsonl", []byte("{\"text\":\"\x00\"}\n"), ErrBinary, []string{"z.jsonl:1"}},
		{"jsonl without documents", "e.jsonl", []byte("\n{\"text\":\"\"}\n"), ErrEmpty, []string{"no document"}},
	} {
		path := c.path
		if c.content != nil {
			path = write(t, dir, c.path, c.content)
		}
		_, err := Load(Config{Path: path})
		requireError(t, err, c.kind, c.name, c.want...)
	}
	_, err := Load(Config{Path: t.TempDir()})
	requireError(t, err, ErrEmpty, "empty folder", "no .txt file")
	only := t.TempDir()
	write(t, only, "a.txt", nil)
	_, err = Load(Config{Path: only})
	requireError(t, err, ErrEmpty, "folder of empty files", "all 1 .txt files")
	_, err = Load(Config{}.Spec("task:parities"))
	requireError(t, err, ErrUnknownTask, "task", "task:parities", "the tasks are needle, copy")
	_, err = Load(Config{}.Spec("task:"))
	requireError(t, err, ErrUnknownTask, "task without name")
	_, err = Load(Config{Tokenizer: "bpe"})
	requireError(t, err, ErrTokenizer, "tokenizer", `"bpe"`, `"bytes"`)
	if os.Geteuid() != 0 {
		_, err = Load(Config{Path: sealed})
		requireError(t, err, ErrRead, "no permission", "sealed.txt", "permission")
	}
}

// TestTooLarge: what is beyond the bound is refused, not cut off; the files of a folder count together.
func TestTooLarge(t *testing.T) {
	defer func(n int64) { maxBytes = n }(maxBytes)
	text := prose(97)
	line := []byte("{\"text\":\"a word and another\"}\n")
	dir, folder := t.TempDir(), t.TempDir()
	write(t, folder, "a.txt", text)
	write(t, folder, "b.txt.gz", gzipped(t, text))
	for _, c := range []struct {
		path string
		size int
	}{
		{write(t, dir, "a.txt", text), len(text)},
		{write(t, dir, "a.txt.gz", gzipped(t, text)), len(text)},
		{write(t, dir, "a.jsonl", bytes.Repeat(line, 100)), 100 * len(line)},
		{write(t, dir, "a.jsonl.gz", gzipped(t, bytes.Repeat(line, 100))), 100 * len(line)},
		{folder, 2 * len(text)},
	} {
		maxBytes = int64(c.size)
		_, err := LoadWhole(Config{Path: c.path})
		require.NoError(t, err, c.path)
		for _, less := range []int{1, len(line)} { // a line less would still be valid jsonl
			maxBytes = int64(c.size - less)
			_, err = LoadWhole(Config{Path: c.path})
			requireError(t, err, ErrTooLarge, c.path, "more than")
		}
	}
}

// requireError checks the kind of an error and that its message is one line with the parts.
func requireError(t *testing.T, err, kind error, name string, parts ...string) {
	t.Helper()
	if kind == nil {
		require.NoError(t, err, name)
		return
	}
	require.ErrorIs(t, err, kind, name)
	var own *Error
	require.True(t, errors.As(err, &own), name)
	require.NotEmpty(t, own.Fix, "%s: what to do", name)
	require.NotContains(t, err.Error(), "\n", name)
	for _, part := range parts {
		require.Contains(t, err.Error(), part, name)
	}
}

func TestTokenizerBytes(t *testing.T) {
	tok, err := NewTokenizer("")
	require.NoError(t, err)
	require.Equal(t, "bytes", tok.Name())
	require.Equal(t, 256, tok.VocabSize())
	text := "naïve \x00\xff Ω"
	require.Equal(t, text, tok.Decode(tok.Encode(text)))
	require.Equal(t, []int32{0xce, 0xa9}, tok.Encode("Ω"))
	require.Equal(t, "ab", tok.Decode([]int32{'a', -1, 256, 'b'}))
}
