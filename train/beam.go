package train

import (
	"context"
	"math"
	"slices"
)

// Stepper writes a sequence token by token, as several candidates of the same length.
type Stepper interface {
	// Step reads the next token of each candidate and returns the logits [N,V] of the tokens after them, valid until the next call.
	Step(ids ...int32) ([]float32, error)
	// Select makes candidates out of those there are: the new candidate k goes on from what parents[k] has read.
	Select(parents []int)
}

// Text is a sequence that was written.
type Text struct {
	IDs   []int32 // without the token that ended it
	Ended bool    // by a token of EOS, not by MaxNewTokens
	Score float64 // of beam search: log-probability divided by length^LengthPenalty
}

// candidate is a running sequence, or the offer to go on with one by a token.
type candidate struct {
	parent int
	id     int32
	score  float64 // log-probability
	ids    []int32
}

// beamSearch writes with d.Beams candidates. s has read what comes first, with one candidate; logits [V] are those after it.
//
// In each step the 2 N best continuations (more with several end tokens) are looked at, best first; of equal ones that of the
// better parent, then the lower id. Those that end are finished if they are among the first N, the others run on until there
// are N. The search stops at MaxNewTokens, or when N are finished and, unless EarlyStopping says that this is enough, the best
// running one would not be better than the worst of them if it ended now.
//
// Cost: a step of N candidates, and O(N·V·log N), for each token.
// Source: the rules are those of beam search in transformers' generate, with early_stopping true or false.
// Differs: log-probabilities are summed in float64.
func beamSearch(ctx context.Context, s Stepper, logits []float32, d Decoding) (Text, error) {
	v := len(logits)
	running := []candidate{{}}
	var done finished
	for length := 1; ; length++ {
		offers := continuations(running, logits, v, d.Beams*(1+max(1, len(d.EOS))))
		next := make([]candidate, 0, d.Beams)
		for rank, o := range offers {
			if slices.Contains(d.EOS, o.id) {
				if rank < d.Beams {
					done.add(Text{IDs: running[o.parent].ids, Ended: true, Score: o.score / math.Pow(float64(length), d.LengthPenalty)}, d.Beams)
				}
				continue
			}
			o.ids = append(slices.Clone(running[o.parent].ids), o.id)
			if next = append(next, o); len(next) == d.Beams {
				break
			}
		}
		running = next
		if len(running) == 0 || len(done) == d.Beams &&
			(d.EarlyStopping || running[0].score/math.Pow(float64(length), d.LengthPenalty) <= done[len(done)-1].Score) {
			return done[0], nil
		}
		if length == d.MaxNewTokens {
			for _, r := range running {
				done.add(Text{IDs: r.ids, Score: r.score / math.Pow(float64(length), d.LengthPenalty)}, d.Beams)
			}
			return done[0], nil
		}
		if err := ctx.Err(); err != nil {
			return Text{}, err
		}
		parents, ids := make([]int, len(running)), make([]int32, len(running))
		for k, r := range running {
			parents[k], ids[k] = r.parent, r.id
		}
		s.Select(parents)
		var err error
		if logits, err = s.Step(ids...); err != nil {
			return Text{}, err
		}
	}
}

// continuations are the k best ways to go on from the running candidates by one token, best first.
func continuations(running []candidate, logits []float32, v, k int) []candidate {
	best := make([]candidate, 0, k+1)
	for c, r := range running {
		row := logits[c*v:][:v]
		norm := logSumExp(row)
		for id, x := range row {
			score := r.score + (float64(x) - norm)
			if len(best) == k && score <= best[k-1].score { // equal ones come later: a lower candidate or a lower id is in already
				continue
			}
			at, _ := slices.BinarySearchFunc(best, score, func(b candidate, s float64) int {
				if b.score >= s {
					return -1
				}
				return 1
			})
			if best = slices.Insert(best, at, candidate{parent: c, id: int32(id), score: score}); len(best) > k {
				best = best[:k]
			}
		}
	}
	return best
}

// logSumExp is log Σ exp(x_i).
func logSumExp(x []float32) float64 {
	top, sum := float64(slices.Max(x)), 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}

// finished are the best sequences that ended, best first; of equal ones the one that was found first.
type finished []Text

func (f *finished) add(t Text, most int) {
	at, _ := slices.BinarySearchFunc(*f, t.Score, func(b Text, s float64) int {
		if b.Score >= s {
			return -1
		}
		return 1
	})
	*f = slices.Insert(*f, at, t)
	*f = (*f)[:min(len(*f), most)]
}
