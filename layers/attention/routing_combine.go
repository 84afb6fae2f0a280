package attention

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// Resort says what stands for a query that is in a cluster without keys for it.
type Resort int

const (
	// NoResort is nothing.
	NoResort Resort = iota
	// RowResort is its own value, if none of its clusters has a key for it.
	RowResort
	// ClusterResort is its own value for every such cluster, which then counts as one of its clusters.
	ClusterResort
)

// SlotMean is the mean over the clusters of a token of what attention in them gave:
//
//	y_i = 1/(m_i + Eps) Σ_s o_s,  over the slots s that token i is in and that read a key; m_i of them
//
// A token in no cluster has 0.
type SlotMean struct {
	Clusters int
	Resort   Resort
	Tokens   int     // of the queries, where they are not those of the values, and there is no Resort; 0: they are
	Eps      float64 // 0 but for the published codes, which keep the sum of no slots finite in this way
}

// MeanOfSlots makes a SlotMean. order [B,H,C·W] are Members, o [B,C·W,H·D] and lse [B,H,C·W] results by slot, v [B,T,H·D] the values of the
// tokens -> [B,T,H·D]. o and v get gradients. Cost: two passes over o.
func MeanOfSlots(b *layers.Builder, c SlotMean, order, o, lse, v *Node) *Node {
	return b.Op(slotMean{c}, o, v, lse, order)
}

// slotMean has inputs: o, v, lse, order.
type slotMean struct{ SlotMean }

func (slotMean) Name() string      { return "mean_of_slots" }
func (o slotMean) DiffWRT() []bool { return []bool{true, o.Resort != NoResort, false, false} }
func (o slotMean) grad() slotGrad  { return slotGrad{o.SlotMean, false} }
func (o slotMean) gradV() slotGrad { return slotGrad{o.SlotMean, true} }

func (o slotMean) Infer(in []engine.Type) (engine.Type, error) {
	x, v, lse, order := in[0].Shape, in[1].Shape, in[2].Shape, in[3].Shape
	if len(x) != 3 || len(v) != 3 || len(lse) != 3 || !slices.Equal(lse, order) || x[0] != v[0] || x[2] != v[2] || x[0] != lse[0] || x[1] != lse[2] ||
		lse[1] < 1 || x[2]%lse[1] != 0 || o.Clusters < 1 || lse[2]%o.Clusters != 0 {
		return engine.Type{}, fmt.Errorf("results %v, values %v, lse %v, order %v of %d clusters, want [B,S,H·D], [B,T,H·D], [B,H,S] and int32 [B,H,S]", in[0], in[1], in[2], in[3], o.Clusters)
	}
	out := engine.Type{Dtype: in[1].Dtype, Shape: in[1].Shape.Clone()}
	if o.Tokens > 0 {
		if out.Shape[1] = o.Tokens; o.Resort != NoResort {
			return engine.Type{}, fmt.Errorf("a resort to values of other tokens than the queries")
		}
	}
	return out, nil
}

func (o slotMean) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		meanOfSlots[float32](o.SlotMean, out, in)
	} else {
		meanOfSlots[float64](o.SlotMean, out, in)
	}
	return nil
}

func (o slotMean) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(o.grad(), in[0], in[2], in[3], dout)
	if err != nil || o.Resort == NoResort {
		return Nodes{dx, nil, nil, nil}, err
	}
	dv, err := engine.Apply(o.gradV(), in[1], in[2], in[3], dout)
	return Nodes{dx, dv, nil, nil}, err
}

// slotTokens is how many tokens are a task.
const slotTokens = 256

// slotWork are the slots of the tokens of a task.
type slotWork[F kernels.Float] struct {
	SlotMean
	b, h, from, to int
	order          []int32 // of the example and head
	lse            []F
	reads, routed  [slotTokens]int32 // slots of each token that read something; all
}

// eachSlots runs f for all tasks, lse and order being [B,H,S].
func eachSlots[F kernels.Float](c SlotMean, lse, order engine.Value, tokens int, f func(w *slotWork[F])) {
	s := order.Shape()
	blocks := (tokens + slotTokens - 1) / slotTokens
	kernels.Par(s[0]*s[1]*blocks, func(_, task int) {
		bh, from := task/blocks, task%blocks*slotTokens
		w, _ := slotWorks.Get().(*slotWork[F])
		if w == nil {
			w = new(slotWork[F])
		}
		*w = slotWork[F]{SlotMean: c, b: bh / s[1], h: bh % s[1], from: from, to: min(from+slotTokens, tokens),
			order: engine.Ints(order)[bh*s[2]:][:s[2]], lse: engine.Floats[F](lse)[bh*s[2]:][:s[2]]}
		w.each(func(slot, i int) {
			w.routed[i-from]++
			if !math.IsInf(float64(w.lse[slot]), -1) {
				w.reads[i-from]++
			}
		})
		f(w)
		w.order, w.lse = nil, nil
		slotWorks.Put(w)
	})
}

// slotWorks keeps memory between runs.
var slotWorks sync.Pool

// each calls f for the slots of the task's tokens, cluster by cluster.
func (w *slotWork[F]) each(f func(slot, token int)) {
	width := len(w.order) / w.Clusters
	for c := range w.Clusters {
		list := w.order[c*width:][:width]
		at := sort.Search(width, func(k int) bool { return list[k] < 0 || int(list[k]) >= w.from })
		for ; at < width && list[at] >= 0 && int(list[at]) < w.to; at++ {
			f(c*width+at, int(list[at]))
		}
	}
}

// share is the factor of each slot of a token of the task, and of how many its own value stands for.
func (w *slotWork[F]) share(i int) (factor F, own int32) {
	reads, routed := w.reads[i-w.from], w.routed[i-w.from]
	switch {
	case w.Resort == ClusterResort:
		reads, own = routed, routed-reads
	case w.Resort == RowResort && reads == 0 && routed > 0:
		return 1, 1
	}
	if reads == 0 {
		return 0, 0
	}
	return F(1 / (float64(reads) + w.Eps)), own
}

func meanOfSlots[F kernels.Float](c SlotMean, out engine.Value, in []engine.Value) {
	x, v, y := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	slots, tokens, width := in[0].Shape()[1], out.Shape()[1], out.Shape()[2]
	d := width / in[2].Shape()[1]
	eachSlots(c, in[2], in[3], tokens, func(w *slotWork[F]) {
		at := func(i int) int { return (w.b*tokens+i)*width + w.h*d }
		for i := w.from; i < w.to; i++ {
			row := y[at(i):][:d]
			if f, own := w.share(i); own > 0 {
				kernels.Scale(f*F(own), v[at(i):][:d], row)
			} else {
				clear(row)
			}
		}
		w.each(func(slot, i int) {
			if f, _ := w.share(i); w.reads[i-w.from] > 0 && !math.IsInf(float64(w.lse[slot]), -1) {
				kernels.Axpy(f, x[(w.b*slots+slot)*width+w.h*d:][:d], y[at(i):][:d])
			}
		})
	})
}

// slotGrad is the gradient of o or of v. Inputs: o or v, lse, order, the gradient of the mean.
type slotGrad struct {
	SlotMean
	ofValues bool
}

func (slotGrad) Name() string                                { return "mean_of_slots_grad" }
func (slotGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }
func (slotGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return nil, fmt.Errorf("a gradient has no gradient of its own here")
}

func (o slotGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		gradOfSlots[float32](o, out, in)
	} else {
		gradOfSlots[float64](o, out, in)
	}
	return nil
}

func gradOfSlots[F kernels.Float](o slotGrad, out engine.Value, in []engine.Value) {
	dx, dy := engine.Floats[F](out), engine.Floats[F](in[3])
	rows, tokens, width := out.Shape()[1], in[3].Shape()[1], out.Shape()[2]
	d := width / in[1].Shape()[1]
	if !o.ofValues { // slots without a token
		order, s := engine.Ints(in[2]), in[2].Shape()
		kernels.Par(s[0]*s[1], func(_, bh int) {
			for slot, i := range order[bh*s[2]:][:s[2]] {
				if i < 0 {
					clear(dx[(bh/s[1]*rows+slot)*width+bh%s[1]*d:][:d])
				}
			}
		})
	}
	eachSlots(o.SlotMean, in[1], in[2], tokens, func(w *slotWork[F]) {
		g := func(i int) []F { return dy[(w.b*tokens+i)*width+w.h*d:][:d] }
		if o.ofValues {
			for i := w.from; i < w.to; i++ {
				row := dx[(w.b*tokens+i)*width+w.h*d:][:d]
				if f, own := w.share(i); own > 0 {
					kernels.Scale(f*F(own), g(i), row)
				} else {
					clear(row)
				}
			}
			return
		}
		w.each(func(slot, i int) {
			row := dx[(w.b*rows+slot)*width+w.h*d:][:d]
			if math.IsInf(float64(w.lse[slot]), -1) {
				clear(row)
				return
			}
			f, _ := w.share(i)
			kernels.Scale(f, g(i), row)
		})
	})
}
