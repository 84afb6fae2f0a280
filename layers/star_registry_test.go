package layers

// starExamples are the rings: closed and open, padded, and so short that neighbours are missing or the same.
var starExamples = []example{
	{"ring", []arg{dense(2, 7, 6), dense(2, 15, 6), dense(2, 15, 6)}, func(b *Builder, in Nodes) *Node {
		return Ring(b, RingConfig{Heads: 2}, in[0], in[1], in[2])
	}},
	{"ring of lengths", []arg{dense(5, 5, 6), dense(5, 11, 6), dense(5, 11, 6), tokens([]int{5}, 3, 0, 1, 2, 5)}, func(b *Builder, in Nodes) *Node {
		return Ring(b, RingConfig{Heads: 3, Scale: 0.7, Lens: in[3]}, in[0], in[1], in[2])
	}},
	{"open ring", []arg{dense(5, 5, 5), dense(5, 11, 5), dense(5, 11, 5), tokens([]int{5}, 3, 0, 1, 2, 5)}, func(b *Builder, in Nodes) *Node {
		return Ring(b, RingConfig{Heads: 1, Open: true, Lens: in[3]}, in[0], in[1], in[2])
	}},
	{"ring of more than a chunk", []arg{dense(1, 67, 2), dense(1, 135, 2), dense(1, 135, 2)}, func(b *Builder, in Nodes) *Node {
		return Ring(b, RingConfig{Heads: 2}, in[0], in[1], in[2])
	}},
}
