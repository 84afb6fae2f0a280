package data

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Grouped examples are those of the shuffled sequence, each as often, in batches that are alike in length; a sampler that begins anywhere gives the same.
func TestGroupByLength(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.tsv")
	text := "text\tlabel\n"
	for i := range 211 {
		text += strings.Repeat("ab", 1+i*i%37) + "\t" + string(rune('x'+i%3)) + "\n"
	}
	require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
	corpus, err := Load(Config{Path: path, Objective: "sequence_classification"})
	require.NoError(t, err)
	const rows, n = 5, 5 * groupBatches * 3
	part := corpus.Train
	plain, err := part.Sampler(64, 7)
	require.NoError(t, err)
	grouped, err := part.Sampler(64, 7)
	require.NoError(t, err)
	require.NoError(t, grouped.GroupByLength(rows))

	read := func(s *Sampler, from int64) (all []string, lens []int32) {
		b := part.Shape(64).NewBatch(1, 64)
		for p := range int64(rows) {
			require.NoError(t, s.Fill(from+p, b))
			all = append(all, string(encodeForTest(b.IDs[:b.Lens[0]])))
			lens = append(lens, b.Lens[0])
		}
		return all, lens
	}
	var want, got []string
	spread, apart, longer := 0, 0, 0
	for p := int64(0); p < n; p += rows {
		a, lens := read(plain, p)
		want, apart = append(want, a...), apart+widest(lens)
		b, lens := read(grouped, p)
		got, spread = append(got, b...), spread+widest(lens)
		require.Equal(t, int(maxOf(lens)), grouped.Longest(p, rows))
		if p > 0 && maxOf(lens) > 20 {
			longer++
		}
	}
	require.ElementsMatch(t, want, got)
	require.NotEqual(t, want, got)
	require.Less(t, spread*8, apart)
	require.Greater(t, longer, 20)

	again, err := part.Sampler(64, 7)
	require.NoError(t, err)
	require.NoError(t, again.GroupByLength(rows))
	for _, p := range []int64{n - rows, 3 * rows, 0, rows * groupBatches} {
		b, _ := read(again, p)
		require.Equal(t, got[p:p+rows], b)
	}
}

func encodeForTest(ids []int32) (b []byte) {
	for _, id := range ids {
		b = append(b, byte(id), byte(id>>8))
	}
	return b
}

func maxOf(lens []int32) (m int32) {
	for _, n := range lens {
		m = max(m, n)
	}
	return m
}

func widest(lens []int32) int {
	low := lens[0]
	for _, n := range lens {
		low = min(low, n)
	}
	return int(maxOf(lens) - low)
}
