package layers

// sinkhornExamples sort blocks of rows.
var sinkhornExamples = []example{
	{"sinkhorn", []arg{dense(2, 3, 5, 5)}, func(b *Builder, in Nodes) *Node {
		return Sinkhorn(b, in[0], nil, SinkhornConfig{Tau: 0.75, Iterations: 4})
	}},
	{"sinkhorn of fewer blocks, rows last", []arg{dense(4, 2, 5, 5), tokens([]int{4}, 5, 3, 0, 1)}, func(b *Builder, in Nodes) *Node {
		return Sinkhorn(b, in[0], in[1], SinkhornConfig{Tau: 0.5, Iterations: 3, FinishRow: true})
	}},
	{"sinkhorn of earlier blocks", []arg{dense(2, 2, 5, 5)}, func(b *Builder, in Nodes) *Node {
		return Sinkhorn(b, in[0], nil, SinkhornConfig{Tau: 0.75, Iterations: 3, Mask: EarlierBlocks})
	}},
	{"sinkhorn, one softmax of rows", []arg{dense(2, 2, 5, 5), tokens([]int{2}, 5, 4)}, func(b *Builder, in Nodes) *Node {
		return Sinkhorn(b, in[0], in[1], SinkhornConfig{Normalizer: SinkhornRow, Tau: 1.5, Mask: EarlierBlocks})
	}},
	{"sinkhorn of prefixes", []arg{dense(2, 2, 5, 5), tokens([]int{2}, 5, 4)}, func(b *Builder, in Nodes) *Node {
		return Sinkhorn(b, in[0], in[1], SinkhornConfig{Normalizer: SinkhornPrefix, Tau: 0.6, Iterations: 3, FinishRow: true, Mask: EarlierBlocks})
	}},
	{"sinkhorn of prefixes, own block", []arg{dense(2, 1, 7, 7)}, func(b *Builder, in Nodes) *Node {
		return Sinkhorn(b, in[0], nil, SinkhornConfig{Normalizer: SinkhornPrefix, Tau: 0.9, Iterations: 5, Mask: UpToOwnBlock})
	}},
	{"sinkhorn of probabilities", []arg{dense(2, 2, 3, 3)}, func(b *Builder, in Nodes) *Node {
		r := Mul(b, in[0], in[0])
		return Sinkhorn(b, r, nil, SinkhornConfig{Tau: 0.7, Iterations: 2, LogReLU: true})
	}},
	{"sinkhorn with noise in training, as dropout", []arg{dense(2, 2, 5, 5)}, func(b *Builder, in Nodes) *Node {
		return Sinkhorn(b, in[0], nil, SinkhornConfig{Tau: 0.75, Iterations: 4, Gumbel: true})
	}},
	{"means of blocks", []arg{dense(3, 11, 2), tokens([]int{3}, 11, 5, 0)}, func(b *Builder, in Nodes) *Node {
		return PoolBlocks(b, in[0], in[1], 4, BlockMean)
	}},
	{"sums of blocks", []arg{dense(2, 11, 2)}, func(b *Builder, in Nodes) *Node { return PoolBlocks(b, in[0], nil, 3, BlockSum) }},
	{"means of prefixes", []arg{dense(3, 11, 2), tokens([]int{3}, 11, 5, 0)}, func(b *Builder, in Nodes) *Node {
		return PoolBlocks(b, in[0], in[1], 4, PrefixMean)
	}},
	{"sums of prefixes", []arg{dense(2, 11, 2)}, func(b *Builder, in Nodes) *Node { return PoolBlocks(b, in[0], nil, 3, PrefixSum) }},
	{"channels of heads, more and fewer", []arg{dense(2, 3, 10)}, func(b *Builder, in Nodes) *Node {
		x := Channels(b, in[0], 5, 8)
		return Channels(b, Mul(b, x, x), 8, 3)
	}},
	{"columns split", []arg{dense(2, 5, 9)}, func(b *Builder, in Nodes) *Node {
		p := SplitColumns(b, in[0], 3)
		return Mul(b, p[0], Mul(b, p[2], p[0])) // the one in the middle is not read
	}},
	{"scores of heads", []arg{dense(2, 5, 6), dense(2, 3, 6)}, func(b *Builder, in Nodes) *Node { return HeadScores(b, in[0], in[1], 2, 0.6) }},
	{"heads split", []arg{dense(2, 5, 21)}, func(b *Builder, in Nodes) *Node { return SplitHeads(b, in[0], 3, 5) }},
	{"mixed blocks", []arg{dense(2, 3, 2, 4), dense(2, 11, 15)}, func(b *Builder, in Nodes) *Node {
		return MixBlocks(b, in[0], in[1], MixConfig{Size: 3})
	}},
	{"mixed blocks beside own ones", []arg{dense(2, 3, 4, 4), dense(2, 11, 6), tokens([]int{2}, 10, 7)}, func(b *Builder, in Nodes) *Node {
		return MixBlocks(b, in[0], in[1], MixConfig{Size: 3, Own: true, Lens: in[2]})
	}},
	{"mixed earlier blocks", []arg{dense(1, 2, 37, 37), dense(1, 74, 4)}, func(b *Builder, in Nodes) *Node {
		p := Sinkhorn(b, in[0], nil, SinkhornConfig{Normalizer: SinkhornRow, Tau: 1, Mask: EarlierBlocks})
		return MixBlocks(b, p, in[1], MixConfig{Size: 2, Own: true, Earlier: true})
	}},
	{"keys of slots", []arg{dense(2, 3, 4, 4), dense(2, 11, 6), tokens([]int{2}, 10, 7), dense(2, 24, 6)}, func(b *Builder, in Nodes) *Node {
		p := Softmax(b, in[0])
		uniform := Softmax(b, Scale(b, in[0], 0))
		x := AddChannel(b, MixBlocks(b, p, in[1], MixConfig{Size: 3, Own: true, Lens: in[2]}), SlotBias(b, uniform, in[2], 3, true), 3)
		return Gather(b, Mul(b, AddChannel(b, in[3], nil, 3), x), View(b, SlotKeys(b, uniform, in[2], 3, true), 0, 2, 24))
	}},
	{"chosen blocks", []arg{dense(2, 1, 4, 4)}, func(b *Builder, in Nodes) *Node {
		chosen := AssignBlocks(b, Sinkhorn(b, in[0], nil, SinkhornConfig{Tau: 1, Iterations: 2}), AssignGreedy)
		ones := OneHotBlocks(b, chosen, in[0])
		return Concat(b, 0, Reshape(b, Embedding(b, chosen, 4, 2, Normal(1)), 8, 2), Reshape(b, Mul(b, in[0], ones), 16, 2))
	}},
}
