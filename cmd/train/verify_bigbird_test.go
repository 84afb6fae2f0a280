package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Folders of transformers are as recorded, with draws that stand in the reference.
func TestVerifyBigBird(t *testing.T) {
	for _, c := range [][2]string{{"bigbird-seqcls", "bigbird/seqcls_sparse_eval"}, {"bigbird-pegasus", "bigbird_pegasus/s2s_sparse_eval"}} {
		r := euryale(t, "verify", goldenFile(t, "hf", c[0]), "--reference", goldenFile(t, c[1]+".safetensors"), "--float64", "--json").ok(t)
		require.Equal(t, true, r.last(t)["ok"])
	}
	// The draws are of BigBird alone.
	r := euryale(t, "verify", goldenFile(t, "hf", "gpt2"), "--reference", goldenFile(t, "bigbird/mlm_sparse_eval.safetensors"))
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "cannot compare rand/layer0.rand_attn")
}
