package train

import (
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// Confusion counts what a classifier took for what: Confusion[true][predicted].
type Confusion [][]int64

// maxConfusion bounds the classes of which pairs are counted.
const maxConfusion = 200

// F1 is the harmonic mean of precision and recall of a class; 0 if nothing was right.
func (c Confusion) F1(class int) float64 {
	var predicted, real int64
	for k := range c {
		predicted += c[k][class]
		real += c[class][k]
	}
	if c[class][class] == 0 {
		return 0
	}
	return 2 * float64(c[class][class]) / float64(predicted+real)
}

// MacroF1 is the mean of F1 over the classes that are there or were predicted.
func (c Confusion) MacroF1() float64 {
	sum, n := 0.0, 0
	for class := range c {
		there := false
		for k := range c {
			there = there || c[k][class] > 0 || c[class][k] > 0
		}
		if there {
			sum += c.F1(class)
			n++
		}
	}
	return sum / float64(max(n, 1))
}

// newConfusion is an empty table for a classifier; nil of another task or of too many classes.
func newConfusion(task string, logits engine.Value) Confusion {
	if task != "sequence_classification" && task != "token_classification" {
		return nil
	}
	shape := logits.Shape()
	n := shape[len(shape)-1]
	if n > maxConfusion {
		return nil
	}
	c := make(Confusion, n)
	for k := range c {
		c[k] = make([]int64, n)
	}
	return c
}

// add counts a batch.
func (c Confusion) add(goal objective, b *data.Batch, logits engine.Value) {
	if c == nil {
		return
	}
	if engine.IsF32(logits) {
		confuse[float32](c, goal.targets(b), logits)
	} else {
		confuse[float64](c, goal.targets(b), logits)
	}
}

func confuse[F kernels.Float](c Confusion, targets []int32, logits engine.Value) {
	x := engine.Floats[F](logits)
	for i, t := range targets {
		if t >= 0 {
			c[t][largest(x[i*len(c):], len(c), 1)]++
		}
	}
}
