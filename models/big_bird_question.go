package models

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// answer is the model with the head of question_answering, whose examples are [CLS] question [SEP] text [SEP]: a feed-forward part of its
// own, and start and end, [B,T,2], of which those in the question (but for the first token, which says that there is no answer)
// are outOfText lower. Where no types are given, the question has type 0 and the text 1.
func (m *BigBird) answer(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	if b.Err() == nil && in.IDs == nil {
		b.Failf("the model reads ids [B,T], and there are none: give data of tokens")
	}
	sep := int32(m.cfg.SepTokenID)
	if in.Types == nil && b.Err() == nil {
		in.Types = b.Op(questionTypes{sep}, in.IDs)
	}
	x, hidden := m.run(b, in, memory{}, layersPerBlock)
	h := layers.FeedForward(b.Scope("qa_classifier"), layers.Dropout(b.Scope("qa_classifier"), x, m.head.dropout), layers.FeedForwardConfig{
		Hidden: m.Inner, Act: m.act, Up: "intermediate.dense", Down: "output.dense", Residual: x, Init: m.initial(), Dropout: m.residDropout})
	h = m.norm(b, "qa_classifier.output.LayerNorm", h)
	logits := m.dense(b, m.head.out, h, 2, kernels.None)
	if b.Err() != nil {
		return Outputs{}
	}
	return Outputs{Logits: layers.Add(b, logits, b.Op(notInText{sep, b.Dtype()}, in.IDs)), Hidden: hidden}
}

// outOfText is what keeps an answer out of the question.
const outOfText = 1e6

// questionEnd is how many tokens stand before the text: up to the first sep, which belongs to them; 1 if there is none.
func questionEnd(ids []int32, sep int32) int {
	for i, id := range ids {
		if id == sep {
			return i + 1
		}
	}
	return 1
}

// questionTypes makes token types [B,T] of ids [B,T].
type questionTypes struct{ sep int32 }

func (questionTypes) Name() string    { return "question_types" }
func (questionTypes) DiffWRT() []bool { return []bool{false} }

func (questionTypes) Infer(in []engine.Type) (engine.Type, error) {
	if in[0].Dtype != tensor.Int32 || len(in[0].Shape) != 2 {
		return engine.Type{}, fmt.Errorf("ids are %v, want int32 [B,T]", in[0])
	}
	return in[0], nil
}

func (o questionTypes) Run(out engine.Value, in []engine.Value) error {
	t := in[0].Shape()[1]
	for b := range in[0].Shape()[0] {
		end := questionEnd(engine.Ints(in[0])[b*t:][:t], o.sep)
		for i := range t {
			kind := int32(0)
			if i >= end {
				kind = 1
			}
			engine.Ints(out)[b*t+i] = kind
		}
	}
	return nil
}

func (questionTypes) Diff(layers.Nodes, *Node, *Node) (layers.Nodes, error) {
	return make(layers.Nodes, 1), nil
}

// notInText makes [B,T,2] of ids [B,T]: -outOfText in the question but for the first token, else 0.
type notInText struct {
	sep   int32
	dtype tensor.Dtype
}

func (notInText) Name() string    { return "not_in_text" }
func (notInText) DiffWRT() []bool { return []bool{false} }

func (o notInText) Infer(in []engine.Type) (engine.Type, error) {
	t, err := questionTypes{}.Infer(in)
	if err != nil {
		return t, err
	}
	return engine.Type{Dtype: o.dtype, Shape: tensor.Shape{t.Shape[0], t.Shape[1], 2}}, nil
}

func (o notInText) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		lowerQuestion(engine.Floats[float32](out), in[0], o.sep)
	} else {
		lowerQuestion(engine.Floats[float64](out), in[0], o.sep)
	}
	return nil
}

func lowerQuestion[F kernels.Float](out []F, in engine.Value, sep int32) {
	t := in.Shape()[1]
	clear(out)
	for b := range in.Shape()[0] {
		end := questionEnd(engine.Ints(in)[b*t:][:t], sep)
		row := out[2*b*t:]
		for i := 2; i < 2*end; i++ {
			row[i] = -outOfText
		}
	}
}

func (notInText) Diff(layers.Nodes, *Node, *Node) (layers.Nodes, error) {
	return make(layers.Nodes, 1), nil
}
