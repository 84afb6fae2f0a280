package train

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// PrefixScore compares two ways to predict the same tokens: each from its whole window, as training and evaluation do, and from what is before it alone,
// as generation has to. A model whose selection of keys sees the future (causality class C0) tells a little of that in the former; of another
// the two are equal but for rounding.
type PrefixScore struct {
	Positions      int     // tokens that were predicted
	Whole, Prefix  float64 // mean nats a token
	WholeAccuracy  float64
	PrefixAccuracy float64
	Worst          float64 // the largest difference of a token
}

// Gap is how many nats a token the future tells.
func (s PrefixScore) Gap() float64 { return s.Prefix - s.Whole }

// PrefixEval predicts so many of the tokens that windows score, drawn by the seed, each from its whole window and again from the tokens up to the
// one before it: the model is run on x[0..i] with nothing but padding behind, and scores x[i+1].
//
// Cost: two passes of one window for each token, besides one reading of the windows.
// Errors: a task that is not predicted from left to right; nothing to predict; ctx's.
func PrefixEval(ctx context.Context, m models.Model, params *layers.Params, part *data.Part, t, positions int, seed uint64, progress func(done, all int)) (PrefixScore, error) {
	var s PrefixScore
	if !objectives[m.Task()].causal {
		return s, fmt.Errorf("evaluation by prefixes is for causal_lm, which predicts from left to right; this model is for %s", m.Task())
	}
	w := Windows(m.Task(), part, t)
	one := part.Shape(t).NewBatch(1, t)
	g, err := NewGraph(m, params, one, GraphOptions{})
	if err != nil {
		return s, err
	}
	defer func() { _ = g.Program.Close() }()
	chosen := drawPositions(w, one, positions, seed)
	if len(chosen) == 0 {
		return s, fmt.Errorf("evaluation: nothing to predict in %d windows: give more text", w.Len())
	}
	run := func(place int) (loss float64, right bool, err error) {
		g.load(one)
		if err := g.Program.Run(); err != nil {
			return 0, false, fmt.Errorf("evaluation: %w", err)
		}
		loss, right = at(g, one, place)
		if !finite(loss) {
			return 0, false, &DivergedError{Loss: loss, Evaluation: true}
		}
		return loss, right, nil
	}
	for k, c := range chosen {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		w.Fill(c.window, one)
		whole, wholeRight, err := run(c.place)
		if err != nil {
			return s, err
		}
		// Nothing of what comes is left, in lengths or in ids.
		one.Lens[0] = int32(c.place + 1)
		clear(one.IDs[c.place+1:])
		prefix, prefixRight, err := run(c.place)
		if err != nil {
			return s, err
		}
		n := float64(len(chosen))
		s.Whole, s.Prefix, s.Worst = s.Whole+whole/n, s.Prefix+prefix/n, max(s.Worst, prefix-whole, whole-prefix)
		if wholeRight {
			s.WholeAccuracy += 1 / n
		}
		if prefixRight {
			s.PrefixAccuracy += 1 / n
		}
		if progress != nil {
			progress(k+1, len(chosen))
		}
	}
	s.Positions = len(chosen)
	return s, nil
}

// at is the loss of a place of the first row, and whether its token has the largest logit.
func at(g *Graph, b *data.Batch, place int) (loss float64, isRight bool) {
	if engine.IsF32(g.rows) {
		return floats64[float32](g.rows)(place), right[float32](g.goal, b, g.logits)(place)
	}
	return floats64[float64](g.rows)(place), right[float64](g.goal, b, g.logits)(place)
}

// position is a place of a window.
type position struct{ window, place int }

// drawPositions draws n of the places that windows score, all of them if there are no more, in their order.
func drawPositions(w *data.Windows, one *data.Batch, n int, seed uint64) []position {
	counts, all := make([]int, w.Len()), 0 // targets up to each window
	for k := range counts {
		w.Fill(k, one)
		all += one.Scored()
		counts[k] = all
	}
	drawn := map[int]bool{}
	if n >= all {
		for i := range all {
			drawn[i] = true
		}
	}
	for i := uint64(0); len(drawn) < min(n, all); i++ {
		drawn[int(splitmix.Mix(splitmix.Mix(seed^0x707265666978)+i*splitmix.Increment)%uint64(all))] = true
	}
	var chosen []position
	for i := range drawn {
		window := sort.SearchInts(counts, i+1)
		before := 0
		if window > 0 {
			before = counts[window-1]
		}
		w.Fill(window, one)
		for place, target := range one.Targets {
			if target < 0 {
				continue
			}
			if before == i {
				chosen = append(chosen, position{window, place})
				break
			}
			before++
		}
	}
	slices.SortFunc(chosen, func(a, b position) int {
		if a.window != b.window {
			return a.window - b.window
		}
		return a.place - b.place
	})
	return chosen
}
