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
	var lines strings.Builder
	for i := range 60 {
		before := i * 7 % 50
		fmt.Fprintf(&lines, "{\"question\":\"who\",\"context\":\"%s%d%s\",\"answer\":\"%d\"}\n", strings.Repeat("z ", before), 10+i, strings.Repeat(" z", 50-before), 10+i)
	}
	require.NoError(t, os.WriteFile(at("data.jsonl"), []byte(lines.String()), 0o600))
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), options{from: at("bert"), data: at("data.jsonl"), run: at("run"), to: at("reader"), length: 37, stride: 11, steps: 150, batch: 8, lr: 5e-3}, &out))
	require.Contains(t, out.String(), "test: exact match 1.00, F1 1.00 of 3 questions")
	m, err := models.Load(at("reader"), tensor.Float32)
	require.NoError(t, err)
	require.Equal(t, "question_answering", m.Task())
}
