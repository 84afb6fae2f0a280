package kernels

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every generated file carries the hash of the generator's sources; it must be that of the sources beside it. What the
// generator writes from them is compared by regenerating (gen/regen.sh), which needs the generator's dependencies.
func TestGeneratedFilesAreOfTheseSources(t *testing.T) {
	for _, part := range []string{"gemm", "elem", "attention"} {
		files, err := filepath.Glob("gen/" + part + "*.go")
		require.NoError(t, err)
		require.NotEmpty(t, files, part)
		files = append(files, "gen/go.mod", "gen/main.go", "gen/width.go")
		slices.Sort(files)
		h := sha256.New()
		for _, f := range files {
			b, err := os.ReadFile(f)
			require.NoError(t, err)
			fmt.Fprintf(h, "%s %d\n", filepath.Base(f), len(b))
			h.Write(b)
		}
		for _, set := range []string{"avx2", "avx512"} {
			for _, ext := range []string{".s", ".go"} {
				name := part + "_" + set + "_amd64" + ext
				b, err := os.ReadFile(name)
				require.NoError(t, err)
				lines := strings.SplitN(string(b), "\n", 3)
				require.Equal(t, fmt.Sprintf("// Generator sources: sha256 %x", h.Sum(nil)), lines[1], "%s is older than its generator: sh gen/regen.sh %s", name, part)
			}
		}
	}
}
