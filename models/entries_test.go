package models

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// entries are examples of every type of entry, for two heads, and whether a decoder and rotary positions take it.
var entries = map[string][]struct {
	json            string
	decoder, rotary bool
}{
	"band":        {{`{"type":"band","window_left":3}`, true, true}, {`{"type":"band","window_left":90}`, true, true}},
	"big_bird":    {{`{"type":"big_bird","block_size":3,"num_random_blocks":1}`, true, true}, {`{"type":"big_bird","block_size":3,"form":"etc","num_globals":2}`, false, true}},
	"blocks":      {{`{"type":"blocks","block_size":4}`, true, true}},
	"bp":          {{`{"type":"bp","k":2,"clip":2}`, true, false}},
	"cross_block": {{`{"type":"cross_block","block_size":4}`, true, true}},
	"dilated":     {{`{"type":"dilated","left_steps":2,"gap":[1,3]}`, true, true}},
	"etc":         {{`{"type":"etc","num_globals":2,"local_radius":2}`, false, true}},
	"full":        {{`{"type":"full"}`, true, true}},
	"heads":       {{`{"type":"heads","parts":[{"heads":1,"attention":{"type":"random","degree":2}},{"heads":1,"attention":{"type":"blocks","block_size":5}}]}`, true, true}},
	"hier_block":  {{`{"type":"hier_block","block_size":2}`, true, true}, {`{"type":"hier_block","block_size":2,"pool":"mean"}`, false, true}},
	"local":       {{`{"type":"local","chunk":4}`, true, true}, {`{"type":"local","chunk":3,"chunks_before":2,"chunks_after":0}`, true, true}},
	"lsh": {{`{"type":"lsh","chunk":4,"num_hashes":2}`, true, true}, {`{"type":"lsh","chunk":3,"num_hashes":3,"plan":"bucketRecent"}`, true, true},
		{`{"type":"lsh","chunk":5,"num_hashes":1,"dup":"count","wrap":"round","bucket_factors":[4,2]}`, true, true}},
	"longformer":    {{`{"type":"longformer","window_left":2,"dilation":[1,2]}`, true, true}, {`{"type":"longformer","window_left":2,"global_positions":[0,-1]}`, false, true}},
	"overlap_block": {{`{"type":"overlap_block","block_size":4,"overlap_left":2}`, true, true}},
	"pattern":       {{`{"type":"pattern","pattern":"band(2,1) + global(0,5)"}`, true, true}, {`{"type":"pattern","pattern":"band(2,1) + global(-1)"}`, false, true}, {`{"type":"pattern","pattern":"external(2) + band(1,1)"}`, false, true}},
	"random":        {{`{"type":"random","degree":3}`, true, true}, {`{"type":"random","degree":2,"block_size":3}`, true, true}, {`{"type":"random","probability":0.3}`, true, true}},
	"topk":          {{`{"type":"topk","k":4}`, true, true}},
	"mips":          {{`{"type":"mips","k":4,"index":"srp","num_bits":2}`, true, true}, {`{"type":"mips","k":4,"num_probes":2,"explore":1}`, true, true}},
	"routing": {{`{"type":"routing","num_clusters":3,"window":7}`, true, true}, {`{"type":"routing","num_clusters":2,"combine":"union"}`, true, true},
		{`{"type":"routing","num_clusters":3,"window":5,"membership":"recent"}`, true, true}, {`{"type":"routing","num_clusters":2,"window":4,"membership":"recent","shared_qk":false}`, true, true},
		{`{"type":"heads","parts":[{"heads":1,"attention":{"type":"routing","num_clusters":3,"window":4,"membership":"recent"}},{"heads":1,"attention":{"type":"band","window_left":3}}]}`, true, true}},
	"sac": {{`{"type":"sac","predictor_size":5,"alpha":1.5}`, true, true}, {`{"type":"sac","predictor_size":3,"mode":"perNode","alpha":2,"sharing":"head","no_repeat":true}`, true, true},
		{`{"type":"sac","predictor_size":3,"mode":"perNode","alpha":2,"causal_predictor":true,"sharing":"layer"}`, true, true}},
	"shifted_block": {{`{"type":"shifted_block","block_size":5}`, true, true}},
	"sinkhorn": {{`{"type":"sinkhorn","block_size":4}`, true, true}, {`{"type":"sinkhorn","block_size":3,"normalizer":"prefix","combine":"sum_out"}`, true, true},
		{`{"type":"sinkhorn","block_size":5,"sort_net":"mlp","combine":"sum_score"}`, true, true}, {`{"type":"sinkhorn","block_size":4,"hard":"rows","sort_net":"linear"}`, true, true},
		{`{"type":"sinkhorn","block_size":3,"hard":"greedy","combine":"mixture","normalizer":"sinkhorn"}`, false, true}},
	"sortcut":        {{`{"type":"sortcut","block_size":4,"slots":2}`, false, true}, {`{"type":"sortcut","block_size":5,"slots":3,"hard":"hungarian"}`, false, true}},
	"sparse_fixed":   {{`{"type":"sparse_fixed","stride":4,"summary":2,"merge":"multihead"}`, true, true}, {`{"type":"sparse_fixed","stride":4,"summary":2,"distinct_summaries":true}`, true, true}},
	"sparse_strided": {{`{"type":"sparse_strided","stride":4}`, true, true}, {`{"type":"sparse_strided","stride":4,"merge":"interleaved"}`, true, true}},
}

// TestEveryEntryInEverySkeleton: what is legal gives of a padded batch what its examples give alone, tells a decoder nothing of the
// future, and is written token by token as it was trained; what is not is refused.
func TestEveryEntryInEverySkeleton(t *testing.T) {
	known := slices.DeleteFunc(attention.EntryTypes(), func(name string) bool { return slices.Contains(imageEntries, name) })
	require.ElementsMatch(t, known, slices.Collect(maps.Keys(entries)), "every type of entry must be in the table")
	for _, list := range entries {
		for _, e := range list {
			for _, skeleton := range []string{"decoder", "encoder"} {
				for _, position := range []string{"learned", "rotary"} {
					text := fmt.Sprintf(`{"model_type":%q,"vocab_size":31,"hidden_size":12,"intermediate_size":14,"num_hidden_layers":2,"num_attention_heads":2,
						"max_position_embeddings":29,"position_embedding_type":%q,"attention":[%s]}`, skeleton, position, e.json)
					if skeleton == "decoder" && !e.decoder || position == "rotary" && !e.rotary {
						_, err := New([]byte(text))
						require.Error(t, err, text)
						continue
					}
					m, params := mild(t, text)
					whole := padsAway(t, m, params)
					if skeleton == "decoder" {
						isCausal(t, m.(Causal), params, whole)
					}
				}
			}
		}
	}
}

// imageEntries are of images, which have tests of their own.
var imageEntries = []string{"image1d", "image2d", "axial_row", "axial_column"}

// padsAway compares a padded batch with its examples and returns the logits of the first, which has 23 tokens.
func padsAway(t *testing.T, m Model, params *layers.Params) []float64 {
	t.Helper()
	const n, v = 23, 31
	lens := []int32{n, 11, 1}
	var batch []int32
	var alone [][]float64
	for r, l := range lens {
		ids := tokens(int(l)+r, v)[r:]
		y, _ := outputsAt(t, m, params, 1, int(l), func(b *layers.Builder, in *Inputs) { in.IDs = intsOf(b, "ids", ids, 1, int(l)) })
		alone = append(alone, y)
		batch = append(batch, append(ids, tokens(n-int(l), v)...)...)
	}
	y, _ := outputsAt(t, m, params, len(lens), n, func(b *layers.Builder, in *Inputs) {
		in.IDs, in.Lens = intsOf(b, "ids", batch, len(lens), n), intsOf(b, "lens", lens, len(lens))
	})
	for r, l := range lens {
		require.InDeltaSlice(t, alone[r], y[r*n*v:][:int(l)*v], 1e-9, "example %d", r)
	}
	return alone[0]
}

// isCausal changes a token, and writes the sequence token by token.
func isCausal(t *testing.T, m Causal, params *layers.Params, want []float64) {
	t.Helper()
	const n, v, at = 23, 31, 14
	for _, a := range m.causal().mixers {
		if c, ok := a.(interface{ Class() string }); ok && c.Class() == "C0" {
			return // what is read may depend on what comes later
		}
	}
	ids := tokens(n, v)
	changed := slices.Clone(ids)
	changed[at] = (ids[at] + 5) % v
	got, _ := outputsAt(t, m, params, 1, n, func(b *layers.Builder, in *Inputs) { in.IDs = intsOf(b, "ids", changed, 1, n) })
	require.Equal(t, want[:at*v], got[:at*v], "a token tells earlier ones of itself")
	require.NotEqual(t, want[at*v:], got[at*v:])
	d, _, err := newDecoding[float64](m, params, 0)
	require.NoError(t, err)
	for i, id := range ids {
		y, err := d.step([]int32{id})
		require.NoError(t, err)
		require.InDeltaSlice(t, want[i*v:][:v], y, 1e-8, "token %d", i)
	}
}
