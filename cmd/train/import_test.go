package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// hfFolders are the folders of Hugging Face that the project carries.
func hfFolders(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join("..", "..", "testdata", "golden", "hf", "*"))
	require.NoError(t, err)
	require.Greater(t, len(all), 12)
	for i, dir := range all {
		all[i], err = filepath.Abs(dir)
		require.NoError(t, err)
	}
	return all
}

// In, out and in again: the weights keep every bit, and config.json every key.
func TestImportExportImport(t *testing.T) {
	folders := hfFolders(t)
	t.Chdir(t.TempDir())
	for _, dir := range folders {
		name := filepath.Base(dir)
		require.NoError(t, os.RemoveAll("a"))
		require.NoError(t, os.RemoveAll("b"))
		require.NoError(t, os.RemoveAll("c"))
		euryale(t, "import", dir, "a").ok(t)
		euryale(t, "export", "a", "b").ok(t)
		euryale(t, "import", "b", "c").ok(t)
		for _, file := range []string{"model.safetensors", "config.json"} {
			first, err := os.ReadFile(filepath.Join("a", file))
			require.NoError(t, err)
			last, err := os.ReadFile(filepath.Join("c", file))
			require.NoError(t, err)
			require.Equal(t, first, last, "%s of %s", file, name)
		}
		var was, is map[string]any
		text, err := os.ReadFile(filepath.Join(dir, "config.json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &was))
		text, err = os.ReadFile("c/config.json")
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &is))
		for key, v := range was {
			require.Contains(t, is, key, name)
			if v != nil {
				require.Equal(t, v, is[key], "%s of %s", key, name)
			}
		}
		card, err := os.ReadFile("b/README.md")
		require.NoError(t, err)
		require.Contains(t, string(card), "from_pretrained")
	}
}

func TestImportTo(t *testing.T) {
	bert, err := filepath.Abs(filepath.Join("..", "..", "testdata", "golden", "hf", "bert"))
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	for _, to := range [][]string{{"longformer", "--attention-window", "128"}, {"big_bird", "--block-size", "16"}} {
		r := euryale(t, append([]string{"import", bert, to[0], "--json", "--extend-positions", "300", "--to"}, to...)...)
		r.ok(t)
		require.Contains(t, r.stdout, `"model_type":"`+to[0]+`"`)
		euryale(t, "inspect", to[0], "--check").ok(t)
	}
	require.NoError(t, os.WriteFile("a.txt", []byte("a b c d e f g"), 0o644))
	for want, args := range map[string][]string{
		"is not empty":               {"import", bert, "longformer"},
		"want bert or roberta":       {"import", "longformer", "x", "--to", "big_bird"},
		"goes with --to":             {"import", bert, "x", "--extend-positions", "300"},
		"not with --to longformer":   {"import", bert, "x", "--to", "longformer", "--block-size", "8"},
		"want one of big_bird, long": {"import", bert, "x", "--to", "gpt2"},
		"give at least 1":            {"import", bert, "x", "--to", "longformer", "--extend-positions", "-1"},
		"no such folder":             {"import", "nowhere", "x"},
		"is a file":                  {"export", "a.txt", "x"},
	} {
		r := euryale(t, args...)
		require.NotZero(t, r.code, want)
		require.Contains(t, r.stderr, want)
		require.NoDirExists(t, "x", want)
	}
}

// The card of a run says what it was trained on, what came out, and how to make it again.
func TestExportRun(t *testing.T) {
	t.Chdir(t.TempDir())
	euryale(t, "fit", "--recipe", "band-sotu", "--smoke", "--run", "r").ok(t)
	euryale(t, "export", "r", "m").ok(t)
	text, err := os.ReadFile("m/README.md")
	require.NoError(t, err)
	card := string(text)
	for _, want := range []string{"# m", "`decoder` for `causal_lm`", "validation, bits per byte", "fit --config job.json", `"model_type": "decoder"`, "euryale generate m"} {
		require.Contains(t, card, want)
	}
	require.NotContains(t, card, "from_pretrained", "no class of Hugging Face opens it")
	euryale(t, "inspect", "m", "--check").ok(t)
	euryale(t, "generate", "m", "--max-new-tokens", "3").ok(t)
	euryale(t, "eval", "m", "--data", "m/README.md").ok(t)
}
