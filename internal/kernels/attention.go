package kernels

import (
	"errors"
	"fmt"
)

// Rows is a tensor [batch, token, head, channel] inside a slice: element (b,t,h,c) is Data[b*Batch + t*Row + h*Head + c].
// Queries, keys and values that one projection wrote side by side share Data, each with an offset.
type Rows[F Float] struct {
	Data             []F
	Batch, Row, Head int
}

// at returns the slice that starts at row t of (b, h).
func (r *Rows[F]) at(b, h, t int) []F { return r.Data[b*r.Batch+h*r.Head+t*r.Row:] }

// Attention is one call of block-sparse softmax attention: for every example b and head h,
//
//	S = Scale * Q K^T on the visible pairs,  LSE = log sum exp S,  P = exp(S - LSE),  O = P V.
//
// Nothing of the size TQ x TK is stored: the forward pass keeps a running maximum and sum for each query (Milakov and
// Gimelshein 2018; Dao et al. 2022, FlashAttention), the backward pass computes P again, tile by tile.
//
// A query without a visible key (none in the layout, or all beyond LensK) and a query beyond LensQ have O = 0, LSE = -Inf and
// zero gradients. A score that is NaN makes its query NaN; a NaN among the values reaches every query that shares a tile with it.
//
// Cost: two products of 64x64xD for each listed tile forward, five backward; memory O(TQ), and for few heads (B*H < 16) up to
// ceil(16/(B*H)) copies of the parts of DK and DV that several groups of queries reach. Work is cut by shape only: the result
// has the same bits for any number of workers. No allocation once the same shape has run.
type Attention[F Float] struct {
	B, H, TQ, TK int // TQ, TK: rows of the layouts
	D, DV        int // channels of a head: of queries and keys; of values
	Scale        F
	Layouts      []*Layout // one for all heads, one for each of H, or one for each of B·H; NQ = TQ, NK = TK
	LensQ, LensK []int32   // valid tokens of each example; nil: all

	// IndexQ and IndexK map a row of the layout to a token, so that a pattern can be laid out in permuted coordinates: [T], or
	// [B,T], or [B,H,T]; nil: row t is token t; below 0: the row stands for no token. A token may occur in several rows of
	// IndexK (its gradients add up) but only in one row of IndexQ (of several, one wins). TokensQ and TokensK are the numbers
	// of tokens then (0: TQ and TK); a token without a row is one without keys.
	IndexQ, IndexK   []int32
	TokensQ, TokensK int

	// RowsQ, with IndexQ and IndexK: O, LSE and their gradients are by row of the layouts instead of by token, so that a token may have
	// several rows, whose gradients of Q add up.
	RowsQ bool
	// Add, with IndexQ and IndexK and without RowsQ: what the pairs give is brought together with what O and LSE hold already, as by
	// Merge, and added to what DQ, DK and DV hold. Backward wants O and LSE of all pairs, those of other calls too. So one call for
	// each round of hashing needs no memory of its own.
	Add bool

	Q, K, V, O Rows[F]
	LSE        []F // [B,H,tokens of Q], natural logarithm

	// Labels, one for all heads or one for each of H, make S = Scale * (Q K^T + Q·R[label]) + Bias[label]. R and Bias are rows by
	// label, of D channels and of one (their Batch is not used, a Head of 0 shares them among heads); without Data they are 0.
	// Backward adds to DR and DBias, which lie in the same way. Cost: O(T·labels·D) and about a tenth of a tile for each tile that
	// has several labels.
	Labels []*Labels

	// Edges, one for all heads, for each of H or for each of B·H, are lists of pairs in place of Layouts and Labels; NQ <= TQ and NK <= TK,
	// tokens beyond are not read and read nothing. The cost is that of the pairs: two products of D forward and five backward, and
	// 2 numbers a pair kept during the backward pass, for one head at a time if they are many.
	Edges []*Edges

	R, Bias, DR, DBias Rows[F]
}

// ErrAttention marks the errors of an Attention whose parts do not fit.
var ErrAttention = errors.New("attention")

// tokens returns the numbers of tokens of queries and keys.
func (a *Attention[F]) tokens() (q, k int) {
	q, k = a.TQ, a.TK
	if a.IndexQ != nil && a.TokensQ > 0 {
		q = a.TokensQ
	}
	if a.IndexK != nil && a.TokensK > 0 {
		k = a.TokensK
	}
	return q, k
}

// outputs returns the number of rows of O and LSE.
func (a *Attention[F]) outputs() int {
	if a.RowsQ {
		return a.TQ
	}
	q, _ := a.tokens()
	return q
}

// Forward writes O and LSE from Q, K and V. An error says which part does not fit; nothing is written then.
func (a *Attention[F]) Forward() error {
	if err := a.check(); err != nil {
		return err
	}
	if a.Edges != nil {
		j := takeEdgeJob(a)
		defer j.release()
		Phases(2, j.forwardTasks, j.forward)
		return nil
	}
	j := attnPool[F]().Take(newAttnJob[F])
	defer j.release()
	j.begin(a)
	Phases(2, j.forwardTasks, j.forward)
	return nil
}

// Backward writes DQ, DK and DV (all of them: every token of every example) from Q, K, V, O, LSE and the gradients of O and of
// LSE; dLSE, laid out as LSE, may be nil. O and LSE are those of Forward, unchanged. The gradients must not overlap the inputs.
func (a *Attention[F]) Backward(dO Rows[F], dLSE []F, dQ, dK, dV Rows[F]) error {
	if err := a.check(); err != nil {
		return err
	}
	tq, tk := a.tokens()
	out := a.outputs()
	if dLSE != nil && len(dLSE) < a.B*a.H*out {
		return fmt.Errorf("%w: dLSE has %d values, [B,H,T] = %d are needed", ErrAttention, len(dLSE), a.B*a.H*out)
	}
	if err := errors.Join(fits("dO", &dO, a.B, a.H, out, a.DV), fits("dQ", &dQ, a.B, a.H, tq, a.D),
		fits("dK", &dK, a.B, a.H, tk, a.D), fits("dV", &dV, a.B, a.H, tk, a.DV)); err != nil {
		return err
	}
	if v := a.labelCount(); v > 0 {
		if a.R.Data != nil {
			if err := fits("DR", &a.DR, 1, a.H, v, a.D); err != nil {
				return err
			}
		}
		if a.Bias.Data != nil {
			if err := fits("DBias", &a.DBias, 1, a.H, v, 1); err != nil {
				return err
			}
		}
	}
	if a.Edges != nil {
		j := takeEdgeJob(a)
		defer j.release()
		j.dO, j.dLSE, j.dQ, j.dK, j.dV = dO, dLSE, dQ, dK, dV
		j.cut()
		if heads := a.B * a.H; heads > 0 {
			Phases((heads+j.group-1)/j.group*edgePhases, j.backwardTasks, j.backward)
		}
		return nil
	}
	j := attnPool[F]().Take(newAttnJob[F])
	defer j.release()
	j.begin(a)
	j.dO, j.dLSE, j.dQ, j.dK, j.dV = dO, dLSE, dQ, dK, dV
	j.cut()
	Phases(4, j.backwardTasks, j.backward)
	return nil
}

// check reports what would read or write beyond a slice.
func (a *Attention[F]) check() error {
	tq, tk := a.tokens()
	if a.B < 0 || a.H < 0 || a.TQ < 0 || a.TK < 0 || a.D < 1 || a.DV < 1 || a.TokensQ < 0 || a.TokensK < 0 {
		return fmt.Errorf("%w: size B=%d H=%d TQ=%d TK=%d D=%d DV=%d", ErrAttention, a.B, a.H, a.TQ, a.TK, a.D, a.DV)
	}
	if a.Edges != nil {
		if err := a.checkEdges(); err != nil {
			return err
		}
	} else if n := len(a.Layouts); n != 1 && n != a.H && n != a.B*a.H {
		return fmt.Errorf("%w: %d layouts for %d heads of %d examples: give one, one for each head, or one for each of all", ErrAttention, n, a.H, a.B)
	}
	if a.Add && (a.IndexQ == nil || a.IndexK == nil || a.RowsQ || a.Edges != nil || a.Labels != nil) {
		return fmt.Errorf("%w: Add wants IndexQ and IndexK, and no RowsQ, Edges or Labels", ErrAttention)
	}
	if a.RowsQ && (a.IndexQ == nil || a.IndexK == nil || a.Edges != nil) {
		return fmt.Errorf("%w: RowsQ wants IndexQ and IndexK, and no Edges", ErrAttention)
	}
	for i, l := range a.Layouts {
		if l.NQ != a.TQ || l.NK != a.TK {
			return fmt.Errorf("%w: layout %d is for %d queries and %d keys, not %d and %d", ErrAttention, i, l.NQ, l.NK, a.TQ, a.TK)
		}
	}
	if out := a.outputs(); len(a.LSE) < a.B*a.H*out {
		return fmt.Errorf("%w: LSE has %d values, [B,H,T] = %d are needed", ErrAttention, len(a.LSE), a.B*a.H*out)
	}
	if err := errors.Join(a.checkSide("Q", a.LensQ, a.IndexQ, a.TQ, tq), a.checkSide("K", a.LensK, a.IndexK, a.TK, tk)); err != nil {
		return err
	}
	if err := a.checkLabels(); err != nil {
		return err
	}
	if a.B*a.H == 0 {
		return nil
	}
	if err := fits("Q", &a.Q, a.B, a.H, tq, a.D); err != nil {
		return err
	}
	if err := fits("K", &a.K, a.B, a.H, tk, a.D); err != nil {
		return err
	}
	if err := fits("V", &a.V, a.B, a.H, tk, a.DV); err != nil {
		return err
	}
	return fits("O", &a.O, a.B, a.H, a.outputs(), a.DV)
}

// checkSide checks lengths and index of the queries or of the keys.
func (a *Attention[F]) checkSide(name string, lens, index []int32, rows, tokens int) error {
	if lens != nil && len(lens) != a.B {
		return fmt.Errorf("%w: Lens%s has %d entries for %d examples", ErrAttention, name, len(lens), a.B)
	}
	if index == nil {
		return nil
	}
	if n := len(index); n != rows && n != a.B*rows && n != a.B*a.H*rows {
		return fmt.Errorf("%w: Index%s has %d entries, [T], [B,T] or [B,H,T] of B=%d H=%d T=%d are needed", ErrAttention, name, n, a.B, a.H, rows)
	}
	for i, t := range index {
		if int(t) >= tokens {
			return fmt.Errorf("%w: Index%s[%d] is token %d of %d", ErrAttention, name, i, t, tokens)
		}
	}
	return nil
}

// fits reports a tensor that does not lie within its slice.
func fits[F Float](name string, r *Rows[F], b, h, t, c int) error {
	if b*h*t == 0 {
		return nil
	}
	if r.Batch < 0 || r.Row < 0 || r.Head < 0 {
		return fmt.Errorf("%w: %s has a negative stride", ErrAttention, name)
	}
	if need := (b-1)*r.Batch + (t-1)*r.Row + (h-1)*r.Head + c; need > len(r.Data) {
		return fmt.Errorf("%w: %s has %d values, its shape and strides need %d", ErrAttention, name, len(r.Data), need)
	}
	return nil
}
