package attention

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// Memory is cross-attention of one layer while its queries are written token by token: the keys and values of the other sequence,
// computed once.
//
// Memory: keys and values of all its tokens. A Memory is not safe for concurrent use.
type Memory[F kernels.Float] struct {
	pattern      Pattern
	heads, d, dv int
	scale        float64
	length       int
	keys, values []F // [S,H·D], [S,H·DV]
	scores       []F
	runs         []Run
}

// CheckCross says whether queries that are written token by token can read a memory through the pattern: row i is query i, column j
// token j of the memory. Errors: another number of heads; positions that are counted from the end, which is not known yet.
func CheckCross(p Pattern, heads int) error {
	if err := CheckHeads(p, heads); err != nil {
		return err
	}
	if p.FromEnd() {
		return fmt.Errorf("%s depends on the lengths of both sequences, but that of the target is not known while it is written; give positions from the front, and random keys in causal(…)", p)
	}
	return nil
}

// NewMemory returns an empty memory for heads of sizes d (keys) and dv (values). scale is that of the scores; 0: 1/√d.
// Errors: those of CheckCross; sizes below 1.
func NewMemory[F kernels.Float](p Pattern, heads, d, dv int, scale float64) (*Memory[F], error) {
	if heads < 1 || d < 1 || dv < 1 {
		return nil, fmt.Errorf("memory of %d heads of sizes %d and %d: sizes start at 1", heads, d, dv)
	}
	if err := CheckCross(p, heads); err != nil {
		return nil, err
	}
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(d))
	}
	return &Memory[F]{pattern: p, heads: heads, d: d, dv: dv, scale: scale}, nil
}

// Rows makes room for n tokens and returns the keys [n,H·D] and values [n,H·DV] to fill. What was there before is gone.
func (m *Memory[F]) Rows(n int) (keys, values []F) {
	m.length = n
	m.keys, m.values = sized(m.keys, n*m.heads*m.d), sized(m.values, n*m.heads*m.dv)
	return m.keys, m.values
}

// Len is the number of tokens.
func (m *Memory[F]) Len() int { return m.length }

// sized is a slice of n elements, b itself if it is large enough.
func sized[F any](b []F, n int) []F {
	if cap(b) < n {
		return make([]F, n)
	}
	return b[:n]
}

// Attend writes what query i reads to o: row i of Attend on both sequences. There may be several candidates for it, each with a
// query of its own: q [N,H·D], o [N,H·DV]. Cost: O(N · keys read · (D + DV)) for each head.
func (m *Memory[F]) Attend(i, candidates int, q, o []F) {
	for g := range m.pattern.Heads() {
		n := max(m.length, i+1)
		m.runs = disjoint(clip(m.pattern.Row(g, i, n, m.runs[:0]), 0, 0, m.length))
		for h := range m.heads / m.pattern.Heads() {
			m.read(g+h, candidates, q, o)
		}
	}
}

// read writes the output of a head for all candidates.
func (m *Memory[F]) read(h, candidates int, q, o []F) {
	ck, cv := m.heads*m.d, m.heads*m.dv
	total := 0
	for _, r := range m.runs {
		total += r.Len()
	}
	if total == 0 {
		for c := range candidates {
			clear(o[c*cv+h*m.dv:][:m.dv])
		}
		return
	}
	m.scores = sized(m.scores, candidates*total)
	at := 0
	for _, r := range m.runs {
		n := r.Len()
		kernels.Gemm(false, true, candidates, n, m.d, q[h*m.d:], ck, m.keys[r.Lo*ck+h*m.d:], r.Step*ck, m.scores[at:], total, false, nil)
		at += n
	}
	kernels.Scale(F(m.scale), m.scores, m.scores)
	kernels.Softmax(candidates, total, m.scores, m.scores)
	at = 0
	for k, r := range m.runs {
		n := r.Len()
		kernels.Gemm(false, false, candidates, m.dv, n, m.scores[at:], total, m.values[r.Lo*cv+h*m.dv:], r.Step*cv, o[h*m.dv:], cv, k > 0, nil)
		at += n
	}
}
