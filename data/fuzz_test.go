package data

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzTokenizer: whatever the file holds, it is refused in one line or gives a tokenizer that brings back any text.
func FuzzTokenizer(f *testing.F) {
	small, err := trainBPE(leastBPE+3, docsOf("the the theatre"))
	require.NoError(f, err)
	text := string(small.JSON())
	f.Add(text, "the")
	f.Add(strings.Replace(text, `"t h"`, `["t", "h"]`, 1), "the\xff")
	f.Add(strings.Replace(text, `: 262`, `: 1e3`, 1), "x")
	f.Add(`{"model":{"type":"BPE","vocab":{},"merges":[]}}`, "")
	f.Fuzz(func(t *testing.T, file, text string) {
		tok, err := parseTokenizer([]byte(file))
		if err != nil {
			require.NotContains(t, tokenizerError("x", err).Error(), "\n")
			return
		}
		require.Equal(t, text, tok.Decode(tok.Encode(text)))
		again, err := parseTokenizer(tok.JSON())
		require.NoError(t, err)
		require.Equal(t, tok.Encode(text), again.Encode(text))
	})
}

// FuzzImages: whatever a file of images holds, it is refused in one line or gives images of one size with levels that there are.
func FuzzImages(f *testing.F) {
	f.Add("a.csv", []byte("1,2,3,4,a\n0,0,0,16,b\n"))
	f.Add("a-idx3", idxOf([]uint32{2, 1, 2}, 1, 2, 3, 4))
	f.Add("a-idx4", idxOf([]uint32{1, 1, 1, 3}, 1, 2, 3))
	f.Add("a.png", []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00"))
	f.Add("a.jpg", []byte("\xff\xd8\xff\xc0\x00\x0b\x08\x00\x01\x00\x01\x01\x01\x11\x00"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		names := []string{"a.csv", "a-idx3", "a-idx4", "a.png", "a.jpg"}
		if !slices.Contains(names, name) {
			name = names[len(name)%len(names)]
		}
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		p, err := LoadWhole(Config{Path: path, Objective: density, ImageLevels: 5})
		if err != nil {
			own := (*Error)(nil)
			require.True(t, errors.As(err, &own))
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.Equal(t, p.Tokens(), p.Documents()*p.Length())
		for d := range p.Documents() {
			for _, level := range p.Document(d) {
				require.Less(t, level, int32(5))
			}
		}
	})
}

// FuzzLines: whatever a table or a jsonl file holds, it is refused in one line or gives documents with what was asked for.
func FuzzLines(f *testing.F) {
	f.Add("a\tb\nc\td\n", true)
	f.Add("text\ttarget\n1\t2", true)
	f.Add(`{"text":"a","target":"b","label":null}`+"\n"+`{"text":3}`, false)
	f.Add(`{"text":"a","target":"b","split":"val"}`, false)
	f.Fuzz(func(t *testing.T, content string, table bool) {
		name, c := "a.jsonl", Config{Objective: "seq2seq_lm"}
		if table {
			name = "a.tsv"
		}
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		src, err := readSource(path, c.fields())
		if err != nil {
			own := (*Error)(nil)
			require.True(t, errors.As(err, &own))
			require.NotContains(t, err.Error(), "\n")
			return
		}
		for _, doc := range src.docs {
			require.NotEmpty(t, doc.text)
			require.NotEmpty(t, doc.target)
		}
	})
}
