package attention

import (
	"math"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// vectors are the channels of a head as they are and rounded up to whole vectors of 8, for which the kernels in assembly are made; those in Go take 20
// to 40 times as long. Zeros behind the channels of q, k and v change no score and no result.
type vectors struct{ d, dv, wide, wideV int }

// roundUp looks at q, k and v, or all in one; ok: they have channels to add. What does not fit together is left to the checks of the node.
func roundUp(heads int, in []*Node) (w vectors, ok bool) {
	size := func(n *Node, parts int) int {
		if n == nil || heads < 1 {
			return 0
		}
		t := engine.TypeOf(n)
		switch s := t.Shape; {
		case t.Dtype != tensor.Float32:
			return 0
		case len(s) == 4 && s[2] == heads:
			return s[3]
		case len(s) == 3 && s[2]%(parts*heads) == 0:
			return s[2] / (parts * heads)
		}
		return 0
	}
	if len(in) == 1 {
		w.d = size(in[0], 3)
		w.dv = w.d
	} else {
		w.d, w.dv = size(in[0], 1), size(in[2], 1)
		if size(in[1], 1) != w.d {
			return w, false
		}
	}
	w.wide, w.wideV = (w.d+7)/8*8, (w.dv+7)/8*8
	return w, w.d > 0 && w.dv > 0 && (w.wide != w.d || w.wideV != w.dv)
}

// fits reports whether the keys of labels, if there are any, have the channels of a head or of all.
func (w vectors) fits(labelKeys *Node, heads int) bool {
	if labelKeys == nil {
		return true
	}
	t := engine.TypeOf(labelKeys)
	return t.Dtype == tensor.Float32 && len(t.Shape) == 2 && (t.Shape[1] == w.d || t.Shape[1] == heads*w.d)
}

// widen gives the inputs more channels.
func (w vectors) widen(b *layers.Builder, in []*Node) (out []*Node) {
	for i, n := range in {
		from, to := w.d, w.wide
		if i == 2 {
			from, to = w.dv, w.wideV
		}
		out = append(out, layers.Channels(b, n, from, to))
	}
	return out
}

// narrow takes them from the result.
func (w vectors) narrow(b *layers.Builder, o *Node) *Node {
	return layers.Channels(b, o, w.wideV, w.dv)
}

// scale is that of the scores, which is of the channels that say something.
func (w vectors) scale(given float64) float64 {
	if given != 0 {
		return given
	}
	return 1 / math.Sqrt(float64(w.d))
}
