package models

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// contentEntries are the systems of a decoder that choose by content, each with its class of causality and with what generation says of it: nothing where
// it goes on from a cache, exactly, else why it reads the text anew.
var contentEntries = []struct{ entry, class, why string }{
	{`{"type":"topk","k":4}`, "C1", ""},
	{`{"type":"mips","k":4,"num_probes":2}`, "C0", "is more than a pattern"},
	{`{"type":"mips","k":3,"index":"srp","num_bits":2}`, "C1", "is more than a pattern"},
	{`{"type":"routing","num_clusters":3,"window":5}`, "C0", "with membership topw later tokens change what earlier ones read; membership recent is exact"},
	{`{"type":"routing","num_clusters":3,"window":5,"combine":"union","shared_qk":false}`, "C0", "with membership topw"},
	{`{"type":"routing","num_clusters":3,"window":5,"membership":"random"}`, "C0", "with membership random"},
	{`{"type":"routing","num_clusters":3,"window":4,"membership":"recent"}`, "C1", ""},
	{`{"type":"routing","num_clusters":3,"membership":"recent","shared_qk":false,"self":"lastResort"}`, "C1", ""},
	{`{"type":"lsh","chunk":4,"num_hashes":2}`, "C0", "later tokens move the chunks that earlier ones read; plan bucketRecent is exact"},
	{`{"type":"lsh","chunk":4,"num_hashes":2,"dup":"count","same_bucket_only":true}`, "C0", "later tokens move the chunks"},
	{`{"type":"lsh","chunk":3,"num_hashes":2,"plan":"bucketRecent"}`, "C1", ""},
	{`{"type":"sac","predictor_size":4}`, "C0", "is more than a pattern"},
	{`{"type":"sac","predictor_size":4,"mode":"perNode","causal_predictor":true,"alpha":2}`, "C1", "is more than a pattern"},
	{`{"type":"sinkhorn","block_size":4}`, "C1", ""},
	{`{"type":"sinkhorn","block_size":5,"normalizer":"prefix","combine":"sum_out","iterations":3}`, "C1", ""},
	{`{"type":"sinkhorn","block_size":5,"hard":"rows","combine":"sum_score"}`, "C1", ""},
	{`{"type":"sinkhorn","block_size":4,"sort_net":"mlp"}`, "C1", "its blocks are sorted by the network mlp"},
	{`{"type":"sinkhorn","block_size":4,"sort_net":"linear"}`, "C1", "its blocks are sorted by the network linear"},
	{`{"type":"heads","parts":[{"heads":2,"attention":{"type":"band","window_left":3}},{"heads":1,"attention":{"type":"routing","num_clusters":2,"window":4,"membership":"recent"}}]}`, "C1", ""},
	{`{"type":"heads","parts":[{"heads":2,"attention":{"type":"band","window_left":3}},{"heads":1,"attention":{"type":"routing","num_clusters":2,"window":4}}]}`, "C0", "(heads_1) cannot be kept: with membership topw"},
}

// Token by token comes what the model says of the text so far, and of a longer one, too, if it is of class C1, whether it goes on from a cache or says that
// it reads the text anew. A model of class C0 says something else of a token in a longer text: what its loss in whole windows is measured on.
func TestGenerationByContent(t *testing.T) {
	for _, position := range []string{"rotary", "learned"} {
		for _, c := range contentEntries {
			m, params := load(t, fmt.Sprintf(`{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,"max_position_embeddings":41,
				"position_embedding_type":%q,"attention":[%s]}`, position, c.entry))
			require.Equal(t, c.class, Causality(m), c.entry)
			r, why, err := newDecoding[float64](m.(Causal), params, 0)
			require.NoError(t, err)
			if c.why == "" {
				require.Empty(t, why, c.entry)
			} else {
				require.Contains(t, why, "the attention of layer 0 ", c.entry)
				require.Contains(t, why, c.why, c.entry)
			}
			ids := tokens(37, 31)
			whole := build(t, m, params, ids, 1, nil)
			differs := false
			for i, id := range ids {
				got, err := r.step([]int32{id})
				require.NoError(t, err)
				if i%5 == 1 || i == len(ids)-1 { // of a prefix
					prefix := build(t, m, params, ids[:i+1], 1, nil)
					require.InDeltaSlice(t, prefix[i*31:][:31], got, 1e-9, "%s, token %d of the text so far", c.entry, i)
				}
				if c.class == "C1" {
					require.InDeltaSlice(t, whole[i*31:][:31], got, 1e-9, "%s, token %d of the whole text", c.entry, i)
				}
				for k, x := range got {
					d := x - whole[i*31+k]
					differs = differs || d > 1e-6 || d < -1e-6
				}
			}
			if c.class == "C0" {
				require.True(t, differs, "%s, %s: nothing differs between a text and its beginning; it may be of class C1", c.entry, position)
			}
		}
	}
}

// A group of all heads is the layer itself, with weights of other names: what sorts, chooses or turns does not know of groups.
func TestGroupOfAllHeads(t *testing.T) {
	for _, position := range []string{"rotary", "learned"} {
		for _, entry := range []string{`{"type":"sinkhorn","block_size":4}`, `{"type":"sinkhorn","block_size":5,"normalizer":"prefix","combine":"sum_score"}`, `{"type":"topk","k":4}`,
			`{"type":"routing","num_clusters":3,"window":4}`, `{"type":"routing","num_clusters":3,"window":4,"membership":"recent","shared_qk":false}`} {
			text := fmt.Sprintf(`{"model_type":"decoder","vocab_size":31,"hidden_size":18,"num_hidden_layers":2,"num_attention_heads":3,"max_position_embeddings":41,
				"position_embedding_type":%q,"attention":[%%s]}`, position)
			whole, params := load(t, fmt.Sprintf(text, entry))
			groups, err := New([]byte(fmt.Sprintf(text, `{"type":"heads","parts":[{"heads":3,"attention":`+entry+`}]}`)))
			require.NoError(t, err)
			others := layers.NewParams(tensor.Float64)
			for _, p := range params.All() {
				name := p.Name
				for _, own := range []string{"attn.qkv.", "attn.qk.", "attn.v.", "attn.ema_", "attn.dead_", "attn.progress"} {
					name = strings.Replace(name, own, strings.Replace(own, "attn.", "attn.heads_0.", 1), 1)
				}
				require.NoError(t, others.Load(name, p.Value))
			}
			ids := tokens(37, 31)
			require.Equal(t, build(t, whole, params, ids, 1, nil), build(t, groups, others, ids, 1, nil), "%s, %s", position, entry)
			require.Len(t, others.All(), len(params.All()), "no weight of another name")
		}
	}
}
