package main

import (
	"bytes"
	"context"
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
	require.NoError(t, os.WriteFile(at("text.txt"), []byte(strings.Repeat("the whale, the sea. ", 400)), 0o600))
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), options{from: at("bert"), data: at("text.txt"), run: at("run"), to: at("long"), positions: 160, window: 32, steps: 12, batch: 2, lr: 1e-3}, &out))
	require.Contains(t, out.String(), "nats a hidden token")
	long, err := models.Load(at("long"), tensor.Float32)
	require.NoError(t, err)
	require.Equal(t, "longformer", long.Type())
	require.GreaterOrEqual(t, long.Dims().Positions, 160)
}
