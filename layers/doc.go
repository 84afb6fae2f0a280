// Package layers holds the dense building blocks of a network, each a function that adds nodes to a Gorgonia graph.
//
// Letters in shapes, here and in the packages above:
//
//	B  batch         T  tokens of a sequence   C  width of the model
//	H  heads         D  size of a head         F  width of a hidden layer
//	V  vocabulary    N  rows (B*T)             P  rows of a position table
//
// A layer is called with a Builder, which knows the graph, the parameters, the scope ("decoder.h.3.attn") and the first
// error. A layer with a pending error returns nil and does nothing, so a model is written without an error ladder and asks
// Builder.Err once, at its end.
//
// Layers work on the last axis and take any number of axes before it. Every layer exists in float32 and float64. Where a
// layer takes integers (token ids, targets, positions) they are int32.
//
// An operation keeps no state: a mask is a function of (seed, step, scope, index) and an initial weight one of (seed, name,
// index), so a graph that is built again computes the same numbers.
package layers
