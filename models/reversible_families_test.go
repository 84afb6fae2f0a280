package models

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// reversibles are models with reversible residuals of every skeleton and family that may have them, with dropout.
var reversibles = map[string]string{
	"decoder": `{"model_type":"decoder","vocab_size":19,"hidden_size":12,"intermediate_size":14,"num_hidden_layers":4,"num_attention_heads":3,
		"max_position_embeddings":29,"residual":"reversible","hidden_dropout_prob":0.2,"attention":[{"type":"band","window_left":3},{"type":"sparse_fixed","stride":4,"summary":1}]}`,
	"encoder": `{"model_type":"encoder","vocab_size":19,"hidden_size":12,"intermediate_size":14,"num_hidden_layers":4,"num_attention_heads":2,"task":"masked_lm",
		"max_position_embeddings":29,"residual":"reversible","hidden_dropout_prob":0.2,"attention":[{"type":"etc","num_globals":2,"local_radius":2}]}`,
	"encoder_decoder": `{"model_type":"encoder_decoder","vocab_size":19,"hidden_size":12,"decoder_start_token_id":1,"pad_token_id":0,"hidden_dropout_prob":0.2,
		"encoder":{"num_hidden_layers":3,"num_attention_heads":3,"max_position_embeddings":29,"residual":"reversible","attention":[{"type":"blocks","block_size":4}]},
		"decoder":{"num_hidden_layers":3,"num_attention_heads":2,"max_position_embeddings":29,"residual":"reversible","attention":[{"type":"full"}],"cross_attention":[{"type":"full"}]}}`,
	"etc": `{"model_type":"etc","vocab_size":19,"hidden_size":12,"intermediate_size":14,"num_hidden_layers":4,"num_attention_heads":3,"num_globals":3,
		"local_radius":2,"label_clip":2,"residual":"reversible","hidden_dropout_prob":0.2,"initializer_range":0.2}`,
	"image_transformer": `{"model_type":"image_transformer","vocab_size":5,"height":3,"width":4,"hidden_size":12,"intermediate_size":14,"num_hidden_layers":4,
		"num_attention_heads":3,"norm":"pre","residual":"reversible","hidden_dropout_prob":0.2,"attention":[{"type":"image1d","query_block":3,"memory":4}]}`,
	"axial_transformer": `{"model_type":"axial_transformer","vocab_size":5,"height":3,"width":4,"channels":2,"hidden_size":12,"intermediate_size":14,
		"num_attention_heads":3,"encoder_layers":2,"outer_layers":4,"inner_layers":3,"residual":"reversible","hidden_dropout_prob":0.2}`,
}

// TestReversibleFamilies: the gradient of every model that may be reversible is that of finite differences along a direction in all weights, with
// dropout, and with anchors.
func TestReversibleFamilies(t *testing.T) {
	for name, text := range reversibles {
		for _, layersPerBlock := range []int{0, 2, 3} {
			m, err := New([]byte(text))
			require.NoError(t, err)
			params, err := NewParams(m, tensor.Float64, 5)
			require.NoError(t, err)
			for k, p := range params.All() { // away from zeros
				for i := range p.Value.Float64s() {
					p.Value.Float64s()[i] += 0.2 * math.Sin(float64(i*7+k))
				}
			}
			const batch = 2
			length := 23
			if of, ok := m.(interface{ levels() int }); ok {
				length = of.levels()
			}
			b := layers.New(gorgonia.NewGraph(), params, layers.Options{Seed: 3, Training: true})
			in := Inputs{IDs: intsOf(b, "ids", tokens(batch*length, m.Dims().Vocab), batch, length), TargetIDs: intsOf(b, "target", tokens(batch*11, m.Dims().Vocab), batch, 11)}
			out := m.Forward(b, in, layersPerBlock)
			require.NoError(t, b.Err())
			d := b.Input("weights", tensor.Float64, out.Logits.Shape()...)
			of := layers.InputValue(d).Float64s()
			for i := range of {
				of[i] = math.Sin(float64(i*i%1009) + 0.3)
			}
			ps, wrt := b.Weights()
			gs, err := engine.VJP(layers.Nodes{out.Logits}, layers.Nodes{d}, wrt, &engine.Recompute{Cheap: true, Block: b.BlockOf})
			require.NoError(t, err)
			compile := func(outs layers.Nodes) *engine.Program {
				p, err := engine.Compile(b.Graph(), outs, engine.Options{Scope: b.ScopeOf, CheckFinite: true, Poison: true})
				require.NoError(t, err)
				return p
			}
			backward, forward := compile(gs), compile(layers.Nodes{out.Logits})
			layers.InputValue(b.Step()).Int32s()[0] = 7
			require.NoError(t, backward.Run())
			along := func(p, k int) float64 { return math.Cos(float64(3*k + p)) }
			dot := 0.0
			for i, g := range gs {
				for k, v := range engine.Floats[float64](backward.Value(g)) {
					dot += v * along(i, k)
				}
			}
			value := func(shift float64) (sum float64) {
				for i, p := range ps {
					for k := range p.Value.Float64s() {
						p.Value.Float64s()[k] += shift * along(i, k)
					}
				}
				require.NoError(t, forward.Run())
				for i, v := range engine.Floats[float64](forward.Value(out.Logits)) {
					sum += v * of[i]
				}
				return sum
			}
			const eps = 1e-6
			up, down := value(eps), value(-2*eps)
			require.InEpsilon(t, (up-down)/(2*eps), dot, 1e-6, "%s, anchors after %d layers", name, layersPerBlock)
		}
	}
}

// TestReversibleThreeSums: the decoder of an encoder-decoder is x2 + attention(x1), x1 + cross(x2), x2 + feed(x1) with changing places, by the
// streams' definition, and reversible models are written token by token as they are trained (TestSeq2SeqSessionEqualsForward).
func TestReversibleThreeSums(t *testing.T) {
	m, err := New([]byte(strings.ReplaceAll(reversibles["encoder_decoder"], "0.2", "0")))
	require.NoError(t, err)
	params := scrambled(t, m)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	in := Inputs{IDs: intsOf(b, "ids", tokens(23, 19), 1, 23), TargetIDs: intsOf(b, "target", tokens(11, 19), 1, 11)}
	got := m.Forward(b, in, 0).Logits
	halves := m.(Seq2Seq).halves()
	e, d := &halves.encoder, &halves.decoder
	mem, _ := e.run(b, in, memory{}, 0)
	target := Inputs{IDs: in.TargetIDs}
	x := d.embed(b, target)
	s := [2]*Node{x, x}
	for i := range 3 * d.Layers {
		lb, from := b.Scope(fmt.Sprint(d.names.layer, i/3)), s[1-i%2]
		var add *Node
		switch i % 3 {
		case 0:
			add = d.attend(lb, i/3, from, nil, target)
		case 1:
			add = d.attendMemory(lb, i/3, from, nil, target, memory{x: mem})
		case 2:
			add = d.feed(lb, from, nil)
		}
		s[i%2] = layers.Add(b, s[i%2], add)
	}
	want := d.languageHead(b, d.norm(b, d.names.final, layers.Scale(b, layers.Add(b, s[0], s[1]), 0.5)))
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), layers.Nodes{got, want}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	require.InDeltaSlice(t, engine.Floats[float64](p.Value(want)), engine.Floats[float64](p.Value(got)), 1e-12)
}

// TestReversibleRefused: what cannot be reversible says why.
func TestReversibleRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"model_type":"decoder","norm":"post","residual":"reversible",%s}`:                                                    "norm pre",
		`{"model_type":"encoder","residual":"reversible","attention":[{"type":"hier_block","block_size":2,"pool":"mean"}],%s}`: "coarser rows",
		`{"model_type":"image_transformer","residual":"reversible","height":3,"width":4,%s}`:                                   "norm pre",
		`{"model_type":"bp_transformer","residual":"reversible",%s}`:                                                           "the attention bp in a decoder",
		`{"model_type":"star_transformer","residual":"reversible","num_labels":2,%s}`:                                          "take turns",
		`{"model_type":"bert","residual":"reversible",%s}`:                                                                     "only reformer",
		`{"model_type":"gpt2","residual":"reversible","n_embd":12,"n_head":2}`:                                                 "a decoder",
		`{"model_type":"axial_transformer","residual":"revers","height":3,"width":4,"vocab_size":5,"hidden_size":12}`:          `"reversible"`,
		`{"model_type":"etc","residual":"revers",%s}`:                                                                          `"reversible"`,
		`{"model_type":"longformer","residual":"reversible","attention_window":[4,4],"num_hidden_layers":2,%s,"x":[1]}`:        "only reformer",
		`{"model_type":"encoder_decoder","norm":"post","decoder":{"residual":"reversible","num_hidden_layers":1},%s}`:          "norm pre",
	} {
		if strings.Contains(text, "%s") {
			sizes := `"vocab_size":31,"hidden_size":12,"num_attention_heads":2`
			if !strings.Contains(text, "num_hidden_layers") {
				sizes += `,"num_hidden_layers":2`
			}
			text = fmt.Sprintf(text, sizes)
		}
		_, err := New([]byte(text))
		require.ErrorContains(t, err, "residual", text)
		require.ErrorContains(t, err, want, text)
	}
	_, err := New([]byte(`{"model_type":"gpt2","residual":"plain","n_embd":12,"n_head":2}`))
	require.NoError(t, err)
}

// handing is an attention that hands out more than its result: a term of the loss that depends on its inner nodes, and sums for state.
type handing struct{ attention.Plain }

func (m handing) Mix(b *layers.Builder, s attention.Stream) *Node {
	o := m.Plain.Mix(b, s)
	if b.Err() != nil {
		return nil
	}
	square := layers.Mul(b, o, o)
	sums := layers.Sum(b, square)
	b.Update(layers.StateUpdate{Parts: []layers.StatePart{{Node: sums}}})
	return b.AddLoss(o, layers.Reshape(b, layers.Mean(b, square), 1))
}

// TestReversibleHandsOut: branches that hand out a term of the loss and sums for state have the gradients of plain two streams, and what is held does
// not grow with depth.
func TestReversibleHandsOut(t *testing.T) {
	run := func(depth int, stored bool) (grads [][]float64, held int) {
		m, err := New([]byte(fmt.Sprintf(`{"model_type":"decoder","vocab_size":31,"hidden_size":48,"intermediate_size":80,"num_hidden_layers":%d,
			"num_attention_heads":3,"max_position_embeddings":128,"residual":"reversible","attention":[{"type":"band","window_left":9}]}`, depth)))
		require.NoError(t, err)
		s := m.(Causal).causal()
		for l := range s.mixers {
			s.mixers[l] = handing{s.mixers[l].(attention.Plain)}
		}
		b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{Seed: 3, Training: true})
		in := Inputs{IDs: intsOf(b, "input_ids", tokens(2*67, 31), 2, 67)}
		x := layers.Embedding(b.Scope("e"), in.IDs, s.Vocab, s.Hidden, layers.Normal(1))
		var y *Node
		if stored {
			y = twoStreams(s, b, x, in)
		} else {
			y = s.reversible(b, x, in, memory{}, 0)
		}
		dy := b.Input("dy", tensor.Float64, 2, 67, s.Hidden)
		w := b.LossWeight()
		own := b.Terms(nil)
		require.NoError(t, b.Err())
		layers.InputValue(w).Float64s()[0] = 30
		for i := range layers.InputValue(dy).Float64s() {
			layers.InputValue(dy).Float64s()[i] = math.Sin(float64(i))
		}
		_, wrt := b.Weights()
		gs, err := engine.VJP(layers.Nodes{y, own}, layers.Nodes{dy, w}, wrt, nil)
		require.NoError(t, err)
		outs := append(slices.Clone(gs), own)
		for _, u := range b.Updates() {
			outs = append(outs, u.Parts[0].Node)
		}
		require.Len(t, b.Updates(), depth, "once a layer: not again for the gradient")
		p, err := engine.Compile(b.Graph(), outs, engine.Options{Poison: true})
		require.NoError(t, err)
		for _, g := range gs {
			held += 8 * g.Shape().TotalSize()
		}
		if depth < 32 { // of the deep ones the plan is enough
			require.NoError(t, p.Run())
			require.Positive(t, engine.Floats[float64](p.Value(own))[0])
			for _, g := range gs {
				grads = append(grads, slices.Clone(engine.Floats[float64](p.Value(g))))
			}
		}
		return grads, p.Plan().Arena - held
	}
	want, _ := run(4, true)
	got, few := run(4, false)
	for i := range want {
		require.InDeltaSlice(t, want[i], got[i], 1e-10)
	}
	_, many := run(32, false)
	require.LessOrEqual(t, float64(many), 1.05*float64(few))
	_, stored := run(32, true)
	require.Greater(t, stored, 4*many)
}

// TestReversibleFamiliesMemory: in every one of them what a training step holds besides the gradients of weights does not grow with depth, but for what is
// computed of weights alone (tables of labels) and the rounding of sizes.
func TestReversibleFamiliesMemory(t *testing.T) {
	for name, text := range reversibles {
		held := map[string]float64{}
		for _, depth := range []string{"4", "16"} {
			text := text
			for _, key := range []string{"num_hidden_layers", "encoder_layers", "outer_layers", "inner_layers"} {
				for _, n := range []string{"2", "3", "4"} {
					text = strings.ReplaceAll(text, fmt.Sprintf(`"%s":%s,`, key, n), fmt.Sprintf(`"%s":%s,`, key, depth))
				}
			}
			m, err := New([]byte(text))
			require.NoError(t, err)
			length := 23
			if of, ok := m.(interface{ levels() int }); ok {
				length = of.levels()
			}
			b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float32), layers.Options{Seed: 3, Training: true})
			in := Inputs{IDs: intsOf(b, "ids", tokens(9*length, m.Dims().Vocab), 9, length), TargetIDs: intsOf(b, "target", tokens(9*length, m.Dims().Vocab), 9, length)}
			out := m.Forward(b, in, 0)
			require.NoError(t, b.Err())
			d := b.Input("weights", tensor.Float32, out.Logits.Shape()...)
			_, wrt := b.Weights()
			gs, err := engine.VJP(layers.Nodes{out.Logits}, layers.Nodes{d}, wrt, &engine.Recompute{Cheap: true})
			require.NoError(t, err)
			p, err := engine.Compile(b.Graph(), gs, engine.Options{})
			require.NoError(t, err)
			held[depth] = float64(p.Plan().Arena)
			for _, g := range gs {
				held[depth] -= float64(4 * g.Shape().TotalSize())
			}
		}
		require.LessOrEqual(t, held["16"], 1.25*held["4"], name)
	}
}
