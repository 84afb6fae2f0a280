package testkit

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLinksOfPages: what the pages link to exists, headings included, and so does every test and every file of Go that they name.
func TestLinksOfPages(t *testing.T) {
	all := pages(t)
	code := map[string]bool{} // names of files, and of tests
	root := filepath.Join("..", "..")
	for _, pattern := range []string{"*/*.go", "*/*/*.go", "*/*/*/*.go"} {
		paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		require.NoError(t, err)
		for _, path := range paths {
			code[filepath.Base(path)] = true
			if strings.HasSuffix(path, "_test.go") {
				text, err := os.ReadFile(path)
				require.NoError(t, err)
				for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)\w+)\(`).FindAllStringSubmatch(string(text), -1) {
					code[m[1]] = true
				}
			}
		}
	}
	code["echo.go"] = true // what docs/extend.md makes up
	anchors := map[string]map[string]bool{}
	for page, text := range all {
		anchors[page] = map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
			anchors[page][strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9_ -]`).ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
		}
		for _, m := range regexp.MustCompile(`<a id="([^"]+)">`).FindAllStringSubmatch(text, -1) {
			anchors[page][m[1]] = true
		}
	}
	links := 0
	for page, text := range all {
		folder := filepath.Join(root, "docs")
		if page == "README.md" {
			folder = root
		}
		for _, m := range regexp.MustCompile(`\]\(([^()]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(m[1], "http") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			if path != "" {
				_, err := os.Stat(filepath.Join(folder, filepath.FromSlash(path)))
				require.NoError(t, err, "%s links to %s", page, m[1])
			} else {
				path = page
			}
			if anchor != "" {
				require.True(t, anchors[filepath.Base(path)][anchor], "%s links to %s, which has no such heading", page, m[1])
			}
			links++
		}
		for _, m := range regexp.MustCompile("`(?:[\\w./]*/)?(\\w+\\.go|(?:Test|Benchmark)[A-Z]\\w+)`").FindAllStringSubmatch(text, -1) {
			require.True(t, code[m[1]], "%s names %s, which does not exist", page, m[0])
		}
	}
	require.Greater(t, links, 100)
	cases := regexp.MustCompile("(?m)^\\| \\[[^|]*\\|[^|]*\\|[^|]*\\|[^|]*\\| (`[^|]*`) \\|$").FindAllStringSubmatch(all["design.md"], -1)
	require.NotEmpty(t, cases)
	for _, m := range cases {
		for _, name := range strings.Split(strings.ReplaceAll(m[1], "`", ""), ", ") {
			require.DirExists(t, filepath.Join(root, "testdata", "golden", name), "docs/design.md names recorded cases")
		}
	}
}

// TestDependenciesHaveReasons: docs/design.md has every module that go.mod asks for itself, at its version.
func TestDependenciesHaveReasons(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	require.NoError(t, err)
	design := pages(t)["design.md"]
	direct := regexp.MustCompile(`(?m)^\t(\S+) (v\S+)$`).FindAllStringSubmatch(string(mod), -1)
	require.Greater(t, len(direct), 10)
	for _, m := range direct {
		row := regexp.MustCompile(`(?m)^\|.*` + regexp.QuoteMeta(m[1]) + `[ ,].*$`).FindString(design)
		require.Contains(t, row, m[2], "docs/design.md, %s", m[1])
	}
}
