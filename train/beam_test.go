package train

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/splitmix"
)

// table is a language model whose logits are a function of everything that was read.
type table struct {
	v      int
	seed   uint64
	coarse bool // few different logits, so that there are ties
	read   [][]int32
	steps  int
}

func newTable(v int, seed uint64) *table { return &table{v: v, seed: seed, read: [][]int32{nil}} }

func (m *table) logits(read []int32) []float32 {
	h := m.seed
	for _, id := range read {
		h = splitmix.Mix(h*31 + uint64(id) + 1)
	}
	row := make([]float32, m.v)
	for i := range row {
		row[i] = float32(4 * splitmix.Unit(splitmix.Mix(h+uint64(i)*splitmix.Increment)))
		if m.coarse {
			row[i] = float32(math.Round(float64(row[i]) / 2))
		}
	}
	return row
}

func (m *table) Step(ids ...int32) ([]float32, error) {
	if len(ids) != len(m.read) {
		return nil, fmt.Errorf("%d ids for %d candidates", len(ids), len(m.read))
	}
	m.steps++
	var all []float32
	for c, id := range ids {
		m.read[c] = append(slices.Clone(m.read[c]), id)
		all = append(all, m.logits(m.read[c])...)
	}
	return all, nil
}

func (m *table) Select(parents []int) {
	var now [][]int32
	for _, p := range parents {
		now = append(now, m.read[p])
	}
	m.read = now
}

// exhaustive is the best text by its score, of all there are; of equal ones the first in the order of ids.
func (m *table) exhaustive(d Decoding) Text {
	best := Text{Score: math.Inf(-1)}
	var walk func(ids []int32, score float64)
	walk = func(ids []int32, score float64) {
		logits := m.logits(ids)
		norm := logSumExp(logits)
		for id, x := range logits {
			s := score + (float64(x) - norm)
			penalised := s / math.Pow(float64(len(ids)+1), d.LengthPenalty)
			longer := append(slices.Clone(ids), int32(id))
			switch {
			case slices.Contains(d.EOS, int32(id)):
				if penalised > best.Score {
					best = Text{IDs: ids, Ended: true, Score: penalised}
				}
			case len(longer) == d.MaxNewTokens:
				if penalised > best.Score {
					best = Text{IDs: longer, Score: penalised}
				}
			default:
				walk(longer, s)
			}
		}
	}
	walk(nil, 0)
	return best
}

func TestBeamsFindTheBestOfAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, k := rapid.IntRange(2, 4).Draw(t, "V"), rapid.IntRange(1, 4).Draw(t, "tokens")
		d := Decoding{MaxNewTokens: k, Beams: int(math.Pow(float64(v), float64(k))), EOS: []int32{int32(v - 1)},
			LengthPenalty: rapid.SampledFrom([]float64{0, 1, 2.5, -1}).Draw(t, "penalty"), EarlyStopping: rapid.Bool().Draw(t, "early")}
		if rapid.Bool().Draw(t, "two ends") {
			d.EOS = append(d.EOS, 0)
		}
		m := newTable(v, rapid.Uint64().Draw(t, "seed"))
		got, err := beamSearch(context.Background(), m, m.logits(nil), d)
		require.NoError(t, err)
		want := m.exhaustive(d)
		require.InDelta(t, want.Score, got.Score, 1e-12)
		require.Equal(t, len(want.IDs), len(got.IDs))
		require.Equal(t, want.Ended, got.Ended)
		for i, id := range want.IDs {
			require.Equal(t, id, got.IDs[i])
		}
	})
}

// TestOneBeamIsGreedy: with one candidate the search is greedy decoding, if it stops at the first text that ends.
func TestOneBeamIsGreedy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.IntRange(2, 9).Draw(t, "V")
		d := Decoding{MaxNewTokens: rapid.IntRange(1, 12).Draw(t, "tokens"), EOS: []int32{1}, LengthPenalty: 1, EarlyStopping: true}
		seed, coarse := rapid.Uint64().Draw(t, "seed"), rapid.Bool().Draw(t, "ties")
		fresh := func() *table {
			m := newTable(v, seed)
			m.coarse = coarse
			return m
		}
		m := fresh()
		greedy, err := Write(context.Background(), m, m.logits(nil), d, nil)
		require.NoError(t, err)
		require.LessOrEqual(t, m.steps, d.MaxNewTokens-1, "no step whose logits nobody reads")
		for _, beams := range []int{0, 1} {
			d.Beams = beams
			again, err := Write(context.Background(), fresh(), m.logits(nil), d, nil)
			require.NoError(t, err)
			require.Equal(t, greedy, again)
		}
		d.Beams = 1
		beam, err := beamSearch(context.Background(), fresh(), m.logits(nil), d)
		require.NoError(t, err)
		require.Equal(t, greedy.IDs, beam.IDs)
		require.Equal(t, greedy.Ended, beam.Ended)
	})
}

// simple is beam search written down as transformers has it: all scores of a step in one list.
func (m *table) simple(d Decoding) (ids []int32, score float64) {
	type hypothesis struct {
		ids   []int32
		score float64
	}
	beams := []hypothesis{{}}
	var done []hypothesis
	finish := func(h hypothesis) {
		done = append(done, h)
		slices.SortStableFunc(done, func(a, b hypothesis) int {
			switch {
			case a.score > b.score:
				return -1
			case a.score < b.score:
				return 1
			}
			return 0
		})
		done = done[:min(len(done), d.Beams)]
	}
	for length := 1; length <= d.MaxNewTokens; length++ {
		var all []hypothesis
		for _, b := range beams {
			logits := m.logits(b.ids)
			norm := logSumExp(logits)
			for id, x := range logits {
				all = append(all, hypothesis{append(slices.Clone(b.ids), int32(id)), b.score + (float64(x) - norm)})
			}
		}
		slices.SortStableFunc(all, func(a, b hypothesis) int {
			switch {
			case a.score > b.score:
				return -1
			case a.score < b.score:
				return 1
			}
			return 0
		})
		per := math.Pow(float64(length), d.LengthPenalty)
		beams = nil
		for rank, h := range all[:min(len(all), 2*d.Beams)] {
			if last := h.ids[len(h.ids)-1]; last == d.EOS[0] {
				if rank < d.Beams {
					finish(hypothesis{h.ids[:len(h.ids)-1], h.score / per})
				}
			} else if len(beams) < d.Beams {
				beams = append(beams, h)
			}
		}
		if len(beams) == 0 {
			break
		}
		if len(done) >= d.Beams && (d.EarlyStopping || beams[0].score/per <= done[len(done)-1].score) {
			return done[0].ids, done[0].score
		}
		if length == d.MaxNewTokens {
			for _, b := range beams {
				finish(hypothesis{b.ids, b.score / per})
			}
		}
	}
	return done[0].ids, done[0].score
}

func TestBeamSearchFollowsItsRules(t *testing.T) {
	ended := 0
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.IntRange(2, 11).Draw(t, "V")
		d := Decoding{MaxNewTokens: rapid.IntRange(1, 9).Draw(t, "tokens"), Beams: rapid.IntRange(2, 5).Draw(t, "beams"), EOS: []int32{int32(rapid.IntRange(0, v-1).Draw(t, "end"))},
			LengthPenalty: rapid.SampledFrom([]float64{0, 1, 2, -1}).Draw(t, "penalty"), EarlyStopping: rapid.Bool().Draw(t, "early")}
		m := newTable(v, rapid.Uint64().Draw(t, "seed"))
		m.coarse = rapid.Bool().Draw(t, "ties")
		var streamed []int32
		got, err := Write(context.Background(), m, m.logits(nil), d, func(id int32) { streamed = append(streamed, id) })
		require.NoError(t, err)
		ids, score := m.simple(d)
		require.Equal(t, append([]int32{}, ids...), append([]int32{}, got.IDs...))
		require.Equal(t, score, got.Score)
		require.Equal(t, got.IDs, streamed)
		if got.Ended {
			ended++
		}
	})
	require.NotZero(t, ended)
}

func TestWriteErrors(t *testing.T) {
	m := newTable(3, 1)
	for want, d := range map[string]Decoding{
		"max-new-tokens is 0":   {},
		"beams is -1":           {MaxNewTokens: 1, Beams: -1},
		"length-penalty is NaN": {MaxNewTokens: 1, LengthPenalty: math.NaN()},
		"temperature is -1":     {MaxNewTokens: 1, Sampling: Sampling{Temperature: -1}},
	} {
		_, err := Write(context.Background(), m, m.logits(nil), d, nil)
		require.ErrorContains(t, err, want)
	}
	ctx, cancel := context.WithCancel(context.Background())
	text, err := Write(ctx, m, m.logits(nil), Decoding{MaxNewTokens: 5}, func(int32) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, text.IDs, 1)
	_, err = Write(ctx, m, m.logits(nil), Decoding{MaxNewTokens: 5, Beams: 2}, nil)
	require.ErrorIs(t, err, context.Canceled)
	m.Select([]int{0, 0})
	_, err = Write(context.Background(), m, m.logits(nil), Decoding{MaxNewTokens: 5}, nil)
	require.ErrorContains(t, err, "1 ids for 2 candidates", "what the model says is handed on")
}
