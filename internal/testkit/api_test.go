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

// The pieces of docs/api.md are one program that compiles and runs as they stand there.
func TestAPI(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	page, err := os.ReadFile(filepath.Join(root, "docs", "api.md"))
	require.NoError(t, err)
	var body strings.Builder
	for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		body.WriteString(block[1])
	}
	require.Greater(t, strings.Count(body.String(), "\n"), 100)
	dir := t.TempDir()
	at := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(at, []byte(`package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/docs/examples/small"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

func main() {
	err := os.Chdir(os.Args[1])
	if err == nil {
		err = small.WriteBERT("my-bert")
	}
	if err == nil {
		err = page(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func page(ctx context.Context) error {
`+body.String()+"\treturn nil\n}\n"), 0o600))
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "docs", "examples", "page", "main.go"): at}})
	require.NoError(t, err)
	overlay := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlay, list, 0o600))

	work := t.TempDir()
	var table strings.Builder
	table.WriteString("text,label\n")
	for i := range 60 {
		table.WriteString([]string{"\"a ship, at sea\",sea\n", "\"a tree, in the wood\",land\n"}[i%3%2])
	}
	require.NoError(t, os.WriteFile(filepath.Join(work, "letters.csv"), []byte(table.String()), 0o600))
	command := exec.Command("go", "run", "-overlay", overlay, "./docs/examples/page", work)
	command.Dir = root
	out, err := command.CombinedOutput()
	require.NoError(t, err, string(out))
	for _, want := range []string{"longformer 256 new weights: []", "saved runs/letters", "20 steps, validation loss", "of 3 documents"} {
		require.Contains(t, string(out), want)
	}
	require.FileExists(t, filepath.Join(work, "my-classifier", "model.safetensors"))
}
