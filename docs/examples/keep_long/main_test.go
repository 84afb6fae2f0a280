package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/docs/examples/small"
)

// Of documents of 1 to 20 words the long ones are kept, in their order, as many of each class in each part.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, small.WriteBERT(at("bert")))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for i := range 40 {
		fmt.Fprintf(z, `{"label": %q, "text": "%d%s"}`+"\n", []string{"b", "a"}[i%2], i%10, strings.Repeat(" c", i/2))
	}
	require.NoError(t, z.Close())
	require.NoError(t, os.WriteFile(at("data.jsonl.gz"), packed.Bytes(), 0o600))

	var out bytes.Buffer
	o := options{data: at("data.jsonl.gz"), tokenizer: at("bert"), to: at("long.jsonl"), min: 11, train: 6, val: 2, test: 4}
	require.NoError(t, run(o, &out))
	require.Equal(t, "20 documents of at least 11 tokens, 16 in the mean\n", out.String())

	text, err := os.ReadFile(at("long.jsonl"))
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	require.Len(t, lines, 12)
	for i, line := range lines {
		var d document
		require.NoError(t, json.Unmarshal([]byte(line), &d))
		require.Equal(t, []string{"a", "b"}[i%2], d.Label)
		require.Equal(t, []string{"train", "val", "test"}[min(2, max(0, i/2-2))], d.Split, line)
		require.Equal(t, 10+i/2, strings.Count(d.Text, " c"), "in their order")
	}

	o.test = 14
	require.ErrorContains(t, run(o, &out), "too few documents of class")
	o.min = 30
	require.ErrorContains(t, run(o, &out), "no document has 30 tokens")
	o.tokenizer = dir
	require.ErrorContains(t, run(o, &out), "has no tokenizer")
}
