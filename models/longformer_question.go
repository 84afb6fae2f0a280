package models

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// maxQuestion is how many tokens before the first sep token can be global. The strip of their keys is as wide as that, so it must not
// grow with the length.
const maxQuestion = 512

// questionRows are the positions before the first id sep of each example, then -1: int32 [B, min(T, maxQuestion)].
func questionRows(b *layers.Builder, ids, lens *Node, sep int32) *Node {
	in := []*Node{ids}
	if lens != nil {
		in = append(in, lens)
	}
	return b.Op(question{sep}, in...)
}

// question has inputs: ids [B,T], and lengths if there are any.
type question struct{ sep int32 }

func (question) Name() string { return "question" }

func (question) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if in[0].Dtype != tensor.Int32 || len(s) != 2 {
		return engine.Type{}, fmt.Errorf("ids are %v, want int32 [B,T]", in[0])
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{s[0], min(s[1], maxQuestion)}}, nil
}

func (o question) Run(out engine.Value, in []engine.Value) error {
	t, g := in[0].Shape()[1], out.Shape()[1]
	for b := range in[0].Shape()[0] {
		n := t
		if len(in) > 1 {
			n = min(int(engine.Ints(in[1])[b]), t)
		}
		ids, row, end := engine.Ints(in[0])[b*t:][:n], engine.Ints(out)[b*g:][:g], 0
		for end < n && ids[end] != o.sep {
			end++
		}
		switch {
		case end == n && n > 0:
			return fmt.Errorf("example %d has no token %d (sep_token_id), which ends a question: give one, or say which tokens are global", b, o.sep)
		case end > g:
			return fmt.Errorf("the question of example %d has %d tokens, at most %d can be global: shorten it, or say which tokens are global", b, end, g)
		}
		for i := range row {
			row[i] = -1
			if i < end {
				row[i] = int32(i)
			}
		}
	}
	return nil
}

func (question) Diff(in layers.Nodes, _, _ *Node) (layers.Nodes, error) {
	return make(layers.Nodes, len(in)), nil
}
