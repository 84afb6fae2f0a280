package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/docs/examples/small"
	"github.com/euryale-ml/euryale/models"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, small.WriteBERT(at("bert")))
	var table strings.Builder
	table.WriteString("label,text\n")
	for i := range 60 {
		class := i % 3 % 2
		fmt.Fprintf(&table, "%s,\"%s, %d\"\n", []string{"ship", "tree"}[class], strings.Repeat([]string{"sail ", "leaf "}[class], 5), i)
	}
	require.NoError(t, os.WriteFile(at("data.csv"), []byte(table.String()), 0o600))
	for name, rank := range map[string]int{"full": 0, "lora": 4} {
		var out bytes.Buffer
		require.NoError(t, run(context.Background(), options{from: at("bert"), data: at("data.csv"), run: at(name + "-run"), to: at(name), length: 41, steps: 120, batch: 8, lora: rank, lr: 1e-2}, &out))
		require.Contains(t, out.String(), "2 classes; new: [")
		require.Contains(t, out.String(), "test: accuracy 1.00", name)
		m, err := models.Load(at(name), tensor.Float32)
		require.NoError(t, err)
		require.Equal(t, "sequence_classification", m.Task())
	}
}
