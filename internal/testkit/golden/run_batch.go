package golden

import (
	"fmt"
	"slices"
	"strings"
)

// Batch is the input of a model.
type Batch struct {
	B, T    int
	IDs     []int32   // [B,T]
	Vectors []float64 // [B,T,d] in place of IDs, of a model that reads vectors
	Mask    []bool    // [B,T], false for padding; nil: every token counts
	Types   []int32   // [B,T], token_type_ids; nil: 0
	Globals []bool    // [B,T], global_attention_mask; nil: what the model says itself

	U         int     // tokens that the decoder of an encoder-decoder reads
	TargetIDs []int32 // [B,U], decoder_input_ids; nil: the labels, one place to the right

	TargetMask []bool // [B,U], decoder_attention_mask, false for padding; nil: every token counts

	// Labels are, as Hugging Face has them: of a causal language model the tokens themselves [B,T], position t being scored by label
	// t+1; [B,T] of masked_lm and token_classification; [B,U] of an encoder-decoder; classes [B]; start and end [B,2] of an answer.
	// Negative ones are not scored; nil: no loss.
	Labels []int32
	Ends   bool      // labels are start and end
	Values []float64 // [B,outputs], labels of a regression

	Draws     map[int]*Tensor // rand/layerN.rand_attn, blocks that a layer of BigBird has drawn
	Rotations map[int]*Tensor // rand/lshN.rotations, of the layer of hashing number N

	Weights map[string]*Tensor // without labels: the loss is the sum of each output times its weights
}

// InputError says that tensors in/* cannot be used.
type InputError struct{ What string }

func (e *InputError) Error() string { return e.What }

func inputErrorf(format string, a ...any) error { return &InputError{fmt.Sprintf(format, a...)} }

// known are the inputs that a batch takes, besides loss_weight.*.
var known = []string{"input_ids", "vectors", "attention_mask", "token_type_ids", "global_attention_mask", "decoder_input_ids", "decoder_attention_mask", "labels", "start_positions", "end_positions"}

// Batch reads the inputs of a model from in/*.
//
// Errors: *InputError for an input that is missing, unknown or of the wrong shape.
func (c *Case) Batch() (Batch, error) {
	in := Batch{Weights: map[string]*Tensor{}}
	for _, name := range c.Names("rand/") {
		var layer int
		if n, _ := fmt.Sscanf(name, "layer%d.rand_attn", &layer); n == 1 {
			if in.Draws == nil {
				in.Draws = map[int]*Tensor{}
			}
			in.Draws[layer] = c.Rand(name)
		}
		if layer, what, ok := hashDraw(name); ok && what == "rotations" {
			if in.Rotations == nil {
				in.Rotations = map[int]*Tensor{}
			}
			in.Rotations[layer] = c.Rand(name)
		}
	}
	if err := in.read(c); err != nil {
		return Batch{}, err
	}
	var starts, ends []int32
	for _, name := range c.Names("in/") {
		t := c.In(name)
		if output, weight := strings.CutPrefix(name, "loss_weight."); weight {
			in.Weights[output] = t
			continue
		}
		want, ok := []int{in.B, in.T}, true
		switch name {
		case "input_ids", "vectors":
			continue
		case "labels":
			ok = len(t.Shape) == 1 && t.Shape[0] == in.B*in.T && in.B == 1 || len(t.Shape) > 0 && len(t.Shape) <= 2 && t.Shape[0] == in.B
			if ok && t.IsInt() {
				in.Labels = t.Int32s()
			} else if ok {
				in.Values = t.Float64s()
			}
		case "start_positions", "end_positions":
			want = []int{in.B}
			if ok = t.Size() == in.B && t.IsInt(); ok && name == "start_positions" {
				starts = t.Int32s()
			} else if ok {
				ends = t.Int32s()
			}
		case "decoder_input_ids":
			if ok = len(t.Shape) == 2 && t.Shape[0] == in.B && t.IsInt(); ok {
				in.TargetIDs, in.U = t.Int32s(), t.Shape[1]
			}
		case "decoder_attention_mask":
			if ok = len(t.Shape) == 2 && t.Shape[0] == in.B; ok && slices.Contains(t.Bools(), false) {
				in.TargetMask = t.Bools()
			}
		case "attention_mask", "token_type_ids", "global_attention_mask":
			if ok = t.Size() == in.B*in.T; !ok {
				break
			}
			switch {
			case name == "token_type_ids":
				in.Types = t.Int32s()
			case name == "global_attention_mask":
				in.Globals = t.Bools()
			case slices.Contains(t.Bools(), false):
				in.Mask = t.Bools()
			}
		default:
			return Batch{}, inputErrorf("in/%s is not an input of a model here; of %s it takes %s and loss_weight.*", name, c.listed("in/"), strings.Join(known, ", "))
		}
		if !ok {
			return Batch{}, inputErrorf("in/%s has shape %v, there are %d examples of %d tokens; want %v", name, t.Shape, in.B, in.T, want)
		}
	}
	if (starts == nil) != (ends == nil) {
		return Batch{}, inputErrorf("in/start_positions and in/end_positions go together")
	}
	in.Ends = starts != nil
	for b := range starts {
		in.Labels = append(in.Labels, starts[b], ends[b])
	}
	return in, nil
}

// read takes what the model reads: ids or vectors.
func (in *Batch) read(c *Case) error {
	x, name, axes := c.In("input_ids"), "input_ids", 2
	if v := c.In("vectors"); v != nil && x == nil {
		x, name, axes = v, "vectors", 3
	}
	switch {
	case x == nil:
		return inputErrorf("there is no in/input_ids; there are %s", c.listed("in/"))
	case axes == 2 && !x.IsInt() || x.Size() == 0:
		return inputErrorf("in/%s is %s of shape %v, want whole numbers [B,T]", name, x.Dtype, x.Shape)
	case axes == 2 && len(x.Shape) == 1:
		in.B, in.T = 1, x.Shape[0]
	case len(x.Shape) == axes:
		in.B, in.T = x.Shape[0], x.Shape[1]
	default:
		return inputErrorf("in/%s has shape %v, want [B,T]", name, x.Shape)
	}
	if axes == 2 {
		in.IDs = x.Int32s()
	} else {
		in.Vectors = x.Float64s()
	}
	return nil
}

// listed names the tensors with a prefix.
func (c *Case) listed(prefix string) string {
	names := c.Names(prefix)
	for i, n := range names {
		names[i] = prefix + n
	}
	if len(names) == 0 {
		return "no " + prefix + "*"
	}
	return strings.Join(names, ", ")
}

// targets are the labels of the next positions.
func (in Batch) targets() []int32 {
	out := make([]int32, len(in.Labels))
	for i := range out {
		out[i] = -100
		if (i+1)%in.T != 0 {
			out[i] = in.Labels[i+1]
		}
	}
	return out
}

// shifted are the labels one place to the right, behind the token that starts a text; labels that are not scored are padding.
func (in Batch) shifted(start, pad int32) []int32 {
	u := len(in.Labels) / in.B
	out := make([]int32, len(in.Labels))
	for i := range out {
		switch {
		case i%u == 0:
			out[i] = start
		case in.Labels[i-1] < 0:
			out[i] = pad
		default:
			out[i] = in.Labels[i-1]
		}
	}
	return out
}

// globals are the places of the global tokens, [B,G], -1 behind the last of an example.
func (in Batch) globals() (index []int32, g int) {
	counts := make([]int, in.B)
	for i, is := range in.Globals {
		if is {
			counts[i/in.T]++
		}
	}
	g = max(1, slices.Max(counts))
	for b := range in.B {
		for t, is := range in.Globals[b*in.T:][:in.T] {
			if is {
				index = append(index, int32(t))
			}
		}
		for len(index) < (b+1)*g {
			index = append(index, -1)
		}
	}
	return index, g
}

// Rows is the part of a batch from example b on to, and without, example end.
func (in Batch) Rows(b, end int) Batch {
	return Batch{B: end - b, T: in.T, U: in.U, Ends: in.Ends, IDs: rows(in, in.IDs, b, end), Vectors: rows(in, in.Vectors, b, end), Mask: rows(in, in.Mask, b, end),
		Types: rows(in, in.Types, b, end), Globals: rows(in, in.Globals, b, end), TargetIDs: rows(in, in.TargetIDs, b, end), TargetMask: rows(in, in.TargetMask, b, end),
		Labels: rows(in, in.Labels, b, end), Values: rows(in, in.Values, b, end), Draws: in.Draws, Rotations: in.Rotations}
}

// rows are the elements of some examples; nil stays nil.
func rows[E any](in Batch, x []E, b, end int) []E {
	if x == nil {
		return nil
	}
	each := len(x) / in.B
	return x[b*each : end*each]
}
