package attention

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// hashed is a graph of LSH on vectors qk and v [B,T,H·D], with rotations of the step.
type hashed struct {
	*structured
	of             LSH
	heads          int
	qk, v, step    *Node
	buckets, order *Node
	lse            *Node
}

func hashedOf(t require.TestingT, a LSH, heads, d, tokens int, lens []int32, dtype tensor.Dtype) *hashed {
	s := newStructured(dtype)
	h := &hashed{structured: s, of: a, heads: heads}
	h.qk, h.v = s.input("qk", len(lens), tokens, heads*d), s.input("v", len(lens), tokens, heads*d)
	counts := s.ints("lens", lens, len(lens))
	rotations := Rotations(s.b, heads, a.Hashes, d, lshColumns(a.Factors, tokens, a.Chunk), false)
	h.buckets = Hash(s.b, Hashing{Heads: heads, Factors: a.Factors, Chunk: a.Chunk, Lens: counts}, h.qk, rotations)
	h.order = SortBuckets(s.b, h.buckets, counts)
	h.out, h.lse = a.Attend(s.b, LSHInputs{QK: h.qk, V: h.v, Heads: heads, Lens: counts, Rotations: rotations})
	h.step = s.b.Step()
	require.NoError(t, s.b.Err())
	return h
}

// all runs the graph: o, lse, buckets, order.
func (h *hashed) all(t require.TestingT) (o, lse []float64, buckets, order []int32) {
	p, err := engine.Compile(h.b.Graph(), Nodes{h.out, h.lse, h.buckets, h.order}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	return numbers(p.Value(h.out)), numbers(p.Value(h.lse)), slices.Clone(engine.Ints(p.Value(h.buckets))), slices.Clone(engine.Ints(p.Value(h.order)))
}

// found counts, by the words of the definition, how often each pair of a head of an example is found, in all rounds; order is that head's [R,T].
func found(a LSH, order, buckets []int32, t, n int) [][]int {
	count := make([][]int, t)
	for i := range count {
		count[i] = make([]int, t)
	}
	if a.Plan == BucketRecent {
		for r := range a.Hashes {
			for i := range n {
				left := a.Chunk
				for j := i - 1; j >= 0 && left > 0; j-- {
					if buckets[r*t+j] == buckets[r*t+i] {
						count[i][j]++
						left--
					}
				}
			}
		}
		return count
	}
	chunks := (n + a.Chunk - 1) / a.Chunk
	var ring [][]int32 // chunks of all rounds
	for r := range a.Hashes {
		for c := range chunks {
			ring = append(ring, order[r*t+c*a.Chunk:r*t+min(n, (c+1)*a.Chunk)])
		}
	}
	for at, queries := range ring {
		seen := map[int]bool{}
		for x := at - a.Before; x <= at+a.After; x++ {
			k, r := x, at/max(chunks, 1)
			switch a.Wrap {
			case WrapAcross:
				k = (x%len(ring) + len(ring)) % len(ring)
			case WrapRound:
				k = r*chunks + ((x-r*chunks)%chunks+chunks)%chunks
			default:
				if x < r*chunks || x >= (r+1)*chunks {
					continue
				}
			}
			if seen[k] {
				continue
			}
			seen[k] = true
			for _, i := range queries {
				for _, j := range ring[k] {
					same := !a.SameBucket || buckets[r*t+int(i)] == buckets[r*t+int(j)]
					if i != j && (!a.Causal || j < i) && same {
						count[i][j]++
					}
				}
			}
		}
	}
	return count
}

// dense is softmax over the pairs with such counts of one head, in plain loops; a token without any takes its own value.
func (a LSH) dense(qk, v []float64, d, n int, count [][]int) []float64 {
	o := make([]float64, len(count)*d)
	for i := range n {
		scores, most := make([]float64, n), math.Inf(-1)
		for j := range n {
			dot, square := 0.0, 0.0
			for k := range d {
				dot += qk[i*d+k] * qk[j*d+k]
				square += qk[j*d+k] * qk[j*d+k]
			}
			if scores[j] = dot / math.Sqrt(square/float64(d)+1e-6) / math.Sqrt(float64(d)); count[i][j] > 0 {
				most = max(most, scores[j])
			}
		}
		sum, row := 0.0, o[i*d:][:d]
		for j := range n {
			w := math.Exp(scores[j] - most)
			if count[i][j] == 0 {
				continue
			}
			if a.Dup == DupCount {
				w *= float64(count[i][j])
			}
			sum += w
			for k := range d {
				row[k] += w * v[j*d+k]
			}
		}
		for k := range d {
			if sum == 0 {
				row[k] = v[i*d+k]
			} else {
				row[k] /= sum
			}
		}
	}
	return o
}

// ofHead takes a head of an example out of [B,T,H·D].
func ofHead(x []float64, b, h, t, heads, d int) (y []float64) {
	for i := range t {
		y = append(y, x[((b*t+i)*heads+h)*d:][:d]...)
	}
	return y
}

// agrees compares with the dense computation.
func (h *hashed) agrees(t require.TestingT, lens []int32, tolerance float64) {
	s := h.qk.Shape()
	tokens, d := s[1], s[2]/h.heads
	o, lse, buckets, order := h.all(t)
	qk, v := layers.InputValue(h.qk).Float64s(), layers.InputValue(h.v).Float64s()
	for b, n := range lens {
		for head := range h.heads {
			at := (b*h.heads + head) * h.of.Hashes * tokens
			count := found(h.of, order[at:][:h.of.Hashes*tokens], buckets[at:][:h.of.Hashes*tokens], tokens, int(n))
			want := h.of.dense(ofHead(qk, b, head, tokens, h.heads, d), ofHead(v, b, head, tokens, h.heads, d), d, int(n), count)
			got := ofHead(o, b, head, tokens, h.heads, d)
			for i := range tokens {
				require.InDeltaSlice(t, want[i*d:][:d], got[i*d:][:d], tolerance, "%+v: example %d of %d tokens, head %d, token %d", h.of, b, n, head, i)
				if i >= int(n) {
					require.True(t, math.IsInf(lse[(b*h.heads+head)*tokens+i], -1), "padding reads nothing")
				}
			}
		}
	}
}

var lshVariants = map[string]LSH{
	"causal":        {Chunk: 4, Hashes: 2, Before: 1, Causal: true},
	"both sides":    {Chunk: 3, Hashes: 3, Before: 1, After: 1},
	"count":         {Chunk: 4, Hashes: 3, Before: 1, Causal: true, Dup: DupCount},
	"round":         {Chunk: 5, Hashes: 2, Before: 1, After: 1, Wrap: WrapRound},
	"across":        {Chunk: 4, Hashes: 3, Before: 1, Causal: true, Dup: DupCount, Wrap: WrapAcross},
	"same bucket":   {Chunk: 4, Hashes: 2, Before: 2, After: 1, SameBucket: true},
	"factors":       {Chunk: 3, Hashes: 2, Before: 1, After: 1, Factors: []int{2, 6}},
	"recent":        {Chunk: 3, Hashes: 2, Plan: BucketRecent, Causal: true},
	"own chunk":     {Chunk: 7, Hashes: 2, Causal: true},
	"one hash":      {Chunk: 4, Hashes: 1, Before: 1, Causal: true},
	"wide":          {Chunk: 2, Hashes: 2, Before: 9, After: 9},
	"one wide ring": {Chunk: 4, Hashes: 2, Before: 9, After: 9, Wrap: WrapRound, Dup: DupCount},
}

// Every variant is softmax over the pairs that its rounds find.
func TestLSHIsDefinition(t *testing.T) {
	for name, a := range lshVariants {
		t.Run(name, func(t *testing.T) {
			lens := []int32{29, 13, 1, 0}
			hashedOf(t, a, 2, 5, 29, lens, tensor.Float64).agrees(t, lens, 1e-12)
		})
	}
}

// The same for sizes and forms of all kinds.
func TestLSHOfAllSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := LSH{Chunk: rapid.IntRange(1, 9).Draw(t, "chunk"), Hashes: rapid.IntRange(1, 4).Draw(t, "hashes"), Before: rapid.IntRange(0, 2).Draw(t, "before"),
			After: rapid.IntRange(0, 2).Draw(t, "after"), Causal: rapid.Bool().Draw(t, "causal"), SameBucket: rapid.Bool().Draw(t, "same"),
			Dup: rapid.SampledFrom([]string{DupOnce, DupCount}).Draw(t, "dup"), Wrap: rapid.SampledFrom([]string{WrapNone, WrapRound}).Draw(t, "wrap"),
			Factors: rapid.SampledFrom([][]int{nil, {2}, {4, 6}}).Draw(t, "factors")}
		n := rapid.IntRange(1, 40).Draw(t, "tokens")
		lens := []int32{int32(rapid.IntRange(0, n).Draw(t, "length")), int32(n)}
		h := hashedOf(t, a, 2, 3, n, lens, tensor.Float64)
		if n <= a.Chunk {
			return // whatever the buckets, see TestLSHOfOneChunk
		}
		h.agrees(t, lens, 1e-11)
	})
}
