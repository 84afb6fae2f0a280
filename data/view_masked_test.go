package data

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// masked is a part with tokens to hide.
func masked(tok Tokenizer, m maskedView, texts ...string) *Part {
	return newPart("made up", "train", tok, newVocabulary(tok), m, docsOf(texts...))
}

func TestMaskedBatches(t *testing.T) {
	src, err := readEmbedded()
	require.NoError(t, err)
	text := string(src.docs[0].text[:120_000])
	for _, c := range []struct {
		view maskedView
		tok  Tokenizer
		near float64
	}{
		{maskedView{0.15, "token"}, BytesSpecial{}, 0.01},
		{maskedView{0.15, ""}, bookBPE(t), 0.01},
		{maskedView{0.3, "word"}, BytesSpecial{}, 0.02},
		{maskedView{0.2, "span"}, BytesSpecial{}, 0.01},
		{maskedView{0.15, "word"}, bookBPE(t), 0.01},
	} {
		name := fmt.Sprint(c.view, c.tok.Name())
		p := masked(c.tok, c.view, text)
		v := p.vocab
		w := p.PlainWindows(509)
		b := p.Shape(509).NewBatch(w.Len(), 509)
		w.Fill(0, b)
		n, hidden, mask, same, bytes := 0, 0, 0, 0, 0.0
		at := 0
		for r := range b.B {
			ids, targets := rowOf(b, b.IDs, r), rowOf(b, b.Targets, r)
			for i := range int(b.Lens[r]) {
				original := ids[i]
				if targets[i] >= 0 {
					hidden++
					original = targets[i]
					bytes += float64(v.size(original))
					switch ids[i] {
					case maskID:
						mask++
					case original:
						same++
					default:
						require.True(t, ids[i] < firstSpecial || ids[i] >= leastBPE, "a token of text")
					}
				}
				want := make([]int32, 1)
				p.tokens.copy(want, at)
				require.Equal(t, want[0], original, "what was there")
				at++
			}
			if c.view.unit == "word" {
				for i := 1; i < int(b.Lens[r]); i++ {
					was := func(i int) int32 {
						if targets[i] >= 0 {
							return targets[i]
						}
						return ids[i]
					}
					if v.joined(was(i-1), was(i)) {
						require.Equal(t, targets[i-1] >= 0, targets[i] >= 0, "a word as a whole: %s", name)
					}
				}
			}
			n += int(b.Lens[r])
		}
		require.Equal(t, p.tokens.len(), at, "every token once")
		require.InDelta(t, c.view.probability, float64(hidden)/float64(n), c.near, name)
		require.InDelta(t, 0.8, float64(mask)/float64(hidden), 0.03, name)
		require.InDelta(t, 0.1, float64(same)/float64(hidden), 0.025, name)
		require.EqualValues(t, hidden, w.Scored())
		require.Equal(t, bytes, w.Bytes())
		require.Equal(t, bytes, b.Bytes)

		again := NewBatch(1, 509)
		w.Fill(3, again)
		require.Equal(t, rowOf(b, b.IDs, 3), again.IDs, "an evaluation hides the same always")
	}
}

// TestMaskedDraws: other epochs hide other tokens of the same window, and hide at least one.
func TestMaskedDraws(t *testing.T) {
	p := masked(BytesSpecial{}, maskedView{0.15, "token"}, "abcdefghijklmnopqrstuvwxyz")
	s, err := p.Sampler(26, 5)
	require.NoError(t, err)
	b := NewBatch(1, 26)
	seen := map[string]bool{}
	for i := range int64(40) {
		s.Fill(i, b)
		require.Positive(t, b.Scored())
		seen[fmt.Sprint(b.IDs)] = true
	}
	require.Greater(t, len(seen), 35)
	other, err := p.Sampler(26, 6)
	require.NoError(t, err)
	ids := slices.Clone(b.IDs)
	other.Fill(39, b)
	require.NotEqual(t, ids, b.IDs, "another seed")

	one := masked(BytesSpecial{}, maskedView{0.0001, "span"}, "xy")
	w := one.PlainWindows(5)
	w.Fill(0, again(b, 5))
	require.EqualValues(t, 1, w.Scored(), "at least one")
}

func again(b *Batch, t int) *Batch { return NewBatch(b.B, t) }

func TestSpanLengths(t *testing.T) {
	total, longest := 0, 0
	const n = 20_000
	for i := range uint64(n) {
		k := spanLength(hash(i))
		require.GreaterOrEqual(t, k, 1)
		total, longest = total+k, max(longest, k)
	}
	require.Equal(t, longestSpan, longest)
	require.InDelta(t, meanSpan, float64(total)/n, 0.08)
}
