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

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// pairText is an encoder-decoder of config.json.
func pairText(shared, encoder, decoder string) string {
	return fmt.Sprintf(`{"model_type":"encoder_decoder","vocab_size":29,"hidden_size":12,"decoder_start_token_id":27,"pad_token_id":26,"eos_token_id":28%s,
		"encoder":{"num_hidden_layers":2,"num_attention_heads":3,"intermediate_size":20,"max_position_embeddings":37%s},
		"decoder":{"num_hidden_layers":3,"num_attention_heads":2,"intermediate_size":16,"max_position_embeddings":31%s}}`, shared, encoder, decoder)
}

// pairs are encoder-decoders: those of config.json, with options of families where change is set.
var pairs = map[string]struct {
	text   string
	change func(m *seq2seq)
	again  bool
}{
	"rotary": {text: pairText("", "", "")},
	"sparse": {text: pairText("", `,"attention":[{"type":"band","window_left":3},{"type":"big_bird","block_size":3,"num_random_blocks":1}]`,
		`,"attention":[{"type":"band","window_left":4}],"cross_attention":[{"type":"band","window_left":5},{"type":"full"},{"type":"blocks","block_size":4}]`)},
	"post, learned, untied": {text: pairText(`,"norm":"post","tie_word_embeddings":false,"hidden_act":"silu"`, `,"position_embedding_type":"learned"`, `,"position_embedding_type":"sinusoidal"`)},
	"reversible":            {text: pairText("", `,"residual":"reversible"`, `,"residual":"reversible"`)},
	"as T5": {text: pairText("", `,"position_embedding_type":"none"`, `,"position_embedding_type":"none"`), change: func(m *seq2seq) {
		for _, s := range []*stack{&m.encoder, &m.decoder} {
			s.rms, s.names.gate, s.relative, s.names.relative = true, "mlp.gate", attention.Clipped{Max: 3}, "attn.relative"
			s.noQKV, s.noOut, s.noFeed, s.scales = true, true, true, []float64{1, 1, 1}
		}
		m.headScale = 0.3
	}},
	"as BART": {text: pairText(`,"norm":"post"`, `,"position_embedding_type":"learned"`, `,"position_embedding_type":"learned"`), change: func(m *seq2seq) {
		for _, s := range []*stack{&m.encoder, &m.decoder} {
			s.names.qkv, s.names.q, s.names.k, s.names.v = "", "attn.q", "attn.k", "attn.v"
			s.embedScale, s.padding = 1.5, 27
		}
		m.headBias = "final_logits_bias"
	}},
	"led": {text: `{"model_type":"led","vocab_size":29,"d_model":12,"encoder_layers":2,"decoder_layers":2,"encoder_attention_heads":3,"decoder_attention_heads":2,
		"encoder_ffn_dim":20,"decoder_ffn_dim":16,"max_encoder_position_embeddings":37,"max_decoder_position_embeddings":31,"pad_token_id":1,"eos_token_id":2,
		"decoder_start_token_id":2,"attention_window":[4,6],"dropout":0}`},
	"bigbird_pegasus": {text: `{"model_type":"bigbird_pegasus","vocab_size":29,"d_model":12,"encoder_layers":2,"decoder_layers":2,"encoder_attention_heads":3,
		"decoder_attention_heads":2,"encoder_ffn_dim":20,"decoder_ffn_dim":16,"max_position_embeddings":37,"block_size":3,"num_random_blocks":1,"dropout":0}`},
	"longt5": {text: `{"model_type":"longt5","vocab_size":29,"d_model":12,"d_kv":5,"d_ff":20,"num_layers":2,"num_decoder_layers":2,"num_heads":3,
		"relative_attention_num_buckets":6,"relative_attention_max_distance":15,"feed_forward_proj":"gated-gelu","local_radius":3,"dropout_rate":0}`},
	"longt5, transient global": {text: `{"model_type":"longt5","vocab_size":29,"d_model":12,"d_kv":5,"d_ff":20,"num_layers":2,"num_heads":3,
		"relative_attention_num_buckets":6,"relative_attention_max_distance":15,"feed_forward_proj":"silu","encoder_attention_type":"transient-global",
		"local_radius":3,"global_block_size":4,"dropout_rate":0}`},
	"trees": {text: pairText("", `,"position_embedding_type":"learned","attention":[{"type":"bp","k":2,"clip":3}]`, `,"position_embedding_type":"learned","attention":[{"type":"bp","k":2,"clip":3}]`)},
	"sorted": {text: pairText("", `,"attention":[{"type":"sinkhorn","block_size":1}]`, `,"cross_attention":[{"type":"sortcut","block_size":1,"slots":5},{"type":"full"},
		{"type":"sortcut","block_size":1,"slots":3,"sort_net":"linear"}]`), again: true},
	"hashing": {text: pairText("", `,"residual":"reversible","attention":[{"type":"lsh","chunk":3,"num_hashes":2},{"type":"local","chunk":4}]`,
		`,"residual":"reversible","attention":[{"type":"lsh","chunk":3,"num_hashes":2,"plan":"bucketRecent"}]`)},
	"clusters": {text: pairText("", `,"attention":[{"type":"routing","num_clusters":3,"window":5}]`,
		`,"attention":[{"type":"heads","parts":[{"heads":1,"attention":{"type":"routing","num_clusters":2,"window":3,"membership":"recent"}},{"heads":1,"attention":{"type":"band","window_left":3}}]},
		{"type":"routing","num_clusters":3,"membership":"recent","shared_qk":false},{"type":"heads","parts":[{"heads":2,"attention":{"type":"sinkhorn","block_size":4}}]}]`)},
	"recomputed": {text: pairText("", "", ""), change: func(m *seq2seq) {
		m.decoder.mixers = slices.Clone(m.decoder.mixers)
		m.decoder.mixers[1] = opaque{m.decoder.mixers[1].(attention.Plain)}
	}, again: true},
}

// eachPair runs a test on all of them.
func eachPair(t *testing.T, test func(t *testing.T, m Seq2Seq, params *layers.Params, again bool)) {
	for name, p := range pairs {
		t.Run(name, func(t *testing.T) {
			m, err := New([]byte(p.text))
			require.NoError(t, err)
			if p.change != nil {
				p.change(m.(Seq2Seq).halves())
			}
			params := scrambled(t, m)
			test(t, m.(Seq2Seq), params, p.again)
		})
	}
}

// pairGraph is a forward pass of sources and targets, with or without lengths.
type pairGraph struct {
	b   *layers.Builder
	in  Inputs
	out Outputs
}

func newPairGraph(t *testing.T, m Model, params *layers.Params, source, target []int32, batch int, lens, targetLens []int32, training ...bool) pairGraph {
	t.Helper()
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{Training: len(training) > 0})
	ints := func(name string, v []int32, shape ...int) *Node {
		if v == nil {
			return nil
		}
		n := b.Input(name, tensor.Int32, shape...)
		copy(layers.InputValue(n).Int32s(), v)
		return n
	}
	in := Inputs{IDs: ints("source", source, batch, len(source)/batch), Lens: ints("lens", lens, batch),
		TargetIDs: ints("target", target, batch, len(target)/batch), TargetLens: ints("target lens", targetLens, batch)}
	out := m.Forward(b, in, 0)
	require.NoError(t, b.Err())
	return pairGraph{b, in, out}
}

func (g pairGraph) values(t *testing.T, nodes ...*Node) [][]float64 {
	t.Helper()
	p, err := engine.Compile(g.b.Graph(), nodes, engine.Options{Scope: g.b.ScopeOf, CheckFinite: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	var all [][]float64
	for _, n := range nodes {
		all = append(all, slices.Clone(engine.Floats[float64](p.Value(n))))
	}
	return all
}

// forwardPair gives the logits.
func forwardPair(t *testing.T, m Model, params *layers.Params, source, target []int32) []float64 {
	t.Helper()
	g := newPairGraph(t, m, params, source, target, 1, nil, nil)
	return g.values(t, g.out.Logits)[0]
}

// TestSeq2SeqSessionEqualsForward: a source that is read once and a target token by token give what the graph of both gives, for one
// source after another and for several candidates.
func TestSeq2SeqSessionEqualsForward(t *testing.T) {
	eachPair(t, func(t *testing.T, m Seq2Seq, params *layers.Params, again bool) {
		v := m.Dims().Vocab
		d, r, why, err := newSeq2SeqDecoding[float64](m.halves(), params, 31)
		require.NoError(t, err)
		require.Equal(t, again, why != "", why)
		_, err = d.step([]int32{1})
		require.ErrorContains(t, err, "no source yet")
		for _, n := range []int{23, 5, 37, 1} {
			source, target := tokens(n, v), tokens(29, v)
			slices.Reverse(target)
			want := forwardPair(t, m, params, source, target)
			require.NoError(t, r.read(source))
			for i, id := range target {
				if i == 11 {
					break
				}
				got, err := d.step([]int32{id})
				require.NoError(t, err)
				require.InDeltaSlice(t, want[i*v:][:v], got, 1e-10, "source of %d, token %d", n, i)
			}
			d.choose([]int{0, 0})
			got, err := d.step([]int32{3, target[11]})
			require.NoError(t, err)
			require.InDeltaSlice(t, want[11*v:][:v], got[v:], 1e-10)
			other := append(slices.Clone(target[:11]), 3)
			require.InDeltaSlice(t, forwardPair(t, m, params, source, other)[11*v:], got[:v], 1e-10)
			d.choose([]int{1})
			got, err = d.step(target[12:13])
			require.NoError(t, err)
			require.InDeltaSlice(t, want[12*v:][:v], got, 1e-10)
		}
		if m.Dims().Positions > 0 {
			var e *LengthError
			require.ErrorAs(t, r.read(tokens(38, v)), &e)
		} else {
			require.NoError(t, r.read(tokens(67, v)))
			_, _, _, err = newSeq2SeqDecoding[float64](m.halves(), params, 0)
			require.ErrorContains(t, err, "say how many tokens")
		}
		require.ErrorContains(t, r.read(nil), "empty")
		require.ErrorContains(t, r.read([]int32{0, int32(v)}), "outside the vocabulary")
	})
}

// TestSeq2SeqSessionSingle: in single precision what is cached and what is not are nearer than 1e-5, by what is exported alone.
func TestSeq2SeqSessionSingle(t *testing.T) {
	for _, name := range []string{"sparse", "post, learned, untied", "reversible", "led", "bigbird_pegasus", "longt5, transient global"} {
		m, err := New([]byte(pairs[name].text))
		require.NoError(t, err)
		_, err = NewSeq2SeqSession(m.(Seq2Seq), scrambled(t, m), 9)
		require.ErrorContains(t, err, "load them as float32")
		params, err := NewParams(m, tensor.Float32, 3)
		require.NoError(t, err)
		v := m.Dims().Vocab
		source, target := tokens(23, v), append([]int32{m.(Seq2Seq).Special().Start}, tokens(8, v)...)
		g := newPairGraph(t, m, params, source, target, 1, nil, nil)
		p, err := engine.Compile(g.b.Graph(), layers.Nodes{g.out.Logits}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		want := engine.Floats[float32](p.Value(g.out.Logits))

		s, err := NewSeq2SeqSession(m.(Seq2Seq), params, len(target))
		require.NoError(t, err)
		require.Empty(t, s.Recomputes())
		require.Equal(t, len(target), s.Limit())
		for range 2 { // the second source takes the place of the first
			require.NoError(t, s.Read(source))
			require.Zero(t, s.Len())
			for i, id := range target {
				if i == 4 {
					s.Select([]int{0, 0, 0})
				}
				got, err := s.Step(slices.Repeat([]int32{id}, 1+2*min(i/4, 1))...)
				require.NoError(t, err)
				for k, x := range got {
					require.InDelta(t, want[i*v+k%v], x, 1e-5, "%s: token %d, logit %d", name, i, k)
				}
			}
			require.Equal(t, len(target), s.Len())
			require.Positive(t, s.CacheBytes())
			_, err = s.Step(1, 1, 1)
			var e *LengthError
			require.ErrorAs(t, err, &e)
		}
	}
}

// TestSeq2SeqCausal: a token of the target changes no output before it, one of the source changes all that read it.
func TestSeq2SeqCausal(t *testing.T) {
	eachPair(t, func(t *testing.T, m Seq2Seq, params *layers.Params, _ bool) {
		v := m.Dims().Vocab
		source, target := tokens(13, v), tokens(11, v)
		before := forwardPair(t, m, params, source, target)
		for _, at := range []int{0, 1, 7, 10} {
			changed := slices.Clone(target)
			changed[at] = (target[at] + 7) % int32(v)
			after := forwardPair(t, m, params, source, changed)
			require.Equal(t, before[:at*v], after[:at*v], "token %d reaches back", at)
			require.NotEqual(t, before[at*v:][:v], after[at*v:][:v], "token %d does not reach its own output", at)
		}
		for at := range source {
			changed := slices.Clone(source)
			changed[at] = (source[at] + 7) % int32(v)
			require.NotEqual(t, before, forwardPair(t, m, params, changed, target), "token %d of the source is not read", at)
		}
	})
}

// TestSeq2SeqPadding: what stands behind the lengths of source and target changes nothing within them.
func TestSeq2SeqPadding(t *testing.T) {
	eachPair(t, func(t *testing.T, m Seq2Seq, params *layers.Params, _ bool) {
		v := m.Dims().Vocab
		source, target := tokens(13, v), tokens(11, v)
		want := forwardPair(t, m, params, source, target)
		longer, more := append(slices.Clone(source), tokens(9, v)...), append(slices.Clone(target), tokens(5, v)...)
		g := newPairGraph(t, m, params, slices.Concat(longer, longer), slices.Concat(more, more), 2, []int32{13, 22}, []int32{11, 16})
		got := g.values(t, g.out.Logits)[0]
		require.InDeltaSlice(t, want, got[:11*v], 1e-12)
		require.NotEqual(t, got[:11*v], got[16*v:][:11*v], "the second example reads a longer source")
	})
}

// TestSeq2SeqGradients: gradients reach the weights of both halves, through the attention between them, and are those of differences.
func TestSeq2SeqGradients(t *testing.T) {
	eachPair(t, func(t *testing.T, m Seq2Seq, params *layers.Params, _ bool) {
		v := m.Dims().Vocab
		for _, p := range params.All() { // small enough for differences
			for i := range p.Value.Float64s() {
				p.Value.Float64s()[i] *= 0.5
			}
		}
		g := newPairGraph(t, m, params, tokens(26, v), tokens(14, v), 2, []int32{13, 7}, []int32{7, 5}, true)
		w := g.b.Input("weights", tensor.Float64, g.out.Logits.Shape()...)
		for i := range layers.InputValue(w).Float64s() {
			layers.InputValue(w).Float64s()[i] = math.Sin(float64(3*i*i + i))
		}
		loss := layers.Sum(g.b, layers.Mul(g.b, g.out.Logits, w))
		require.NoError(t, g.b.Err())
		ps, nodes := g.b.Weights()
		grads, err := engine.VJP(layers.Nodes{loss}, layers.Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(loss), 1)}, nodes, nil)
		require.NoError(t, err)
		all := g.values(t, append(layers.Nodes{loss}, grads...)...)
		program, err := engine.Compile(g.b.Graph(), layers.Nodes{loss}, engine.Options{})
		require.NoError(t, err)
		at := func() float64 {
			require.NoError(t, program.Run())
			return engine.Floats[float64](program.Value(loss))[0]
		}
		for k, p := range ps {
			if strings.HasPrefix(p.Name, "encoder.h.0.") && strings.HasSuffix(p.Name, "weight") {
				require.True(t, slices.ContainsFunc(all[1+k], func(x float64) bool { return x != 0 }), p.Name)
			}
			if k%3 != 1 {
				continue
			}
			x := p.Value.Float64s()
			i := (k*k + 65) % len(x) // of the table not the row of padding, which is no variable
			keep := x[i]
			const h = 1e-5
			x[i] = keep + h
			up := at()
			x[i] = keep - h
			down := at()
			x[i] = keep
			d := (up - down) / (2 * h)
			require.InDelta(t, d, all[1+k][i], 1e-6*(1+math.Abs(d)), "%s[%d]", p.Name, i)
		}
	})
}

func TestSeq2SeqOutputs(t *testing.T) {
	m, err := New([]byte(pairs["rotary"].text))
	require.NoError(t, err)
	require.Equal(t, "seq2seq_lm", m.Task())
	require.Equal(t, Special{Start: 27, Pad: 26, End: []int32{28}}, m.(Seq2Seq).Special())
	params := scrambled(t, m)
	g := newPairGraph(t, m, params, tokens(26, 29), tokens(14, 29), 2, nil, nil)
	require.Equal(t, tensor.Shape{2, 7, 29}, g.out.Logits.Shape())
	require.Len(t, g.out.Hidden, 4)
	require.Len(t, g.out.More, 4)
	require.Equal(t, tensor.Shape{2, 13, 12}, g.out.More["encoder_last_hidden_state"].Shape())
	require.Equal(t, g.out.More["encoder_last_hidden_state"], g.out.More["encoder_hidden_states.2"])
	_, ok := params.Get("shared.weight")
	require.True(t, ok)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	m.Forward(b, Inputs{IDs: b.Input("ids", tensor.Int32, 1, 3)}, 0)
	require.ErrorContains(t, b.Err(), "give data with a target")
	var e *LengthError
	b = layers.New(gorgonia.NewGraph(), params, layers.Options{})
	m.Forward(b, Inputs{IDs: b.Input("ids", tensor.Int32, 1, 3), TargetIDs: b.Input("target", tensor.Int32, 1, 32)}, 0)
	require.ErrorAs(t, b.Err(), &e)
	require.Equal(t, 31, e.Max)
}

// TestSeq2SeqConfig: the resolved config makes the same model, and says everything; faults are told at once, with their paths.
func TestSeq2SeqConfig(t *testing.T) {
	for name, p := range pairs {
		m, err := New([]byte(p.text))
		require.NoError(t, err, name)
		first, err := m.Config()
		require.NoError(t, err)
		again, err := New(first)
		require.NoError(t, err)
		second, err := again.Config()
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
	}
	m, err := New([]byte(strings.Replace(pairs["rotary"].text, `"eos_token_id":28`, `"eos_token_id":[28,3]`, 1)))
	require.NoError(t, err)
	require.Equal(t, []int32{28, 3}, m.(Seq2Seq).Special().End)
	for _, c := range []struct {
		text  string
		paths []string
	}{
		{pairText(`,"hidden_act":"gelo"`, `,"hidden_size":12`, ""), []string{"encoder.hidden_size", "hidden_act"}},
		{pairText(`,"norm":"past","layer_norm_eps":0`, `,"attention":[{"type":"band","window_left":-1}],"position_embedding_type":"rotory"`, `,"residual":"plane"`),
			[]string{"encoder.attention[0].window_left", "layer_norm_eps", "norm", "encoder.position_embedding_type", "decoder.residual"}},
		{pairText("", `,"cross_attention":[{"type":"full"}]`, ""), []string{"encoder.cross_attention"}},
		{pairText("", "", `,"cross_attention":[]`), []string{"decoder.cross_attention"}},
		{pairText("", "", `,"cross_attention":[{"type":"full"},{"type":"pattern","pattern":"global(-1)"},{"type":"random","degree":2}]`),
			[]string{"decoder.cross_attention[1]", "decoder.cross_attention[2]"}},
		{pairText("", "", `,"cross_attention":[{"type":"pattern","pattern":"external(2) + band(1,1)"},{"type":"cross_block","block_size":4}]`),
			[]string{"decoder.cross_attention[0]", "decoder.cross_attention[1]"}},
		{pairText("", "", `,"attention":[{"type":"pattern","pattern":"external(2) + band(1,1)"}]`), []string{"decoder.attention[0]"}},
		{`{"model_type":"encoder_decoder","vocab_size":5,"hidden_size":8,"eos_token_id":[2,9],"encoder":{"num_hidden_layers":1,"num_attention_heads":2},
			"decoder":{"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":0}}`,
			[]string{"decoder.max_position_embeddings", "decoder_start_token_id", "pad_token_id", "eos_token_id[1]"}},
		{`{"model_type":"encoder_decoder"}`, []string{"vocab_size", "hidden_size", "encoder.num_hidden_layers", "encoder.num_attention_heads",
			"decoder.num_hidden_layers", "decoder.num_attention_heads", "decoder_start_token_id", "pad_token_id"}},
	} {
		_, err := New([]byte(c.text))
		var paths []string
		for _, f := range config.Faults(err) {
			var fe *config.FieldError
			require.ErrorAs(t, f, &fe, c.text)
			paths = append(paths, fe.Path)
		}
		require.Equal(t, c.paths, paths, fmt.Sprint(c.text, "\n", err))
	}
}
