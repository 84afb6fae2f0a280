package train

import (
	"context"
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// Score is the result of an evaluation.
type Score struct {
	Loss     float64 // mean nats a token
	Bytes    float64 // what the tokens stand for
	Tokens   int64   // scored
	Correct  int64   // tokens that the model held most likely
	Position []PositionScore
	Examples int64 // rows with something to predict
	Exact    int64 // those of them in which every token was held most likely
	Depth    []DepthScore
}

// PositionScore is the mean loss of the tokens at some places of their window.
type PositionScore struct {
	From   int     `json:"from"` // inputs before the scored one, at least
	To     int     `json:"to"`   // and less than
	Loss   float64 `json:"loss"`
	Tokens int64   `json:"tokens"`
}

// DepthScore is how well a task's examples are answered that have what is to be found in one tenth of their length.
type DepthScore struct {
	From     float64 `json:"from"` // as a part of the length
	To       float64 `json:"to"`
	Accuracy float64 `json:"accuracy"`    // of the answers
	Exact    float64 `json:"exact_match"` // of the examples
	Examples int64   `json:"examples"`
}

// BitsPerByte is the loss in bits for each byte of text.
func (s Score) BitsPerByte() float64 { return s.Loss * float64(s.Tokens) / math.Ln2 / s.Bytes }

// Perplexity is exp(loss).
func (s Score) Perplexity() float64 { return math.Exp(s.Loss) }

// Accuracy is the part of the tokens that the model held most likely.
func (s Score) Accuracy() float64 { return float64(s.Correct) / float64(s.Tokens) }

// ExactMatch is the part of the examples in which every answer was held most likely.
func (s Score) ExactMatch() float64 { return float64(s.Exact) / float64(s.Examples) }

// Evaluator scores windows with the current weights.
type Evaluator struct {
	graph *Graph
	batch *data.Batch
}

// NewEvaluator compiles a model for batches of windows of T tokens.
func NewEvaluator(m models.Model, params *layers.Params, batch, t int) (*Evaluator, error) {
	g, err := NewGraph(m, params, batch, t, GraphOptions{})
	if err != nil {
		return nil, err
	}
	return &Evaluator{g, data.NewBatch(batch, t)}, nil
}

// Run scores the windows, the first batches only if limit > 0. It stops early with ctx's error. progress, if not nil, is told
// how many windows are done.
//
// Errors: *DivergedError if the loss is not a finite number; nothing to predict.
func (e *Evaluator) Run(ctx context.Context, w *data.Windows, limit int, progress func(done, all int)) (Score, error) {
	var s Score
	g := e.graph
	bins := newBins(g.T)
	var rows rows
	total := 0.0
	n := w.Len()
	if limit > 0 {
		n = min(n, limit*g.B)
	}
	for first := 0; first < n; first += g.B {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		w.Fill(first, e.batch)
		g.load(e.batch)
		if err := g.Program.Run(); err != nil {
			return s, fmt.Errorf("evaluation: %w", err)
		}
		total += sum(g.rows)
		s.Tokens += int64(e.batch.Scored())
		if engine.IsF32(g.rows) {
			s.Correct += bins.add(e.batch, floats64[float32](g.rows), correct(e.batch, engine.Floats[float32](g.logits)), &rows)
		} else {
			s.Correct += bins.add(e.batch, floats64[float64](g.rows), correct(e.batch, engine.Floats[float64](g.logits)), &rows)
		}
		if progress != nil {
			progress(min(first+g.B, n), n)
		}
	}
	if s.Tokens == 0 {
		return s, fmt.Errorf("evaluation: nothing to predict in %d windows: give more text", n)
	}
	if !finite(total) {
		return s, &DivergedError{Loss: total / float64(s.Tokens), Evaluation: true}
	}
	s.Loss = total / float64(s.Tokens)
	s.Bytes = w.Bytes() * float64(s.Tokens) / float64(w.Scored())
	s.Position = bins.scores()
	s.Examples, s.Exact, s.Depth = rows.all.examples, rows.all.exact, rows.scores()
	return s, nil
}

func floats64[F kernels.Float](v engine.Value) func(i int) float64 {
	x := engine.Floats[F](v)
	return func(i int) float64 { return float64(x[i]) }
}

// correct tells of a scored token whether it has the largest logit, the first of equal ones.
func correct[F kernels.Float](b *data.Batch, logits []F) func(i int) bool {
	v := len(logits) / len(b.Targets)
	return func(i int) bool {
		row := logits[i*v : (i+1)*v]
		best := 0
		for j, x := range row {
			if x > row[best] {
				best = j
			}
		}
		return best == int(b.Targets[i])
	}
}

// bins are places in a window in ranges that double: 0, 1, 2-3, 4-7, ...
type bins struct {
	t     int
	loss  []float64
	count []int64
}

func newBins(t int) *bins {
	n := binOf(t-1) + 1
	return &bins{t, make([]float64, n), make([]int64, n)}
}

func binOf(place int) int {
	b := 0
	for ; place > 0; place /= 2 {
		b++
	}
	return b
}

func (b *bins) add(batch *data.Batch, loss func(i int) float64, ok func(i int) bool, rows *rows) (correct int64) {
	for r := range batch.B {
		var right, scored int64
		for i := r * b.t; i < (r+1)*b.t; i++ {
			if batch.Targets[i] < 0 {
				continue
			}
			k := binOf(i % b.t)
			b.loss[k] += loss(i)
			b.count[k]++
			scored++
			if ok(i) {
				right++
			}
		}
		rows.add(batch, r, right, scored)
		correct += right
	}
	return correct
}

// rows counts whole examples, all and by the tenth in which a task has put what is to be found.
type rows struct {
	all    tally
	tenths [10]tally
}

type tally struct{ examples, exact, right, scored int64 }

func (t *tally) add(right, scored int64) {
	t.examples++
	t.right += right
	t.scored += scored
	if right == scored {
		t.exact++
	}
}

func (c *rows) add(batch *data.Batch, r int, right, scored int64) {
	if scored == 0 {
		return
	}
	c.all.add(right, scored)
	if batch.Tenths != nil && batch.Tenths[r] >= 0 {
		c.tenths[batch.Tenths[r]].add(right, scored)
	}
}

func (c *rows) scores() []DepthScore {
	var all []DepthScore
	for i, t := range c.tenths {
		if t.examples > 0 {
			all = append(all, DepthScore{float64(i) / 10, float64(i+1) / 10, float64(t.right) / float64(t.scored), float64(t.exact) / float64(t.examples), t.examples})
		}
	}
	return all
}

func (b *bins) scores() []PositionScore {
	var all []PositionScore
	for k, n := range b.count {
		if n == 0 {
			continue
		}
		p := PositionScore{From: 1 << k >> 1, To: min(1<<k, b.t), Loss: b.loss[k] / float64(n), Tokens: n}
		all = append(all, p)
	}
	return all
}
