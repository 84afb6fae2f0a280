package golden

import (
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/models"
)

// hidesKeys are the families of Hugging Face whose padding is hidden as keys and reads as other queries do, each with what queries get
// that read nothing. All other models take the length of each example.
var hidesKeys = map[string]leftover{"gpt2": everyKey, "gpt_neo": hiddenOnce, "imagegpt": hiddenBefore, "bert": everyKey}

// padding tells a model which tokens are padding.
//
// Our own skeletons take the length of each example: padding stands on the right and attends to nothing.
//
// So do those of Hugging Face's families in which padding gives 0. The others hide padding as keys, wherever it stands, and leave it as queries: they add the smallest number to the
// scores of hidden keys. A query whose keys are all hidden then gives equal shares to the keys with the largest score. No token
// that counts reads such a row, but recorded logits hold it, so it is rebuilt here, and not in the models. See unread.
func padding(m models.Model, b *layers.Builder, in Batch, blocks *bigBird, given *models.Inputs) error {
	rule, hides := hidesKeys[m.Type()]
	if blocks != nil && m.Type() == "big_bird" {
		rule, hides = everyKey, blocks.dense
	}
	if !hides {
		lens, err := in.lengths()
		if err != nil {
			return err
		}
		given.Lens = b.Input("lengths", tensor.Int32, in.B)
		copy(layers.InputValue(given.Lens).Int32s(), lens)
		return nil
	}
	given.Attend = in.hiding(b, "attention_mask", rule)
	return nil
}

// hiding is attention whose keys of padding are hidden, and whose queries that read nothing get what the rule leaves them. What reads another sequence is
// left alone.
func (in Batch) hiding(b *layers.Builder, name string, rule leftover) attendFunc {
	index := in.hiddenKeys(b, name)
	return func(b *layers.Builder, _ int, c attention.Config, qkv ...*layers.Node) *layers.Node {
		if c.Cross {
			o, _ := attention.Attend(b, c, qkv[0], qkv[1], qkv[2])
			return o
		}
		c.IndexK = index
		var o *layers.Node
		if len(qkv) == 1 {
			o, _ = attention.AttendQKV(b, c, qkv[0])
		} else {
			o, _ = attention.Attend(b, c, qkv[0], qkv[1], qkv[2])
		}
		shares, moves, any := in.unreadRows(c.Pattern, rule)
		if !any || b.Err() != nil {
			return o
		}
		shape := []int{in.B, in.T, in.T}
		args := append([]*layers.Node{constant(b, "shares of "+c.Pattern.String(), shares, shape),
			constant(b, "moves of "+c.Pattern.String(), moves, shape)}, qkv...)
		return layers.Add(b, o, b.Op(unread{heads: c.Heads, scale: c.Scale, fused: len(qkv) == 1}, args...))
	}
}

// hiddenKeys is the mask as an index of keys, int32 [B,T]: -1 for padding.
func (in Batch) hiddenKeys(b *layers.Builder, name string) *layers.Node {
	index := b.Input(name, tensor.Int32, in.B, in.T)
	for i, counts := range in.Mask {
		v := int32(-1)
		if counts {
			v = int32(i % in.T)
		}
		layers.InputValue(index).Int32s()[i] = v
	}
	return index
}

// lengths counts the tokens of each example.
func (in Batch) lengths() ([]int32, error) {
	lens := make([]int32, in.B)
	for i, counts := range in.Mask {
		if b, t := i/in.T, int32(i%in.T); counts {
			if lens[b] != t {
				return nil, inputErrorf("in/attention_mask has padding before token %d of example %d; this model type takes padding on the right alone", t, b)
			}
			lens[b]++
		}
	}
	return lens, nil
}

// leftover tells of a query i without keys which keys j share it, and whether a change of the score would move the share: the
// smallest number that is added to a score swallows it but lets its gradient pass, while one in its place does not.
// sees is the pattern, counts says that the key is no padding.
type leftover func(sees, counts bool, i, j int) (shares, moves bool)

// everyKey is the rule where one mask hides padding and later keys: all have the same score.
func everyKey(_, _ bool, _, _ int) (shares, moves bool) { return true, true }

// hiddenOnce is the rule of GPT-Neo, where the window puts the smallest number in place of the score and the mask of later keys
// and padding adds it: keys that are hidden by both have minus infinity.
func hiddenOnce(sees, counts bool, i, j int) (shares, moves bool) {
	return j <= i && sees != counts, sees
}

// hiddenBefore is the rule of ImageGPT, which puts the smallest number in place of the scores of later keys, and adds it to those of padding.
func hiddenBefore(sees, counts bool, _, _ int) (shares, moves bool) { return sees != counts, sees }

// unreadRows gives, as [B,T,T], the shares of queries that read no key, zero for others, and where they move with the scores. It
// reports whether there is such a query.
func (in Batch) unreadRows(p attention.Pattern, rule leftover) (shares, moves []float64, any bool) {
	shares, moves = make([]float64, in.B*in.T*in.T), make([]float64, in.B*in.T*in.T)
	for r := range in.B * in.T {
		i, mask := r%in.T, in.Mask[r/in.T*in.T:][:in.T]
		reads, n := false, 0.0
		for j, counts := range mask {
			sees := p.Sees(0, i, j, in.T)
			reads = reads || sees && counts
			if s, _ := rule(sees, counts, i, j); s {
				n++
			}
		}
		for j, counts := range mask {
			if s, m := rule(p.Sees(0, i, j, in.T), counts, i, j); s && !reads {
				any = true
				shares[r*in.T+j] = 1 / n
				if m {
					moves[r*in.T+j] = 1
				}
			}
		}
	}
	return shares, moves, any
}
