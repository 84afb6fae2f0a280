package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var drawing = regexp.MustCompile(`(?m)^\./euryale pattern '([^']+)' --length (\d+) --out docs/(img/\S+\.svg)$`)

// Every picture of docs/patterns.md is what the command above it draws, and every atom of the language has one.
func TestPicturesOfPatterns(t *testing.T) {
	docs, err := filepath.Abs("../../docs")
	require.NoError(t, err)
	page, err := os.ReadFile(filepath.Join(docs, "patterns.md"))
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	drawn := map[string]bool{}
	for _, m := range drawing.FindAllStringSubmatch(string(page), -1) {
		euryale(t, "pattern", m[1], "--length", m[2], "--out", "p.svg").ok(t)
		got, err := os.ReadFile("p.svg")
		require.NoError(t, err)
		want, err := os.ReadFile(filepath.Join(docs, m[3]))
		require.NoError(t, err)
		require.True(t, bytes.Equal(got, want), "%s is not what its command draws", m[3])
		require.Contains(t, string(page), "!["+m[1]+"]("+m[3]+")")
		for _, word := range regexp.MustCompile(`[a-z][a-z0-9-]*`).FindAllString(m[1], -1) {
			drawn[word] = true
		}
	}
	usage := euryale(t, "pattern", "none").stderr // names all there are
	names := regexp.MustCompile(`there are (.*)`).FindStringSubmatch(usage)
	require.NotNil(t, names, usage)
	for _, name := range regexp.MustCompile(`[a-z][a-z0-9-]*`).FindAllString(names[1], -1) {
		require.True(t, drawn[name], "%s has no picture", name)
	}
	pictures, err := filepath.Glob(filepath.Join(docs, "img", "pattern-*.svg"))
	require.NoError(t, err)
	require.Len(t, pictures, len(drawing.FindAllString(string(page), -1)))
}

// The comparison of layers in docs/patterns.md is what the command prints.
func TestTableOfLayers(t *testing.T) {
	page, err := os.ReadFile("../../docs/patterns.md")
	require.NoError(t, err)
	printed := euryale(t, "pattern", "--table")
	printed.ok(t)
	for line := range strings.Lines(printed.stdout) {
		require.Contains(t, string(page), strings.TrimRight(line, " \n")+"\n")
	}
	require.Contains(t, printed.stdout, "recurrent")
	rows := euryale(t, "pattern", "--table", "--json")
	rows.ok(t)
	require.Contains(t, rows.stdout, `"layer":"self-attention","complexity":"T^2 D"`)
	require.Contains(t, euryale(t, "pattern", "--table", "full").stderr, "pattern wants no pattern with --table")
}
