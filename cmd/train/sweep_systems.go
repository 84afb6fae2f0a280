package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// sweptSystem is a system whose cost is measured, as a model of width 64 and two heads for a length.
type sweptSystem struct {
	name      string
	claim     float64 // exponent of the attention in the length, by time and by operations
	selection float64 // likewise of what chooses keys by content; 0: nothing is claimed of it
	model     func(n int) string
	longest   int // of the lengths by default; 0: 16,384, or where rows of √T keys fill tiles 65,536
}

// lengths are those that are measured by default, of which the last three count: a row or a block of √T keys fills a tile of 64 from 4,096 on.
func (s sweptSystem) lengths() []int {
	switch {
	case s.longest > 0:
		return doublings(s.longest)
	case s.claim == 1.5 || s.selection == 1.5:
		return doublings(65536)
	}
	return doublings(16384)
}

// doublings are five lengths up to n.
func doublings(n int) (all []int) {
	for m := n / 16; m <= n; m *= 2 {
		all = append(all, m)
	}
	return all
}

// swept are the systems of bench --sweep, of one layer each.
var swept = []sweptSystem{
	{name: "full", claim: 2, model: sweptDecoder(`{"type":"full"}`)},
	{name: "band", claim: 1, model: sweptDecoder(`{"type":"band","window_left":127}`)},
	{name: "dilated", claim: 1, model: sweptDecoder(`{"type":"dilated","left_steps":127,"gap":4}`)},
	{name: "random", claim: 1, model: sweptEncoder(`{"type":"random","degree":3,"block_size":64}`)},
	{name: "block_local", claim: 1, model: sweptDecoder(`{"type":"blocks","block_size":128}`)},
	{name: "global", claim: 1, model: sweptEncoder(`{"type":"pattern","pattern":"band(32,32) + global(0,1,2,3)"}`)},
	{name: "longformer", claim: 1, model: sweptEncoder(`{"type":"longformer","window_left":64,"window_right":64,"global_positions":[0]}`)},
	{name: "big_bird", claim: 1, model: sweptEncoder(`{"type":"big_bird","block_size":32}`)},
	{name: "sparse_strided", claim: 1.5, model: sweptRoot(`{"type":"sparse_strided","stride":%d}`)},
	{name: "sparse_fixed", claim: 1.5, model: sweptRoot(`{"type":"sparse_fixed","stride":%d,"summary":4}`)},
	{name: "cross_block", claim: 1.5, model: func(n int) string {
		return sweptEncoder(fmt.Sprintf(`{"type":"cross_block","block_size":%d}`, isqrt(n)))(n)
	}},
	{name: "topk", claim: 1, selection: 2, model: sweptDecoder(`{"type":"topk","k":8}`), longest: 65536},
	{name: "mips", claim: 1, selection: 1.5, model: sweptDecoder(`{"type":"mips","k":32}`)}, // √T cells, of which 8 are searched
	{name: "routing", claim: 1.5, selection: 1.5, model: func(n int) string { // as many clusters as tokens of each
		return sweptDecoder(fmt.Sprintf(`{"type":"routing","num_clusters":%d,"window":%d}`, isqrt(n), isqrt(n)))(n)
	}},
	{name: "routing_16_clusters", claim: 2, selection: 1, model: func(n int) string {
		return sweptDecoder(fmt.Sprintf(`{"type":"routing","num_clusters":16,"window":%d}`, max(1, n/16)))(n)
	}},
	{name: "routing_recent", claim: 1.5, selection: 1.5, model: func(n int) string {
		return sweptDecoder(fmt.Sprintf(`{"type":"routing","num_clusters":%d,"window":%d,"membership":"recent"}`, isqrt(n), isqrt(n)))(n)
	}},
	{name: "reformer", claim: 1, selection: 1, model: sweptDecoder(`{"type":"lsh","chunk":32,"num_hashes":2}`)},
	{name: "reformer_one_factor", claim: 1, selection: 2, model: func(n int) string { // the number of buckets as one factor: what hashing costs then is the square of the length
		return sweptDecoder(fmt.Sprintf(`{"type":"lsh","chunk":32,"num_hashes":2,"bucket_factors":[%d]}`, max(2, 2*n/32)))(n)
	}},
	{name: "reformer_bucket_recent", claim: 1, selection: 1, model: sweptDecoder(`{"type":"lsh","chunk":32,"num_hashes":2,"plan":"bucketRecent"}`)},
	{name: "sac", claim: 1, selection: 2, model: sweptDecoder(`{"type":"sac","predictor_size":64}`), longest: 1024}, // one step after another
	{name: "sinkhorn", claim: 1.5, selection: 1.5, model: sweptRoot(`{"type":"sinkhorn","block_size":%d}`)},
	{name: "sinkhorn_16_tokens", claim: 1, selection: 2, model: sweptDecoder(`{"type":"sinkhorn","block_size":16}`)}, // so many blocks that their square shows
	{name: "sortcut", claim: 1, model: sweptEncoder(`{"type":"sortcut","block_size":64,"slots":2}`)},                 // sorting goes from 1 to 2
	{name: "star_transformer", claim: 1, model: func(n int) string {
		return fmt.Sprintf(`{"model_type":"star_transformer","task":"token_classification","num_labels":16,%s,"max_position_embeddings":%d}`, sweptSizes, n)
	}},
	{name: "etc", claim: 1, model: func(n int) string {
		return fmt.Sprintf(`{"model_type":"etc","task":"token_classification","num_labels":16,%s,"max_position_embeddings":%d,"local_radius":64,"num_globals":16}`, sweptSizes, n)
	}},
	{name: "bp_transformer", claim: 1.1, model: func(n int) string {
		return fmt.Sprintf(`{"model_type":"bp_transformer",%s,"max_position_embeddings":%d,"k":4}`, sweptSizes, n)
	}},
}

const sweptSizes = `"vocab_size":16,"hidden_size":64,"intermediate_size":64,"num_hidden_layers":1,"num_attention_heads":2`

func sweptDecoder(entry string) func(n int) string {
	return sweptSkeleton("decoder", "causal_lm", entry)
}
func sweptEncoder(entry string) func(n int) string {
	return sweptSkeleton("encoder", "masked_lm", entry)
}

func sweptSkeleton(kind, task, entry string) func(n int) string {
	return func(n int) string {
		return fmt.Sprintf(`{"model_type":%q,"task":%q,%s,"max_position_embeddings":%d,"attention":[%s]}`, kind, task, sweptSizes, n, entry)
	}
}

// sweptRoot fills √n into an entry of a decoder.
func sweptRoot(entry string) func(n int) string {
	return func(n int) string { return sweptDecoder(fmt.Sprintf(entry, isqrt(n)))(n) }
}

func isqrt(n int) int { return int(math.Sqrt(float64(n))) }

// selecting are the operations that choose keys by what tokens say, or make keys: sorting and mixing of blocks. They are apart from attention in the
// tables of costs.
var selecting = []string{"rotations", "hash", "sort_buckets", "nearest_cluster", "cluster_scores", "cluster_members", "members_of", "found_keys", "top_keys",
	"pool_blocks", "head_scores", "sinkhorn", "mix_blocks"}

// ofSelection tells which operations choose keys, forward and backward.
func ofSelection(op string) bool {
	return strings.HasPrefix(op, "sac_") || slices.Contains(selecting, strings.TrimSuffix(op, "_grad"))
}

// ofAttention tells which operations are those of attention itself, not the maps around it.
func ofAttention(op string) bool {
	for _, prefix := range []string{"attention", "attend", "ring", "merge", "mean_of_slots", "add_channel", "channels"} {
		if strings.HasPrefix(op, prefix) {
			return true
		}
	}
	return false
}
