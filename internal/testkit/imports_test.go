package testkit

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/euryale-ml/euryale/"

// below lists what each folder may import of the module, in files that are not tests. A folder that is missing here may import
// nothing. Everything points down: from the program to training, models, layers, engine, kernels.
var below = map[string][]string{
	"internal/kernels":        {},
	"internal/config":         {},
	"internal/splitmix":       {},
	"internal/engine":         {"internal/kernels"},
	"layers":                  {"internal/engine", "internal/kernels", "internal/splitmix"},
	"layers/attention":        {"layers", "internal/engine", "internal/kernels", "internal/config", "internal/splitmix"},
	"checkpoints":             {},
	"data/tokenizers":         {},
	"data":                    {"data/tokenizers", "internal/config", "internal/splitmix"},
	"models":                  {"layers/attention", "layers", "internal/engine", "internal/kernels", "internal/config", "checkpoints"},
	"train/metrics":           {},
	"train/policy":            {"layers", "internal/engine", "internal/kernels", "internal/splitmix"},
	"train":                   {"train/metrics", "train/policy", "models", "layers", "layers/attention", "internal/engine", "internal/kernels", "internal/config", "internal/splitmix", "checkpoints", "data"},
	"internal/testkit":        {"internal/testkit/golden"},
	"internal/testkit/golden": {"models", "layers", "layers/attention", "internal/engine", "internal/kernels", "internal/config", "checkpoints"},
	"cmd/train": {"train", "models", "layers", "layers/attention", "internal/engine", "internal/kernels", "internal/config", "checkpoints",
		"data", "internal/testkit/golden"},
}

// TestImports holds the direction of imports.
func TestImports(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root {
			if name := d.Name(); strings.HasPrefix(name, ".") || name == "testdata" || name == "runs" {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return filepath.SkipDir // a module of its own
			}
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		folder = filepath.ToSlash(folder)
		allowed, known := below[folder]
		if !known && strings.HasPrefix(folder, "docs/examples/") {
			return nil // programs of users
		}
		require.True(t, known, "%s: folder %s is not in the table of imports", path, folder)
		seen[folder] = true
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			if to, ours := strings.CutPrefix(p, module); ours {
				require.True(t, slices.Contains(allowed, to), "%s imports %s: %s may import %v", path, to, folder, allowed)
			}
		}
		return nil
	})
	require.NoError(t, err)
	for folder := range below {
		require.True(t, seen[folder], "folder %s of the table does not exist", folder)
	}
}
