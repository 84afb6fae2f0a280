package models

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// written are decoders besides those in small: what only some families have, and what cannot be kept in a cache.
var written = map[string]struct {
	text   string
	change func(s *stack)
	again  bool
}{
	"post": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,"max_position_embeddings":41,
		"norm":"post","attention":[{"type":"full"},{"type":"band","window_left":3}]}`},
	"root mean squares, gated, relative": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":3,"num_attention_heads":3,
		"max_position_embeddings":41,"position_embedding_type":"none","tie_word_embeddings":false}`,
		change: func(s *stack) {
			s.rms, s.names.gate, s.relative, s.names.relative = true, "mlp.gate", attention.Clipped{Max: 4}, "attn.relative"
			s.noQKV, s.noOut, s.noFeed, s.size, s.scales = true, true, true, 4, []float64{1, 1, 1}
		}},
	"three maps, post, scaled, offset": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,
		"max_position_embeddings":41,"position_embedding_type":"learned","norm":"post"}`,
		change: func(s *stack) {
			s.names.qkv, s.names.q, s.names.k, s.names.v = "", "q", "k", "v"
			s.embedScale, s.offset, s.types, s.embedNorm = 2.5, 2, 3, "after"
		}},
	"factorized, a head of its own with a bias": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,
		"max_position_embeddings":41,"position_embedding_type":"factorized","position_shape":[3,3,5],"tie_word_embeddings":false,"lm_head_bias":true,
		"hidden_act":"quick_gelu","attention":[{"type":"sparse_fixed","stride":5,"summary":2}]}`},
	"axial": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,"residual":"reversible",
		"max_position_embeddings":41,"position_embedding_type":"axial","position_shape":[3,3,5],"axial_pos_embds_dim":[7,1,10],"attention":[{"type":"local","chunk":4}]}`},
	"the last of a bucket": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,"residual":"reversible",
		"max_position_embeddings":41,"attention":[{"type":"lsh","chunk":3,"num_hashes":2,"plan":"bucketRecent","bucket_factors":[2,4]}]}`},
	"the best keys": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,
		"max_position_embeddings":41,"attention":[{"type":"topk","k":5},{"type":"topk","k":99}]}`},
	"the last of a cluster": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":3,"num_attention_heads":3,
		"max_position_embeddings":41,"attention":[{"type":"routing","num_clusters":2,"window":3,"membership":"recent"},
		{"type":"routing","num_clusters":3,"window":4,"membership":"recent","shared_qk":false},{"type":"routing","num_clusters":4,"membership":"recent","self":"allow"}]}`},
	"heads of all kinds": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":30,"num_hidden_layers":2,"num_attention_heads":5,
		"max_position_embeddings":41,"attention":[{"type":"heads","parts":[{"heads":1,"attention":{"type":"routing","num_clusters":2,"window":3,"membership":"recent"}},
		{"heads":2,"attention":{"type":"band","window_left":3}},{"heads":2,"attention":{"type":"sinkhorn","block_size":4}}]},
		{"type":"heads","parts":[{"heads":3,"attention":{"type":"routing","num_clusters":2,"window":3,"membership":"recent","shared_qk":false}},
		{"heads":1,"attention":{"type":"blocks","block_size":5}},{"heads":1,"attention":{"type":"full"}}]}]}`},
	"relative heads": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":1,"num_attention_heads":3,"max_position_embeddings":41,
		"position_embedding_type":"none","attention":[{"type":"full"}]}`,
		change: func(s *stack) {
			s.relative, s.names.relative = attention.Clipped{Max: 4}, "attn.relative"
			s.mixers = []attention.Mixer{attention.HeadGroups{{Heads: 1, Mixer: attention.Plain{Of: attention.Band{Left: 3}}}, {Heads: 2, Mixer: attention.Plain{Of: attention.Causal(attention.Full{})}}}}
		}},
	"stored draws": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,
		"max_position_embeddings":41,"attention":[{"type":"big_bird","block_size":4,"num_random_blocks":1}]}`},
	"summaries of blocks": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,
		"max_position_embeddings":41,"attention":[{"type":"cross_block","block_size":5}]}`, again: true},
	"more than patterns": {text: `{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,
		"max_position_embeddings":41,"attention":[{"type":"band","window_left":3}]}`,
		change: func(s *stack) {
			s.mixers = slices.Clone(s.mixers)
			s.mixers[1] = opaque{s.mixers[1].(attention.Plain)}
		}, again: true},
}

// opaque is attention that nobody knows to be a pattern.
type opaque struct{ attention.Plain }

func (opaque) Cached() bool { return false }

// changed is a model with options that its config.json does not have.
type changed struct {
	Causal
	of stack
}

func (c changed) causal() *stack { return &c.of }
func (c changed) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return c.of.forward(b, in, layersPerBlock)
}

// loadWritten is a model of written with weights.
func loadWritten(t *testing.T, name string) (Causal, *layers.Params) {
	t.Helper()
	m, err := New([]byte(written[name].text))
	require.NoError(t, err)
	c := changed{m.(Causal), *m.(Causal).causal()}
	if change := written[name].change; change != nil {
		change(&c.of)
	}
	return c, scrambled(t, c)
}

// causals are all models that can be run token by token.
func causals(t *testing.T, test func(t *testing.T, m Causal, params *layers.Params, again bool)) {
	for name, text := range small {
		t.Run(name, func(t *testing.T) {
			m, params := load(t, text)
			if c, ok := m.(Causal); ok {
				test(t, c, params, false)
			}
		})
	}
	for name, w := range written {
		t.Run(name, func(t *testing.T) {
			m, params := loadWritten(t, name)
			test(t, m, params, w.again)
		})
	}
}

// TestSessionEqualsForward: token by token gives what the whole sequence gives.
func TestSessionEqualsForward(t *testing.T) {
	causals(t, func(t *testing.T, m Causal, params *layers.Params, again bool) {
		v := m.Dims().Vocab
		ids := tokens(31, v)
		want := build(t, m, params, ids, 1, nil)
		r, why, err := newDecoding[float64](m, params, 0)
		require.NoError(t, err)
		require.Equal(t, again, why != "", why)
		for i, id := range ids {
			got, err := r.step([]int32{id})
			require.NoError(t, err)
			require.InDeltaSlice(t, want[i*v:][:v], got, 1e-10, "token %d", i)
		}
	})
}

// TestSessionCandidates: candidates that are chosen and go on in different ways give what each of them gives alone.
func TestSessionCandidates(t *testing.T) {
	causals(t, func(t *testing.T, m Causal, params *layers.Params, _ bool) {
		v := m.Dims().Vocab
		r, _, err := newDecoding[float64](m, params, 0)
		require.NoError(t, err)
		read := [][]int32{nil}
		next := int32(3)
		for _, parents := range [][]int{{0, 0}, {0, 0, 1}, {2, 0, 1}, {1, 1}, {0, 1, 0, 1}, {3}} {
			r.choose(parents)
			var now [][]int32
			var ids []int32
			for _, p := range parents {
				next = (next*7 + 5) % int32(v)
				ids = append(ids, next)
				now = append(now, append(slices.Clone(read[p]), next))
			}
			read = now
			got, err := r.step(ids)
			require.NoError(t, err)
			require.Len(t, got, len(ids)*v)
			for k, ids := range read {
				want := build(t, m, params, ids, 1, nil)
				require.InDeltaSlice(t, want[len(want)-v:], got[k*v:][:v], 1e-10, "%v, candidate %d", parents, k)
			}
		}
		_, err = r.step([]int32{1, 2})
		require.ErrorContains(t, err, "2 tokens for 1 candidates")
	})
}

// TestSessionErrors: weights of another model, ids and lengths beyond the model are errors, not panics.
func TestSessionErrors(t *testing.T) {
	m, params := load(t, small["gpt2"])
	_, err := NewSession(m.(Causal), params, 0)
	require.ErrorContains(t, err, "float32")
	for _, c := range []struct{ from, to, want string }{
		{`"n_embd":24`, `"n_embd":48`, "transformer.wte.weight has shape (37, 24), the model wants [37 48]"},
		{`"n_positions":41`, `"n_positions":43`, "transformer.wpe.weight has shape (41, 24)"},
		{`"n_layer":2`, `"n_layer":3`, "transformer.h.2.ln_1.weight is missing"},
		{`"n_layer":2`, `"n_layer":2,"n_inner":95`, "mlp.c_fc.weight has shape (24, 96), the model wants [24 95]"},
		{`"n_layer":2`, `"n_layer":2,"tie_word_embeddings":false`, "lm_head.weight is missing"},
	} {
		other, err := New([]byte(strings.Replace(small["gpt2"], c.from, c.to, 1)))
		require.NoError(t, err)
		_, _, err = newDecoding[float64](other.(Causal), params, 0)
		require.ErrorContains(t, err, c.want)
	}
	single, err := NewParams(m, tensor.Float32, 1)
	require.NoError(t, err)
	s, err := NewSession(m.(Causal), single, 2)
	require.NoError(t, err)
	for _, id := range []int32{-1, 37} {
		_, err = s.Step(id)
		require.ErrorContains(t, err, "outside the vocabulary of 37")
	}
	require.Zero(t, s.Len())
	for range 2 {
		_, err = s.Step(36)
		require.NoError(t, err)
	}
	_, err = s.Step(36)
	var e *LengthError
	require.ErrorAs(t, err, &e)
	require.Equal(t, LengthError{Length: 3, Max: 2}, *e)
	require.Equal(t, 2, s.Len())
}
