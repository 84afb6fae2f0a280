package train

import (
	"context"
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// Evaluator scores windows with the current weights.
type Evaluator struct {
	// Period, if not 0, is a number of places after which a pattern of attention is the same again, such as the size of its blocks: the
	// score then also tells the loss by the place within it.
	Period int
	// First, if not 0, is a number of batches whose loss is told apart.
	First int
	// Draw tells evaluations by chance apart, see NewSampledEvaluator.
	Draw int

	task  string
	graph *Graph
	batch *data.Batch
}

// NewEvaluator compiles a model for batches of windows of T tokens of data of some shape.
func NewEvaluator(m models.Model, params *layers.Params, shape data.Shape, batch, t int) (*Evaluator, error) {
	return newEvaluator(m, params, shape, batch, t, GraphOptions{})
}

// NewSampledEvaluator is NewEvaluator for a model whose layers choose (attention on predicted edges): they do so by chance, anew for each batch
// and each value of Draw, and do not take what is likeliest.
//
// Errors: a model that chooses nothing.
func NewSampledEvaluator(m models.Model, params *layers.Params, shape data.Shape, batch, t int, seed uint64) (*Evaluator, error) {
	if !Chooses(params) {
		return nil, fmt.Errorf("the model chooses nothing by chance: samples would all be the same")
	}
	return newEvaluator(m, params, shape, batch, t, GraphOptions{Sampled: true, Seed: seed})
}

// Chooses tells whether some of the weights of a model that was built choose.
func Chooses(params *layers.Params) bool {
	return slices.ContainsFunc(params.All(), func(p *layers.Param) bool { return p.Group == layers.ChoosingWeights })
}

func newEvaluator(m models.Model, params *layers.Params, shape data.Shape, batch, t int, o GraphOptions) (*Evaluator, error) {
	like := shape.NewBatch(batch, t)
	g, err := NewGraph(m, params, like, o)
	if err != nil {
		return nil, err
	}
	return &Evaluator{task: m.Task(), graph: g, batch: like}, nil
}

// Windows are those that a model for a task is finally scored in: of a language model every token once with at least half a window before
// it; of others, to which a token in the middle of a window is like any other, one after the other.
func Windows(task string, part *data.Part, t int) *data.Windows {
	if objectives[task].causal {
		return part.StridedWindows(t, (t+1)/2)
	}
	return part.PlainWindows(t)
}

// Run scores the windows, the first batches only if limit > 0. It stops early with ctx's error. progress, if not nil, is told
// how many windows are done.
//
// Errors: *DivergedError if the loss is not a finite number; nothing to predict.
func (e *Evaluator) Run(ctx context.Context, w *data.Windows, limit int, progress func(done, all int)) (Score, error) {
	g := e.graph
	s := Score{Task: e.task, mixed: g.goal.mixed > 0}
	counts := newTallies(g.goal, e.batch)
	counts.period = e.Period
	confusion := newConfusion(e.task, g.logits)
	var answers answering
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
		if g.step != nil {
			g.step[0] = int32((first/g.B)<<8 + e.Draw)
		}
		if err := g.Program.Run(); err != nil {
			return s, fmt.Errorf("evaluation: %w", err)
		}
		if engine.IsF32(g.rows) {
			total += counts.add(e.batch, floats64[float32](g.rows), right[float32](g.goal, e.batch, g.logits))
		} else {
			total += counts.add(e.batch, floats64[float64](g.rows), right[float64](g.goal, e.batch, g.logits))
		}
		if g.goal.pointer {
			for r := range min(g.B, n-first) {
				if q, ok := w.Question(first + r); ok {
					answers.add(q, e.logit(r))
				}
			}
		}
		confusion.add(g.goal, e.batch, g.logits)
		if g.goal.bytes {
			s.Bytes += e.batch.Bytes
		}
		if first/g.B+1 == e.First && counts.kept > 0 {
			s.FirstLoss = total / float64(counts.kept)
		}
		if progress != nil {
			progress(min(first+g.B, n), n)
		}
	}
	s.Tokens, s.Correct, s.Confusion = counts.kept, counts.all.right, confusion
	if s.Tokens == 0 {
		return s, fmt.Errorf("evaluation: nothing to predict in %d windows: give more text", n)
	}
	if !finite(total) {
		return s, &DivergedError{Loss: total / float64(s.Tokens), Evaluation: true}
	}
	s.Loss, s.Answers = total/float64(s.Tokens), answers.score()
	s.Position = counts.bins.scores()
	s.Offset = counts.offsets()
	s.Examples, s.Exact, s.Depth = counts.all.examples, counts.all.exact, counts.depths()
	return s, nil
}

// logit gives those of row r, of a task whose logits are [B,T,2].
func (e *Evaluator) logit(r int) func(place, end int) float64 {
	of := floats64[float32]
	if !engine.IsF32(e.graph.logits) {
		of = floats64[float64]
	}
	x, t := of(e.graph.logits), e.graph.T
	return func(place, end int) float64 { return x((r*t+place)*2 + end) }
}

func floats64[F kernels.Float](v engine.Value) func(i int) float64 {
	x := engine.Floats[F](v)
	return func(i int) float64 { return float64(x[i]) }
}

// right tells of a row that has a target whether that has the largest logit, the first of equal ones; nil where rows are not over classes.
func right[F kernels.Float](goal objective, b *data.Batch, v engine.Value) func(i int) bool {
	if goal.targets == nil || goal.mixed > 0 {
		return nil
	}
	targets, logits := goal.targets(b), engine.Floats[F](v)
	if goal.pointer {
		p := len(targets) / b.B
		return func(i int) bool {
			return largest(logits[i/p*b.T*p+i%p:], int(b.Lens[i/p]), p) == int(targets[i])
		}
	}
	classes := len(logits) / len(targets)
	return func(i int) bool { return largest(logits[i*classes:], classes, 1) == int(targets[i]) }
}

// largest is the index of the largest of n elements.
func largest[F kernels.Float](x []F, n, stride int) int {
	best := 0
	for j := range n {
		if x[j*stride] > x[best*stride] {
			best = j
		}
	}
	return best
}
