package models

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// decoderHead is a decoder of Hugging Face with another head than that of a language model, or with none:
//
//	sequence_classification: score · y of the last token that is not padding (of images: of the mean of all)
//	token_classification, question_answering: classifier or qa_outputs of every token
type decoderHead struct {
	Model // the language model: config, names, warnings
	stack *stack
	task  string
	hfLabelled
}

// hfLabelled is what the config says of such a head.
type hfLabelled struct {
	labels  int
	pad     *int32 // pad_token_id
	mean    bool
	dropout float64
}

// withHeadOf is a language model as it is, or with the head that architectures[0] asks for. family stands before the names of classes, language is the
// class of the language model. A base model whose head would be its token table is a language model, too.
func withHeadOf(p *problems, m Causal, family, language string, rest extra) (Model, error) {
	var architectures []string
	p.key(rest, "architectures", &architectures)
	s := m.causal()
	if len(architectures) == 0 || architectures[0] == language || architectures[0] == family+"Model" && !s.untied {
		return m, p.err()
	}
	tasks := map[string]string{family + "Model": "", family + "ForSequenceClassification": "sequence_classification",
		family + "ForTokenClassification": "token_classification", family + "ForQuestionAnswering": "question_answering"}
	h := hfLabelled{dropout: 0.1}
	if family == "ImageGPT" {
		tasks, h.mean = map[string]string{family + "Model": "", family + "ForImageClassification": "sequence_classification"}, true
	}
	class, ok := tasks[architectures[0]]
	if !ok {
		have := append(slices.Collect(maps.Keys(tasks)), language)
		slices.Sort(have)
		p.add(&config.FieldError{Path: "architectures", Value: architectures, Want: "want one of " + strings.Join(have, ", ")})
		return nil, p.err()
	}
	problem, labels := p.hfLabels("", rest)
	task, labels := ofProblem(class, problem, labels)
	h.labels = labels
	pad := int32(-1)
	if p.key(rest, "pad_token_id", &pad); pad >= 0 {
		h.pad = &pad
	}
	p.key(rest, "classifier_dropout", &h.dropout)
	p.dropout("classifier_dropout", h.dropout)
	if task == "token_classification" {
		rest["classifier_dropout"], _ = json.Marshal(h.dropout)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return &decoderHead{m, s, task, h}, nil
}

// Task is that of the head; empty for a base model.
func (m *decoderHead) Task() string { return m.task }

// Dims are the sizes.
func (m *decoderHead) Dims() Dims {
	d := m.stack.Dims
	d.Labels = m.labels
	return d
}

func (m *decoderHead) base() *stack { return m.stack }

// Forward adds the network to the graph.
func (m *decoderHead) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	x, hidden := m.stack.run(b, in, memory{}, layersPerBlock)
	out := Outputs{Hidden: hidden}
	if b.Err() != nil {
		return out
	}
	switch m.task {
	case "sequence_classification", "multi_label_classification", "regression":
		out.Logits = layers.Linear(b.Scope("score"), m.pooled(b, x, in), layers.LinearConfig{Out: m.labels, NoBias: true, Init: m.stack.initial()})
	case "token_classification":
		out.Logits = layers.Linear(b.Scope("classifier"), layers.Dropout(b.Scope("classifier"), x, m.dropout), layers.LinearConfig{Out: m.labels, Init: m.stack.initial()})
	case "question_answering":
		out.Logits = layers.Linear(b.Scope("qa_outputs"), x, layers.LinearConfig{Out: 2, Init: m.stack.initial()}) // [B,T,2]: start, end
	}
	return out
}

// pooled is the vector of each example, [B,C].
func (m *decoderHead) pooled(b *layers.Builder, x *Node, in Inputs) *Node {
	switch {
	case m.mean:
		return layers.MeanRows(b, x, nil)
	case m.pad == nil:
		return lastRow(b, x, in.Lens)
	}
	return layers.Reshape(b, layers.Gather(b, x, b.Op(lastToken{*m.pad}, in.IDs)), x.Shape()[0], m.stack.Hidden)
}

// lastToken is the place of the last id of each example that is not padding, int32 [B,1]; 0 if there is none. Input: ids [B,T].
type lastToken struct{ pad int32 }

func (lastToken) Name() string    { return "last_token" }
func (lastToken) DiffWRT() []bool { return []bool{false} }

func (lastToken) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if in[0].Dtype != tensor.Int32 || len(s) != 2 {
		return engine.Type{}, fmt.Errorf("ids are %v, want int32 [B,T]", in[0])
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{s[0], 1}}, nil
}

func (o lastToken) Run(out engine.Value, in []engine.Value) error {
	t := in[0].Shape()[1]
	for b := range in[0].Shape()[0] {
		last := t - 1
		for last > 0 && engine.Ints(in[0])[b*t+last] == o.pad {
			last--
		}
		engine.Ints(out)[b] = int32(last)
	}
	return nil
}

func (lastToken) Diff(layers.Nodes, *Node, *Node) (layers.Nodes, error) {
	return make(layers.Nodes, 1), nil
}
