package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/train"
)

func TestGenerationSettings(t *testing.T) {
	dir := t.TempDir()
	read := func(text string) (generationSettings, error) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(text), 0o644))
		return readGenerationSettings(dir)
	}
	start := func() train.Decoding {
		return train.Decoding{Sampling: train.Sampling{Temperature: 0.8}, MaxNewTokens: 256, Beams: 1, EOS: []int32{3}}
	}
	none := func(string) bool { return false }

	s, err := read(`{"temperature": 0.5, "top_k": 7, "top_p": 1.0, "max_new_tokens": 9, "eos_token_id": [3, 5]}`)
	require.NoError(t, err)
	d := start()
	s.apply(&d, none)
	require.Equal(t, train.Decoding{Sampling: train.Sampling{Temperature: 0.5, TopK: 7}, MaxNewTokens: 9, Beams: 1, EOS: []int32{3, 5}}, d)
	d = start()
	s.apply(&d, func(flag string) bool { return flag == "temperature" || flag == "max-new-tokens" })
	require.Equal(t, 0.8, d.Temperature, "a flag counts more")
	require.Equal(t, 256, d.MaxNewTokens)

	s, err = read(`{"do_sample": false, "num_beams": 4, "length_penalty": 2.0, "early_stopping": true, "eos_token_id": 2}`)
	require.NoError(t, err)
	d = start()
	s.apply(&d, none)
	require.Equal(t, train.Decoding{MaxNewTokens: 256, Beams: 4, LengthPenalty: 2, EarlyStopping: true, EOS: []int32{3, 2}}, d)
	d = start()
	s.apply(&d, func(flag string) bool { return flag == "temperature" })
	require.Equal(t, 1, d.Beams)
	require.Equal(t, 0.8, d.Temperature)

	for _, text := range []string{`{`, `{"temperature": "hot"}`, `{"eos_token_id": "x"}`} {
		_, err := read(text)
		require.ErrorContains(t, err, "generation_config.json")
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "generation_config.json")))
	s, err = readGenerationSettings(dir)
	require.NoError(t, err)
	d = start()
	s.apply(&d, none)
	require.Equal(t, start(), d)
}
