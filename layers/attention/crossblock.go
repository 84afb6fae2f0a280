package attention

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// CrossBlocks is block-local attention with a summary node for each block, behind the tokens. A token reads the tokens of its own
// block and the summaries of all others; a summary reads the tokens of its block and all summaries. Causal(CrossBlocks) reads
// earlier tokens of its own block and the summaries of earlier blocks, which are complete by then.
// Cost: n·B + n·n/B + (n/B)² pairs, hence n^1.5 for B = √n. The longest path is 2.
type CrossBlocks struct {
	alike
	Size int // B
	past bool
}

func (c CrossBlocks) String() string {
	if c.past {
		return fmt.Sprintf("causal(cross-blocks(%d))", c.Size)
	}
	return fmt.Sprintf("cross-blocks(%d)", c.Size)
}

func (c CrossBlocks) inPast() CrossBlocks {
	c.past = true
	return c
}

// FromEnd is true: the summaries stand behind the tokens there are.
func (CrossBlocks) FromEnd() bool  { return true }
func (c CrossBlocks) space() space { return space{every: c.Size} }

// split is how many of n nodes are tokens and summaries.
func (c CrossBlocks) split(n int) (tokens, blocks int) {
	tokens = c.space().tokens(n)
	return tokens, (tokens + c.Size - 1) / c.Size
}

func (c CrossBlocks) Sees(_, i, j, n int) bool {
	t, m := c.split(n)
	if !inside(i, j, t+m) {
		return false
	}
	switch {
	case i < t && j < t:
		return i/c.Size == j/c.Size && (!c.past || j <= i)
	case i < t && c.past:
		return j-t < i/c.Size
	case i < t:
		return j-t != i/c.Size
	case j < t:
		return j/c.Size == i-t
	}
	return !c.past || j <= i
}

func (c CrossBlocks) Row(_, i, n int, dst []Run) []Run {
	t, m := c.split(n)
	if i >= t+m {
		return dst
	}
	if i >= t {
		dst = appendRun(dst, (i-t)*c.Size, min(t, (i-t+1)*c.Size), 1)
		if c.past {
			return appendRun(dst, t, i+1, 1)
		}
		return appendRun(dst, t, t+m, 1)
	}
	own := i / c.Size
	if c.past {
		return appendRun(appendRun(dst, own*c.Size, i+1, 1), t, t+own, 1)
	}
	dst = appendRun(dst, own*c.Size, min(t, (own+1)*c.Size), 1)
	return appendRun(appendRun(dst, t, t+own, 1), t+own+1, t+m, 1)
}

func (c CrossBlocks) Col(_, j, n int, dst []Run) []Run {
	t, m := c.split(n)
	if j >= t+m {
		return dst
	}
	if j >= t {
		own := j - t
		if c.past {
			return appendRun(appendRun(dst, min(t, (own+1)*c.Size), t, 1), j, t+m, 1)
		}
		return appendRun(appendRun(appendRun(dst, 0, own*c.Size, 1), min(t, (own+1)*c.Size), t, 1), t, t+m, 1)
	}
	own := j / c.Size
	first := own * c.Size
	if c.past {
		first = j
	}
	return append(appendRun(dst, first, min(t, (own+1)*c.Size), 1), Run{t + own, t + own + 1, 1})
}

func (c CrossBlocks) NNZ(h, n int) int64 {
	t, m := c.split(n)
	local, b := Blocks{Size: c.Size}, int64(m)
	if !c.past {
		return local.NNZ(h, t) + int64(t)*max(b-1, 0) + int64(t) + b*b
	}
	whole, rest := int64(t/c.Size), int64(t%c.Size) // a token of block k reads k summaries
	earlier := int64(c.Size)*whole*(whole-1)/2 + rest*whole
	return local.causalNNZ(t) + earlier + int64(t) + triangle(m)
}

// blockRows lets row b read the tokens of block b.
type blockRows struct {
	alike
	size int
}

func (p blockRows) String() string           { return fmt.Sprintf("block-rows(%d)", p.size) }
func (p blockRows) Sees(_, i, j, n int) bool { return inside(i, j, n) && j/p.size == i }
func (p blockRows) Row(_, i, n int, dst []Run) []Run {
	return appendRun(dst, min(n, i*p.size), min(n, (i+1)*p.size), 1)
}
func (p blockRows) Col(_, j, _ int, dst []Run) []Run {
	return append(dst, Run{j / p.size, j/p.size + 1, 1})
}
func (p blockRows) NNZ(_, n int) int64 { return int64(n) }

// otherBlocks lets token i read the summaries of the blocks that are not its own, of earlier ones if past.
type otherBlocks struct {
	alike
	size int
	past bool
}

func (p otherBlocks) String() string { return fmt.Sprintf("other-blocks(%d,%v)", p.size, p.past) }
func (p otherBlocks) Sees(_, i, j, n int) bool {
	return inside(i, j, n) && j != i/p.size && (!p.past || j < i/p.size)
}
func (p otherBlocks) Row(_, i, n int, dst []Run) []Run {
	dst = appendRun(dst, 0, i/p.size, 1)
	if p.past {
		return dst
	}
	return appendRun(dst, i/p.size+1, n, 1)
}
func (p otherBlocks) Col(_, j, n int, dst []Run) []Run {
	if !p.past {
		dst = appendRun(dst, 0, min(n, j*p.size), 1)
	}
	return appendRun(dst, min(n, (j+1)*p.size), n, 1)
}
func (p otherBlocks) NNZ(h, n int) int64 { return countRows(p, h, n) }

// crossBlock is attention on CrossBlocks. Per head, c_b pools the tokens of block b by a learned query; summaries read each other
// and become c'_b; one softmax of token i is over its own block and the c' of others.
//
// Source: position 1 of the ways across blocks; the summary's query is the token's W_q, and W_ck, W_cv make keys and values of
// summaries wherever they are read. Summaries carry no positions of their own.
type crossBlock struct{ of CrossBlocks }

func (c crossBlock) Pattern() Pattern { return c.of }

func (c crossBlock) Mix(b *layers.Builder, in Stream) *Node {
	q, k, v := in.Split(b)
	if b.Err() != nil {
		return nil
	}
	batch, t, width := q.Shape()[0], q.Shape()[1], q.Shape()[2]
	blocks := (t + c.of.Size - 1) / c.of.Size
	counts := layers.BlockCounts(b, in.Lens, c.of.Size)

	// c: [B,blocks,H·D]
	query := layers.Broadcast(b, b.Param("summary_query", layers.Normal(0.02), 1, width), batch)
	query = layers.Gather(b, query, b.Const(fmt.Sprint("rows.first.", blocks), tensor.New(tensor.Of(tensor.Int32), tensor.WithShape(blocks))))
	pooling := in.Config(blockRows{size: c.of.Size})
	pooling.Cross, pooling.LensQ = true, counts
	pooled, _ := Attend(b, pooling, query, k, v)

	// c'
	among := in.Config(Full{})
	if c.of.past {
		among.Pattern = Causal(Full{})
	}
	among.Lens = counts
	summaries, _ := Attend(b, among, in.Project(b, 0, pooled), in.Linear(b.Scope("summary_key"), pooled), in.Linear(b.Scope("summary_value"), pooled))

	local := in.Config(Blocks{Size: c.of.Size})
	if c.of.past {
		local.Pattern = Causal(local.Pattern)
	}
	var parts [2]Part
	parts[0].O, parts[0].LSE = Attend(b, local, q, k, v)
	others := in.Config(otherBlocks{size: c.of.Size, past: c.of.past})
	others.Cross, others.LensQ, others.Lens = true, in.Lens, counts
	parts[1].O, parts[1].LSE = Attend(b, others, q, in.Linear(b.Scope("summary_key"), summaries), in.Linear(b.Scope("summary_value"), summaries))
	return Merge(b, parts[:]...).O
}

// crossEntry is CrossBlocks.
type crossEntry struct {
	kind
	BlockSize *int `json:"block_size"`
}

func (e *crossEntry) check() []error { return checkPositive(nil, "block_size", e.BlockSize) }
func (e *crossEntry) pattern(at Layer) (Pattern, error) {
	p := CrossBlocks{Size: *e.BlockSize}
	if at.Decoder {
		p = p.inPast()
	}
	return p, nil
}
func (e *crossEntry) mixer(at Layer) (Mixer, error) {
	p, err := e.pattern(at)
	return crossBlock{p.(CrossBlocks)}, err
}
