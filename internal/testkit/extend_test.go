package testkit

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The pattern of docs/extend.md compiles as it stands there, costs less than 60 lines and one line in the registry, and passes what every
// pattern has to pass.
func TestExtend(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	page, err := os.ReadFile(filepath.Join(root, "docs", "extend.md"))
	require.NoError(t, err)
	code := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	require.Len(t, code, 3)
	file, line, table := code[0][1], code[1][1], code[2][1]
	require.Less(t, strings.Count(file, "\n"), 60)
	require.Equal(t, 1, strings.Count(line, "\n"))
	require.Equal(t, 1, strings.Count(table, "\n"))

	dir := t.TempDir()
	attention := filepath.Join(root, "layers", "attention")
	overlay := map[string]string{}
	put := func(name, text string) {
		at := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(at, []byte(text), 0o600))
		overlay[filepath.Join(attention, name)] = at
	}
	insert := func(name, before, text string) {
		old, err := os.ReadFile(filepath.Join(attention, name))
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(old), before), "%s: %q", name, before)
		put(name, strings.Replace(string(old), before, text+before, 1))
	}
	put("echo.go", file)
	insert("language.go", "\t\"strided\":", line)
	insert("conformance_test.go", "\t\"strided\":", table)
	put("echo_extend_test.go", `package attention

import "testing"

func TestEcho(t *testing.T) {
	p, err := Parse("echo(2)")
	if err != nil {
		t.Fatal(err)
	}
	for n := range 71 {
		var total int64
		for i := range n {
			keys := Keys(p, 0, i, n)
			total += int64(len(keys))
			for _, j := range keys {
				if !p.Sees(0, i, j, n) {
					t.Fatalf("%d does not see %d of %d", i, j, n)
				}
			}
		}
		if total != p.NNZ(0, n) {
			t.Fatalf("%d pairs of %d, NNZ says %d", total, n, p.NNZ(0, n))
		}
	}
	if s := Measure(p, 64); s.MaxPath == nil || *s.MaxPath > 6 {
		t.Fatalf("paths of %v", s)
	}
}
`)
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	require.NoError(t, err)
	at := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(at, list, 0o600))
	command := exec.Command("go", "test", "-overlay", at, "-run", "TestEcho|TestConformanceOf(Sets|Kernels|Reading)", "./layers/attention")
	command.Dir = root
	out, err := command.CombinedOutput()
	require.NoError(t, err, string(out))
}
