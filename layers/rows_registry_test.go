package layers

// rowsExamples move whole rows.
var rowsExamples = []example{
	{"slices of images", []arg{tokens([]int{2, 12}, 1, 0, 2, 4, 3, 1, 0, 0, 2, 2, 1, 4, 0, 3, 3, 1, 2, 2, 4, 4, 0, 1, 3, 2), tokens([]int{4}, 1, 0, 1, 1), dense(36, 3)}, func(b *Builder, in Nodes) *Node {
		return Linear(b, SlicePlanes(b, in[0], in[1], PlanesConfig{Height: 2, Width: 3, Slices: 2, Levels: 5}), LinearConfig{Weight: in[2], InOut: true, NoBias: true})
	}},
	{"a slice of each image", []arg{tokens([]int{2, 6}, 1, 0, 2, 4, 3, 1, 0, 3, 3, 1, 2, 2), tokens([]int{6}, 5, 4, 1, 0, 2, 3)}, func(b *Builder, in Nodes) *Node {
		return Embedding(b, PickSlice(b, TakeIDs(b, in[0], in[1]), DrawSlices(b, 2, 3), 3), 5, 2, Normal(1))
	}},
	{"slice of tokens", []arg{dense(2, 5, 3)}, func(b *Builder, in Nodes) *Node { return Slice(b, in[0], 1, 1, 4) }},
	{"slice of columns", []arg{dense(2, 3, 7)}, func(b *Builder, in Nodes) *Node { return Slice(b, in[0], 2, 2, 7) }},
	{"concat of tokens", []arg{dense(2, 5, 3), dense(2, 2, 3), dense(2, 1, 3)}, func(b *Builder, in Nodes) *Node {
		return Concat(b, 1, in...)
	}},
	{"concat of columns", []arg{dense(2, 3, 5), dense(2, 3, 2)}, func(b *Builder, in Nodes) *Node { return Concat(b, 2, in...) }},
	{"gather", []arg{dense(2, 5, 3), tokens([]int{2, 4}, 4, 0, 4, -1, 2, 2, -7, 1)}, func(b *Builder, in Nodes) *Node {
		return Gather(b, in[0], in[1])
	}},
	{"gather with one index for all", []arg{dense(2, 5, 3), tokens([]int{4}, 4, 0, 4, -1)}, func(b *Builder, in Nodes) *Node {
		return Gather(b, in[0], in[1])
	}},
	{"scatter", []arg{dense(2, 4, 3), tokens([]int{2, 4}, 4, 0, 4, -1, 2, 2, -7, 1)}, func(b *Builder, in Nodes) *Node {
		return Scatter(b, in[0], in[1], 6)
	}},
	{"broadcast", []arg{dense(5, 3)}, func(b *Builder, in Nodes) *Node { return Broadcast(b, in[0], 2) }},
	{"mask rows", []arg{dense(3, 5, 2), tokens([]int{3}, 4, 0, 5)}, func(b *Builder, in Nodes) *Node { return MaskRows(b, in[0], in[1]) }},
	{"mean rows", []arg{dense(3, 5, 2), tokens([]int{3}, 4, 0, 5)}, func(b *Builder, in Nodes) *Node { return MeanRows(b, in[0], in[1]) }},
	{"mean of all rows", []arg{dense(3, 5, 2)}, func(b *Builder, in Nodes) *Node { return MeanRows(b, in[0], nil) }},
	{"max rows", []arg{dense(3, 5, 2), tokens([]int{3}, 4, 0, 5)}, func(b *Builder, in Nodes) *Node { return MaxRows(b, in[0], in[1]) }},
	{"hierarchy of means", []arg{dense(3, 7, 2), tokens([]int{3}, 7, 0, 5)}, func(b *Builder, in Nodes) *Node {
		return Hierarchy(b, in[0], in[1], 3, PoolMean, func(_ int, x, lens *Node) *Node { return MaskRows(b, Mul(b, x, x), lens) })
	}},
	{"hierarchy of maps", []arg{dense(2, 6, 3)}, func(b *Builder, in Nodes) *Node {
		return Hierarchy(b, in[0], nil, 2, PoolLinear, func(_ int, x, _ *Node) *Node { return Mul(b, x, x) })
	}},
	{"hierarchy of means without lengths", []arg{dense(2, 5, 3)}, func(b *Builder, in Nodes) *Node {
		return Hierarchy(b, in[0], nil, 2, PoolMean, func(_ int, x, _ *Node) *Node { return x })
	}},
	{"a term of the loss", []arg{dense(2, 3)}, func(b *Builder, in Nodes) *Node {
		y := b.AddLoss(in[0], Reshape(b, Sum(b, Mul(b, in[0], in[0])), 1)) // with the weight 0
		b.Terms(nil)
		return y
	}},
	{"contrast", []arg{dense(5, 5), tokens([]int{5}, 0, 3, 0, -1, 2)}, func(b *Builder, in Nodes) *Node { return Contrast(b, in[0], in[1]) }},
	{"contrast of nothing", []arg{dense(2, 2), tokens([]int{2}, -1, -1)}, func(b *Builder, in Nodes) *Node { return Contrast(b, in[0], in[1]) }},
}
