package attention

import "github.com/euryale-ml/euryale/layers"

// Crossing is a Mixer by which tokens of one sequence read another one, the memory, in a way that is more than a pattern.
type Crossing interface {
	Mixer
	// Cross adds the attention of a layer on the memory and returns [B,TQ,H·D], before the output projection. What it finds in the memory
	// does not depend on the queries' sequence but for each query itself, which may be written token by token.
	Cross(b *layers.Builder, in CrossStream) *Node
}

// CrossStream is what a Crossing reads.
type CrossStream struct {
	Q    *Node // queries of the stream, [B,TQ,H·D]
	K, V *Node // of the memory, [B,S,H·D]
	// Memory, [B,S,C], is what K and V were projected from.
	Memory *Node
	// Lens and LensQ, int32 [B], are how many tokens of the memory and of the stream are not padding; nil: all.
	Lens, LensQ *Node
	Heads       int
	Scale       float64 // of the scores; 0: 1/√D
	// Project is the layer's own projection of rows of the memory: to queries (0), keys (1) or values (2).
	Project func(b *layers.Builder, part int, x *Node) *Node
}
