package golden

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// runSelfLSH is the layer with its projections: local heads beside those of hashing, memory behind the tokens, one head of values for all.
func runSelfLSH(c *Case, p Precision, a lshArguments) ([]Result, error) {
	r := newRig(c, p)
	r.only("x", "input_mask")
	x, b := r.in("x"), r.b
	batch, t, d := c.In("x").Shape[0], c.In("x").Shape[1], a.Dim/a.Heads
	rows, all := x, t+a.MemKV
	if a.MemKV > 0 {
		mem := layers.Reshape(b, r.param("mem_kv"), a.MemKV, a.Dim)
		rows = layers.Concat(b, 1, x, layers.Broadcast(b, mem, batch))
	}
	qk := layers.Linear(b, rows, layers.LinearConfig{Weight: r.param("toqk.weight"), NoBias: true})
	v := layers.Linear(b, rows, layers.LinearConfig{Weight: r.param("tov.weight"), NoBias: true})
	if a.OneValueHead {
		v = layers.Concat(b, 2, slices.Repeat([]*Node{v}, a.Heads)...)
	}
	var outs []*Node
	for e := range batch {
		of := func(n *Node, from, to int) *Node {
			return layers.Slice(b, layers.Slice(b, n, 0, e, e+1), 2, from*d, to*d)
		}
		s := lshRows{lshArguments: a, qk: of(qk, a.LocalHeads, a.Heads), v: of(v, a.LocalHeads, a.Heads), s: a.Heads - a.LocalHeads, t: all, d: d, name: fmt.Sprint("lsh.", e)}
		if m := c.In("input_mask"); m != nil {
			one := append(slices.Clone(m.Bools()[e*t:][:t]), slices.Repeat([]bool{true}, a.MemKV)...)
			s.mask = slices.Repeat(one, s.s)
		}
		o, _, err := s.attend(r, c.Rand("0.randn"))
		if err != nil {
			return nil, err
		}
		if a.LocalHeads > 0 {
			o = layers.Concat(b, 2, localHeads(r, of(qk, 0, a.LocalHeads), of(v, 0, a.LocalHeads), a, d), o)
		}
		outs = append(outs, layers.Slice(b, o, 1, 0, t))
	}
	o := outs[0]
	if batch > 1 {
		o = layers.Concat(b, 0, outs...)
	}
	r.out("out", layers.Linear(b, o, layers.LinearConfig{Weight: r.param("to_out.weight"), Bias: r.param("to_out.bias")}))
	return r.compare()
}

// localHeads are causal heads with shared queries and keys in windows of two buckets, which read the window before, and themselves if nothing else.
func localHeads(r *rig, qk, v *Node, a lshArguments, d int) *Node {
	shape := qk.Shape().Clone()
	unit := layers.RMSNorm(r.b, layers.Reshape(r.b, qk, shape[0], shape[1], a.LocalHeads, d), layers.NormConfig{Eps: 1e-30, NoWeight: true})
	w := 2 * a.BucketSize
	sees := func(_, i, j int) bool { return j >= 0 && i < shape[1] && j <= i && j/w >= i/w-1 && (j != i || i == 0) }
	o, _ := attention.Attend(r.b, attention.Config{Heads: a.LocalHeads, Scale: 1 / float64(d), Pattern: explicit{r.c.ID() + " local", 1, sees}},
		qk, layers.Reshape(r.b, unit, []int(shape)...), v)
	return o
}
