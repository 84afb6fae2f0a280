package models

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func init() { // with noise, which is drawn again where a layer is computed back
	reversibles["sinkhorn"] = `{"model_type":"decoder","vocab_size":19,"hidden_size":12,"intermediate_size":14,"num_hidden_layers":4,"num_attention_heads":3,
		"max_position_embeddings":29,"residual":"reversible","hidden_dropout_prob":0.2,"position_embedding_type":"learned","attention":[{"type":"sinkhorn","block_size":4,
		"normalizer":"prefix"},{"type":"sinkhorn","block_size":5,"sort_net":"mlp","combine":"sum_out"}]}`
}

// A target reads sorted blocks of a source, the last of which is short: padding changes nothing, it is written as it was trained, and says that
// it reads all anew.
func TestSortCutOfASource(t *testing.T) {
	for _, net := range []string{"bilinear", "mlp", "linear"} {
		m, err := New([]byte(pairText("", `,"position_embedding_type":"learned","attention":[{"type":"sortcut","block_size":4,"slots":3},{"type":"sinkhorn","block_size":5}]`,
			fmt.Sprintf(`,"cross_attention":[{"type":"sortcut","block_size":5,"slots":2,"sort_net":%q},{"type":"full"}]`, net))))
		require.NoError(t, err)
		params := scrambled(t, m)
		v := m.Dims().Vocab
		source, target := tokens(13, v), tokens(11, v)
		want := forwardPair(t, m, params, source, target)
		longer, more := append(slices.Clone(source), tokens(9, v)...), append(slices.Clone(target), tokens(5, v)...)
		g := newPairGraph(t, m, params, slices.Concat(longer, longer), slices.Concat(more, more), 2, []int32{13, 22}, []int32{11, 16})
		require.InDeltaSlice(t, want, g.values(t, g.out.Logits)[0][:11*v], 1e-11)

		d, r, why, err := newSeq2SeqDecoding[float64](m.(Seq2Seq).halves(), params, 31)
		require.NoError(t, err)
		require.Contains(t, why, "what layer 0 reads of the source is more than a pattern")
		require.NoError(t, r.read(source))
		for i, id := range target {
			got, err := d.step([]int32{id})
			require.NoError(t, err)
			require.InDeltaSlice(t, want[i*v:][:v], got, 1e-10, "token %d", i)
		}
	}
}

// What sorts blocks has weights for so many blocks, and what cannot be causal is refused with the reason.
func TestSinkhornConfigs(t *testing.T) {
	decoder := func(entry string) string {
		return fmt.Sprintf(`{"model_type":"decoder","vocab_size":31,"hidden_size":12,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":29,"attention":[%s]}`, entry)
	}
	for _, c := range []struct{ text, want string }{
		{decoder(`{"type":"sinkhorn","block_size":4,"normalizer":"sinkhorn"}`), "attention[0].normalizer is \"sinkhorn\": the sums of columns go over later rows"},
		{decoder(`{"type":"sinkhorn","block_size":4,"normalizer":"paper"}`), "earlier tokens learn of later ones"},
		{decoder(`{"type":"sinkhorn","block_size":4,"hard":"greedy"}`), "attention[0].hard is \"greedy\": a later block may take"},
		{decoder(`{"type":"sortcut","block_size":4,"slots":2}`), "sortcut cannot be causal"},
		{decoder(`{"type":"sinkhorn","block_size":4,"sort_net":"mlp","max_blocks":7}`), "attention[0].max_blocks is 7: max_position_embeddings (29) are 8 blocks of 4"},
		{decoder(`{"type":"sinkhorn","block_size":4,"max_blocks":8}`), "is for the sort_net mlp or linear"},
		{decoder(`{"type":"sinkhorn","block_size":0,"tau":0,"iterations":0,"combine":"both","sort_net":"cnn"}`), "attention[0].block_size is 0"},
		{strings.Replace(decoder(`{"type":"sortcut","block_size":4,"slots":2,"combine":"mixture"}`), "decoder", "encoder", 1), "no own block to combine"},
		{strings.Replace(decoder(`{"type":"sortcut","block_size":4}`), "decoder", "encoder", 1), "attention[0].slots: missing"},
		{strings.NewReplacer("decoder", "encoder", `:29`, `:290`).Replace(decoder(`{"type":"sinkhorn","block_size":4,"hard":"hungarian"}`)), "73 blocks, hungarian is for at most 64"},
		{pairText("", "", `,"cross_attention":[{"type":"sinkhorn","block_size":4}]`), "decoder.cross_attention[0]: a target cannot read a source by it"},
		{pairText("", "", `,"cross_attention":[{"type":"sortcut","block_size":5,"slots":2,"sort_net":"mlp","max_blocks":7}]`), "max_position_embeddings (37) are 8 blocks of 5"},
	} {
		_, err := New([]byte(c.text))
		require.ErrorContains(t, err, c.want, c.text)
	}
	_, err := New([]byte(decoder(`{"type":"sinkhorn","block_size":0,"tau":0,"iterations":0,"combine":"both","sort_net":"cnn"}`)))
	for _, want := range []string{"tau is 0", "iterations is 0", `combine is "both"`, `sort_net is "cnn"`} {
		require.ErrorContains(t, err, want)
	}
}
