// Package attention says which keys a query may read, compiles that into tiles, and applies it as one fused node.
//
// A Pattern is a pure description. Compile turns it into the tile layout that the kernels walk, Attend into a node of the graph,
// Measure into numbers, WriteSVG into a picture, and Cache into the keys that a generator must keep. What is more than a pattern is a
// Mixer: weights of its own, nodes besides the tokens, or keys that are chosen by content (Chosen, Sorted). An Entry is either of them
// as config.json says it.
//
// Where a paper is:
//
//	Longformer               Longformer     longformer.go
//	ETC, LongT5              ETC            etc.go, etc_entry.go; longt5.go
//	BigBird                  BigBird        bigbird.go, bigbird_plan.go (the stored draws)
//	Sparse Transformer       Strided, Fixed sparse_transformer.go, entries_sparse.go (merged, interleaved, by head)
//	BP-Transformer           BP, BPTree     bp.go, bptree.go, bp_cache.go (writing)
//	Star-Transformer         StarStep       star_transformer.go; layers/star.go (the ring)
//	Image Transformer        Image1D, Image2D, Image2DGenerated  image.go, image_generated.go
//	Axial Transformer        ImageRow, ImageColumn  image.go; models/axial_transformer.go
//	Routing Transformer      Routing        routing.go, then routing_*.go in the order of their use: centroids, select, combine, update
//	Reformer                 LSH            lsh.go, lsh_hash.go, lsh_order.go, sorted.go (attention on sorted chunks), recent.go (on the last of a bucket)
//	Sinkhorn, SortCut        Sinkhorn, SortCut  sinkhorn.go, sinkhorn_sort.go, sortcut.go; layers/sinkhorn.go
//	top-k, MIPS              TopK, MIPS     topk.go, mips.go, mips_index.go, chosen.go (attention on chosen keys)
//	SAC                      SAC            sac.go, sac_rollout.go, sac_replay.go; train/policy (learning)
//	blocks and ways across   Blocks, CrossBlocks  atoms.go, crossblock.go, hierblock.go
//
// What all of them share: compile.go (tiles), arrange.go and halves.go (cheaper ways to compute a pattern), attend.go (the node),
// merge.go (softmaxes over disjoint keys become one), language.go (patterns as text), conformance_test.go (what every pattern has to pass).
package attention
