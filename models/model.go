package models

import (
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// Node is a node of the expression graph.
type Node = layers.Node

// Dims are the sizes that are asked for from outside.
type Dims struct {
	Vocab     int // V, ids are 0 to V-1
	Hidden    int // C
	Inner     int // F
	Layers    int
	Heads     int
	Positions int // longest sequence; 0 = no limit
	Labels    int // classes or numbers that a head of that kind gives; 0 = none
	Vectors   int // d of Inputs.Vectors; 0 = the model reads ids
}

// Inputs are the graph inputs of a model.
type Inputs struct {
	IDs  *Node // int32 [B,T]
	Lens *Node // int32 [B], tokens of each example that are not padding (right padding); nil: no padding
	// First is the position of the first token, where positions are absolute: an example that is shorter than those to come may stand at
	// the right end of the positions that they will have.
	First int

	// Begun says that the ids of a model for image_density begin with its start id: it then does not put that in front itself. It is
	// how images are generated.
	Begun bool

	Types   *Node // int32 [B,T], token_type_ids; nil: 0 everywhere
	Globals *Node // int32 [B,G], positions of tokens that the task makes global (negative: none); nil: what the model says itself
	Vectors *Node // [B,T,d], what a model reads that has no vocabulary, in place of IDs

	TargetIDs  *Node // int32 [B,U], decoder_input_ids of an encoder-decoder
	TargetLens *Node // int32 [B]; nil: no padding

	// More are inputs of one family alone, such as sentence_ids, by name; a family documents those it reads and what it takes if
	// one is missing.
	More map[string]*Node

	// Attend, if set, takes the place of the attention of every layer: in is q, k, v, each [B,T,C], or one tensor q|k|v; the
	// result is [B,T,C]. It is how a reference's other rules for padding are followed, and how attention can be observed.
	Attend func(b *layers.Builder, layer int, c attention.Config, in ...*Node) *Node
	// AttendTarget does so in the decoder of an encoder-decoder; nil: Attend.
	AttendTarget func(b *layers.Builder, layer int, c attention.Config, in ...*Node) *Node

	first   *layers.Builder // scope of the first layer of a stack
	readers *Node           // int32 [B], rows of a stack of trees that read another sequence
}

// Outputs are what the forward pass gives.
type Outputs struct {
	// Logits are, by task: [B,T,V] of causal_lm and masked_lm, [B,T,K] of image_density (see Mixture), [B,U,V] of seq2seq_lm, [B,T,labels] of token_classification,
	// [B,labels] of sequence_classification, [B,outputs] of regression, [B,T,2] (start, end) of question_answering; nil: no head.
	Logits *Node
	// Hidden are [B,T,C]: the sum of the embeddings, then the stream after each layer; the last one is after the final norm.
	// Of reversible layers, which keep nothing between them, there are the first and the last one only. An encoder-decoder
	// gives those of the decoder here.
	Hidden []*Node
	// More are further outputs by Hugging Face's name: pooler_output [B,C], encoder_last_hidden_state [B,T,C].
	More map[string]*Node
	// Slices, int32 [B], says of which slice of each image the logits [B,P,K] are, where a training step takes one of T/P; nil: they are of all.
	Slices *Node
	// Loss, [1], is a term that the model itself adds to the loss of the task; nil: none.
	Loss *Node
}

// Model is a network without its weights: it adds itself to graphs and names the weights it wants.
type Model interface {
	// Type is the model_type of config.json.
	Type() string
	// Task is what the head is for, such as causal_lm.
	Task() string
	// Dims are the sizes.
	Dims() Dims
	// Config is the resolved config.json.
	Config() ([]byte, error)
	// Forward adds the network to the graph of b. Weights are parameters of b. Errors are kept by b. Each layer, or each
	// layersPerBlock layers, is one block for recomputation; 0: no blocks. Reversible layers are no blocks whatever it is.
	Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs
	// Warnings lists what the configuration asks for that has no effect here, for people.
	Warnings() []string
}

// Causal is a model that can be run token by token.
type Causal interface {
	Model
	causal() *stack
}
