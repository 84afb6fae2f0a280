package golden

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/models"
)

// bigBird is transformers' way with BigBird, where it is not that of attention.BigBird. It is followed here, for weights of its own that have
// no plan, to give and compare what it has recorded, and not in the models:
//
//   - sequences are padded to whole blocks, and the padded last block is the global one;
//   - what is not longer than 5 + 2·num_random_blocks blocks is dense, and padding reads as other queries do;
//   - a block that is drawn twice, or drawn and read anyway, counts as often in the softmax;
//   - draws are made in training alone: outside it every draw is block 0, which then counts 1 + num_random_blocks times.
type bigBird struct {
	size, count, heads int
	dense              bool
	hidden             *layers.Node    // keys that padding hides in the dense encoder of an encoder-decoder, as IndexK; nil: none
	draws              map[int]*Tensor // by layer, [heads, blocks-2, num_random_blocks]: what was drawn; none: block 0
}

// bigBirdOf is nil for other models, and for weights that came with a plan or were trained with one, if the batch has no draws.
func bigBirdOf(m models.Model, params *layers.Params, in Batch) (*bigBird, error) {
	if m.Type() != "big_bird" && m.Type() != "bigbird_pegasus" {
		return nil, nil
	}
	if len(in.Draws) == 0 && slices.ContainsFunc(params.AllInts(), func(t *layers.Ints) bool { return t.Stored }) {
		return nil, nil
	}
	text, err := m.Config()
	if err != nil {
		return nil, err
	}
	var c struct {
		Type  string `json:"attention_type"`
		Size  int    `json:"block_size"`
		Count int    `json:"num_random_blocks"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	dense := c.Type != "block_sparse" || in.T <= (5+2*c.Count)*c.Size
	return &bigBird{size: c.Size, count: c.Count, heads: m.Dims().Heads, dense: dense, draws: in.Draws}, nil
}

// IsDraw reports whether a tensor is a draw of the model that a run takes instead of one of its own.
func IsDraw(m models.Model, name string) bool {
	draw, is := strings.CutPrefix(name, "rand/")
	if m.Type() == "reformer" {
		_, _, ok := hashDraw(draw)
		return ok && is
	}
	_, ok := drawLayer(draw)
	return ok && is && (m.Type() == "big_bird" || m.Type() == "bigbird_pegasus")
}

// drawLayer is N of layerN.rand_attn.
func drawLayer(name string) (layer int, ok bool) {
	n, err := fmt.Sscanf(name, "layer%d.rand_attn", &layer)
	return layer, n == 1 && err == nil && name == fmt.Sprintf("layer%d.rand_attn", layer)
}

// check refuses draws that are none of the batch, which is in whole blocks.
func (r *bigBird) check(in Batch) error {
	nb := in.T / r.size
	for _, layer := range slices.Sorted(maps.Keys(r.draws)) {
		t := r.draws[layer]
		ok := t.IsInt() && slices.Equal(t.Shape, []int{r.heads, nb - 2, r.count})
		for _, j := range t.I {
			ok = ok && j >= 0 && j < int64(nb)
		}
		if !ok && !r.dense {
			return inputErrorf("rand/layer%d.rand_attn has shape %v, want whole numbers [%d,%d,%d] from 0 to %d: the blocks that each block draws", layer, t.Shape, r.heads, nb-2, r.count, nb-1)
		}
	}
	return nil
}

// padded is the batch in whole blocks.
func (r *bigBird) padded(m models.Model, in Batch) (Batch, error) {
	t := (in.T + r.size - 1) / r.size * r.size
	if t == in.T || r.dense {
		return in, nil
	}
	pad, sep, err := idsOf(m)
	if err != nil {
		return in, err
	}
	mask := in.Mask
	if mask == nil {
		mask = slices.Repeat([]bool{true}, in.B*in.T)
	}
	if in.Types == nil && m.Task() == "question_answering" { // those of the text: the blocks' padding has type 0 again
		in.Types = in.behind(sep)
	}
	longer := in
	longer.IDs, longer.Types = widened(in, in.IDs, t, pad), widened(in, in.Types, t, 0)
	longer.Mask, longer.T = widened(in, mask, t, false), t
	return longer, nil
}

// behind is 1 for the tokens behind the first id sep of each example, or behind the first token where there is none, and else 0.
func (in Batch) behind(sep int32) (types []int32) {
	for b := range in.B {
		ids := in.IDs[b*in.T:][:in.T]
		end := max(0, slices.Index(ids, sep))
		for t := range ids {
			kind := int32(0)
			if t > end {
				kind = 1
			}
			types = append(types, kind)
		}
	}
	return types
}

// idsOf are the ids of padding and of what ends a question.
func idsOf(m models.Model) (pad, sep int32, err error) {
	text, err := m.Config()
	if err != nil {
		return 0, 0, err
	}
	var c struct {
		Pad int32 `json:"pad_token_id"`
		Sep int32 `json:"sep_token_id"`
	}
	err = json.Unmarshal(text, &c)
	return c.Pad, c.Sep, err
}

// widened puts fill behind each row of [B,T]; nil stays nil.
func widened[E any](in Batch, x []E, t int, fill E) (out []E) {
	if x == nil {
		return nil
	}
	for b := range in.B {
		out = append(out, x[b*in.T:][:in.T]...)
		out = append(out, slices.Repeat([]E{fill}, t-in.T)...)
	}
	return out
}

// cut drops what padded has added from what transformers gives without it: results by token, and the last hidden states.
func (in Batch) cut(b *layers.Builder, named map[string]*layers.Node, task string, t int) {
	byToken, of := []string{"last_hidden_state", "start_logits", "end_logits"}, ""
	switch task {
	case "seq2seq_lm":
		byToken, of = []string{"encoder_last_hidden_state"}, "encoder_"
	case "causal_lm":
		byToken, of = []string{"logits"}, "none of "
	case "masked_lm", "token_classification", "question_answering":
		byToken = append(byToken, "logits")
	}
	last := 0
	for named[fmt.Sprint(of, "hidden_states.", last+1)] != nil {
		last++
	}
	for _, name := range append(byToken, fmt.Sprint(of, "hidden_states.", last)) {
		if n := named[name]; n != nil && b.Err() == nil {
			named[name] = layers.Slice(b, n, 1, 0, t)
		}
	}
}

// attend takes the place of the attention of every layer, and leaves to then, if it is there, how padding is hidden.
func (r *bigBird) attend(then attendFunc) attendFunc {
	return func(b *layers.Builder, layer int, c attention.Config, qkv ...*layers.Node) *layers.Node {
		sparse := strings.Contains(c.Pattern.String(), "big-bird(")
		switch encoder := !c.Cross && !strings.HasPrefix(c.Pattern.String(), "causal("); {
		case encoder && r.hidden != nil:
			c.Pattern, c.Lens, c.IndexK = attention.Full{}, nil, r.hidden
		case sparse && r.dense:
			c.Pattern = attention.Full{}
		case sparse:
			blocks := r.blocks(layer, qkv[0].Shape()[1]/r.size)
			c.Pattern, c.Labels = blocks, blocks
			bias := make([]float64, blocks.Count())
			for k := range bias {
				bias[k] = math.Log(float64(k + 1))
			}
			c.LabelBias = constant(b, "counts of "+blocks.String(), bias, []int{len(bias)})
		}
		if then != nil {
			return then(b, layer, c, qkv...)
		}
		o, _ := attention.Attend(b, c, qkv[0], qkv[1], qkv[2])
		return o
	}
}

// attendFunc is Inputs.Attend.
type attendFunc = func(b *layers.Builder, layer int, c attention.Config, in ...*layers.Node) *layers.Node

// blocks are those that each block of queries of a layer reads.
func (r *bigBird) blocks(layer, nb int) *countedBlocks {
	p := &countedBlocks{size: r.size, nb: nb, most: 3 + r.count}
	sum := fnv.New64a()
	for h := range r.heads {
		counts := make([]uint8, nb*nb)
		for i := range nb {
			row := counts[i*nb:][:nb]
			if i == 0 || i == nb-1 {
				for j := range row {
					row[j] = 1
				}
				continue
			}
			for _, j := range []int{i - 1, i, i + 1} {
				row[j]++
			}
			if i > 1 {
				row[0]++
			}
			if i < nb-2 {
				row[nb-1]++
			}
			for k := range r.count {
				j := 0
				if t := r.draws[layer]; t != nil {
					j = int(t.I[(h*(nb-2)+i-1)*r.count+k])
				}
				row[j]++
			}
		}
		sum.Write(counts)
		p.counts = append(p.counts, counts)
	}
	p.id = sum.Sum64()
	return p
}

// countedBlocks is a pattern of whole blocks that says how often each is read. Labels are one less.
type countedBlocks struct {
	size, nb, most int
	counts         [][]uint8 // by head, [nb,nb]
	id             uint64
}

func (p *countedBlocks) String() string {
	return fmt.Sprintf("counted-blocks(%d,%d)#%016x", p.size, p.nb, p.id)
}
func (p *countedBlocks) Heads() int    { return len(p.counts) }
func (p *countedBlocks) FromEnd() bool { return false }

// Count is how many labels there are.
func (p *countedBlocks) Count() int { return p.most }

// Label is how often a pair counts, less one.
func (p *countedBlocks) Label(h, i, j, _ int) int { return max(0, p.times(h, i/p.size, j/p.size)-1) }

func (p *countedBlocks) times(h, i, j int) int { return int(p.counts[h][i*p.nb+j]) }

func (p *countedBlocks) Sees(h, i, j, n int) bool {
	return i >= 0 && j >= 0 && i < n && j < n && p.times(h, i/p.size, j/p.size) > 0
}

func (p *countedBlocks) Row(h, i, n int, dst []attention.Run) []attention.Run {
	for j := range p.nb {
		if lo := j * p.size; lo < n && p.times(h, i/p.size, j) > 0 {
			dst = append(dst, attention.Run{Lo: lo, Hi: min(n, lo+p.size), Step: 1})
		}
	}
	return dst
}

func (p *countedBlocks) Col(h, j, n int, dst []attention.Run) []attention.Run {
	for i := range p.nb {
		if lo := i * p.size; lo < n && p.times(h, i, j/p.size) > 0 {
			dst = append(dst, attention.Run{Lo: lo, Hi: min(n, lo+p.size), Step: 1})
		}
	}
	return dst
}

func (p *countedBlocks) NNZ(h, n int) (total int64) {
	for i := range n {
		for _, r := range p.Row(h, i, n, nil) {
			total += int64(r.Len())
		}
	}
	return total
}
