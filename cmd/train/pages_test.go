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

var (
	commandLine = regexp.MustCompile(`(?m)^\s*(?:\$ )?(?:[A-Z_]+=\S+ )?(?:\./euryale|go run \./cmd/train) (\S.*)$`)
	shellWord   = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`)
	quoted      = regexp.MustCompile(`'([^']*)'|"([^"]*)"`)
)

// TestCommandsOfPages: the commands of the documentation exist, with their flags and as many arguments, and so do the recipes that they name.
func TestCommandsOfPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	used := map[string]bool{}
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, line := range commandLine.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\\\n", " "), -1) {
			var words []string
			for _, word := range shellWord.FindAllString(line[1], -1) {
				if word == "#" || word == "|" || word == ">" {
					break
				}
				words = append(words, quoted.ReplaceAllString(word, "$1$2"))
			}
			if len(words) == 0 {
				continue // the program alone
			}
			c, rest, err := newRoot(&app{out: &output{}}).Find(words)
			require.NoError(t, err, "%s: %s", page, line[0])
			require.NoError(t, c.ParseFlags(rest), "%s: %s", page, line[0])
			require.NoError(t, c.ValidateArgs(c.Flags().Args()), "%s: %s", page, line[0])
			used[c.Name()] = true
			name := ""
			if f := c.Flags().Lookup("recipe"); f != nil {
				name = f.Value.String()
			} else if c.Name() == "recipes" {
				name = c.Flags().Arg(0)
			}
			if name != "" {
				_, err := findRecipe(name)
				require.NoError(t, err, "%s: %s", page, line[0])
			}
		}
	}
	for _, c := range newRoot(&app{out: &output{}}).Commands() {
		require.True(t, used[c.Name()], "no page has an example of %s", c.Name())
	}
}

// TestPicturesOfPages: the pictures of patterns on the pages of the systems are what the commands above them draw.
func TestPicturesOfPages(t *testing.T) {
	docs, err := filepath.Abs("../../docs")
	require.NoError(t, err)
	pages, err := filepath.Glob(filepath.Join(docs, "*.md"))
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	drawn := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range drawing.FindAllStringSubmatch(string(text), -1) {
			if filepath.Base(page) == "patterns.md" {
				continue // TestPicturesOfPatterns
			}
			euryale(t, "pattern", m[1], "--length", m[2], "--out", "p.svg").ok(t)
			got, err := os.ReadFile("p.svg")
			require.NoError(t, err)
			want, err := os.ReadFile(filepath.Join(docs, m[3]))
			require.NoError(t, err)
			require.True(t, bytes.Equal(got, want), "%s is not what its command draws", m[3])
			require.Contains(t, string(text), "!["+m[1]+"]("+m[3]+")")
			drawn++
		}
	}
	require.Greater(t, drawn, 7)
}
