package models

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers/attention"
)

// wholeRow is attention in which all places of a row of each image read each other.
type wholeRow struct {
	*attention.Memory[float32]
	images, width, inner int
	q, o                 []float32 // of an image, [W,H·D]
}

// Attend has rows [place][image].
func (w *wholeRow) Attend(q, k, v, o []float32) error {
	w.q, w.o = room(w.q, w.width*w.inner), room(w.o, w.width*w.inner)
	each := func(image int, f func(place, at int)) {
		for p := range w.width {
			f(p*w.inner, (p*w.images+image)*w.inner)
		}
	}
	for i := range w.images {
		keys, values := w.Rows(w.width)
		each(i, func(place, at int) {
			copy(w.q[place:][:w.inner], q[at:])
			copy(keys[place:][:w.inner], k[at:])
			copy(values[place:][:w.inner], v[at:])
		})
		w.Memory.Attend(0, w.width, w.q, w.o)
		each(i, func(place, at int) { copy(o[at:][:w.inner], w.o[place:]) })
	}
	return nil
}

func (w *wholeRow) Reset()       {}
func (w *wholeRow) Select([]int) {}
func (w *wholeRow) Bytes() int   { return 4 * (cap(w.q) + cap(w.o)) }

// strips is attention in which each of some strips grows by a place at a time, which reads all of its strip: a row of each image from left to right, or
// all columns of each image downwards.
type strips struct {
	strips, heads, d, most int
	length                 int       // places of each strip that there are
	keys, values           []float32 // [strip, head, place, D]
	scores                 []float32 // [strip, head, place]
	scale                  float32
}

func newStrips(n, heads, d, most int) *strips {
	size := n * heads * most * d
	return &strips{strips: n, heads: heads, d: d, most: most, keys: make([]float32, size), values: make([]float32, size), scale: float32(1 / math.Sqrt(float64(d)))}
}

// Attend has rows [strip].
func (s *strips) Attend(q, k, v, o []float32) error {
	n, d, rows := s.length+1, s.d, s.strips*s.heads
	if n > s.most {
		return fmt.Errorf("place %d of strips of %d", n, s.most)
	}
	s.scores = room(s.scores, rows*n)
	for r := range rows {
		keys := s.keys[r*s.most*d:][:n*d]
		copy(keys[(n-1)*d:], k[r*d:][:d])
		copy(s.values[(r*s.most+n-1)*d:], v[r*d:][:d])
		kernels.Gemm(false, true, 1, n, d, q[r*d:], d, keys, d, s.scores[r*n:], n, false, nil)
	}
	kernels.Scale(s.scale, s.scores, s.scores)
	kernels.Softmax(rows, n, s.scores, s.scores)
	for r := range rows {
		kernels.Gemm(false, false, 1, d, n, s.scores[r*n:], n, s.values[r*s.most*d:], d, o[r*d:], d, false, nil)
	}
	s.length = n
	return nil
}

func (s *strips) Reset()       { s.length = 0 }
func (s *strips) Select([]int) {}
func (s *strips) Bytes() int   { return 4 * (len(s.keys) + len(s.values) + cap(s.scores)) }
