package golden

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// classes are the classes of transformers that can be run, each with its model_type.
var classes = map[string]string{
	"GPT2LMHeadModel": "gpt2", "GPT2Model": "gpt2", "GPT2ForSequenceClassification": "gpt2", "GPT2ForTokenClassification": "gpt2", "GPT2ForQuestionAnswering": "gpt2",
	"ImageGPTForCausalImageModeling": "imagegpt", "ImageGPTModel": "imagegpt", "ImageGPTForImageClassification": "imagegpt",
	"GPTNeoForCausalLM": "gpt_neo", "GPTNeoModel": "gpt_neo", "GPTNeoForSequenceClassification": "gpt_neo", "GPTNeoForTokenClassification": "gpt_neo",
	"GPTNeoForQuestionAnswering": "gpt_neo",
	"BigBirdModel":               "big_bird", "BigBirdForMaskedLM": "big_bird", "BigBirdForSequenceClassification": "big_bird", "BigBirdForTokenClassification": "big_bird",
	"BigBirdForQuestionAnswering": "big_bird", "BigBirdPegasusForConditionalGeneration": "bigbird_pegasus",
	"BertModel": "bert", "BertForMaskedLM": "bert", "BertForSequenceClassification": "bert", "BertForTokenClassification": "bert", "BertForQuestionAnswering": "bert",
	"LongformerModel": "longformer", "LongformerForMaskedLM": "longformer", "LongformerForSequenceClassification": "longformer",
	"LongformerForTokenClassification": "longformer", "LongformerForQuestionAnswering": "longformer", "LEDForConditionalGeneration": "led", "LongT5ForConditionalGeneration": "longt5",
	"ReformerModel": "reformer", "ReformerModelWithLMHead": "reformer", "ReformerForMaskedLM": "reformer", "ReformerForSequenceClassification": "reformer",
	"ReformerForQuestionAnswering": "reformer",
}

// CheckHead says whether the head that a config.json asks for by architectures[0] can be run; without that key it can.
func CheckHead(config []byte) error {
	var c struct {
		Architectures []string `json:"architectures"`
	}
	if err := json.Unmarshal(config, &c); err != nil || len(c.Architectures) == 0 {
		return err
	}
	return checkClass(c.Architectures[0])
}

func checkClass(class string) error {
	if classes[class] == "" {
		return fmt.Errorf("no model of class %q here; there are %s", class, strings.Join(sortedKeys(classes), ", "))
	}
	return nil
}

// Model builds the model of a Hugging Face case from its config and loads its parameters.
//
// Errors: a class that is unknown here; faults of the config; parameters that are missing, unknown or of the wrong shape.
func (c *Case) Model(p Precision) (models.Model, *layers.Params, error) {
	if err := checkClass(c.ModelClass); err != nil {
		return nil, nil, err
	}
	config := map[string]json.RawMessage{}
	if err := json.Unmarshal(c.Config, &config); err != nil {
		return nil, nil, fmt.Errorf("config: %w", err)
	}
	config["model_type"], _ = json.Marshal(classes[c.ModelClass])
	config["architectures"], _ = json.Marshal([]string{c.ModelClass})
	text, err := json.Marshal(config)
	if err != nil {
		return nil, nil, err
	}
	m, err := models.New(text)
	if err != nil {
		return nil, nil, fmt.Errorf("config: %w", err)
	}
	params, err := models.NewParams(m, p.Dtype(), 0)
	if err != nil {
		return nil, nil, err
	}
	used := map[string]bool{}
	for _, q := range params.All() {
		name := c.nameOf(m, q.Name, func(n string) bool { return c.Param(n) != nil })
		if name == "" && q.Name == "lm_head.weight" && strings.HasSuffix(c.ModelClass, "Model") && !strings.Contains(c.ModelClass, "LMHead") {
			continue // a base model has no head; its outputs do not read it
		}
		if name == "" {
			return nil, nil, fmt.Errorf("there is no param/%s", q.Name)
		}
		used[name] = true
		t := c.Param(name)
		if !slices.Equal(t.Shape, []int(q.Value.Shape())) {
			return nil, nil, fmt.Errorf("param/%s has shape %v, the model wants %v", name, t.Shape, q.Value.Shape())
		}
		if err := params.Load(q.Name, tensor.New(tensor.WithShape(t.Shape...), tensor.WithBacking(slices.Clone(t.F)))); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range c.Params() {
		if !used[name] && c.Tied[name] == "" && name != "lm_head.weight" {
			return nil, nil, fmt.Errorf("param/%s is not part of the model", name)
		}
	}
	return m, params, nil
}

// nameOf is the name under which a case holds something of a weight: that of the weight, or the one a base model gives it.
func (c *Case) nameOf(m models.Model, weight string, has func(string) bool) string {
	base := strings.TrimPrefix(weight, models.BasePrefix(m))
	switch {
	case has(weight):
		return weight
	case has(base):
		return base
	}
	return ""
}

// CheckModel runs a model on the inputs of the case and compares all outputs and gradients that the case holds.
// Outputs come from the graph for inference, gradients from the one for training.
//
// Errors: as Run. What the case holds and the model does not give is a failed result.
func (c *Case) CheckModel(m models.Model, params *layers.Params, p Precision) ([]Result, error) {
	in, err := c.Batch()
	if err != nil {
		return nil, err
	}
	got, err := Run(m, params, in, false)
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, name := range c.Outputs() {
		v, ok := got.Out[name]
		if !ok {
			full := "out64/" + name
			if c.Out64(name) == nil {
				full = "out/" + name
			}
			results = append(results, fault(full, "the model gives no such output for these inputs; it gives %s", strings.Join(sortedKeys(got.Out), ", ")))
			continue
		}
		results = append(results, c.CompareOut(name, v, p))
	}
	grads, err := c.checkGradients(m, params, in, p)
	results = append(results, grads...)
	if err == nil && len(results) == 0 {
		err = errors.New("there is nothing to compare: no out/*, out64/* or grad/*")
	}
	return results, err
}

func (c *Case) checkGradients(m models.Model, params *layers.Params, in Batch, p Precision) ([]Result, error) {
	stored := c.Names("grad/")
	if len(stored)+len(c.WithoutGrad) == 0 {
		return nil, nil
	}
	got, err := Run(m, params, in, true)
	if err != nil {
		return nil, err
	}
	weights := map[string]any{}
	for name, g := range got.Grad {
		weights[name] = g
		weights[strings.TrimPrefix(name, models.BasePrefix(m))] = g
	}
	var results []Result
	for _, name := range stored {
		if weights[name] == nil {
			results = append(results, fault("grad/"+name, "the model has no such weight; it has %s", strings.Join(sortedKeys(got.Grad), ", ")))
			continue
		}
		results = append(results, c.CompareGrad(name, weights[name], p))
	}
	for _, name := range c.WithoutGrad {
		if c.Grad(name) == nil && c.Param(name) != nil {
			results = append(results, c.CompareGrad(name, weights[name], p))
		}
	}
	return results, nil
}

// dropouts are the keys of dropout in the families that can be run.
var dropouts = []string{"resid_pdrop", "embd_pdrop", "attn_pdrop", "resid_dropout", "embed_dropout", "attention_dropout", "hidden_dropout_prob",
	"attention_probs_dropout_prob", "classifier_dropout", "classifier_dropout_prob", "dropout", "activation_dropout", "dropout_rate", "lsh_attention_probs_dropout_prob",
	"local_attention_probs_dropout_prob"}

// withoutDropout is the model with all dropout set to 0, so that it can be differentiated as it evaluates.
func withoutDropout(m models.Model) (models.Model, error) {
	text, err := m.Config()
	if err != nil {
		return nil, err
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, err
	}
	for _, key := range dropouts {
		if config[key] != nil {
			config[key] = json.RawMessage("0")
		}
	}
	if text, err = json.Marshal(config); err != nil {
		return nil, err
	}
	return models.New(text)
}

// OtherWeights compares param/* with the weights of a model and returns those that are not the same: then outputs differ for
// that reason.
func (c *Case) OtherWeights(m models.Model, params *layers.Params) []Result {
	var results []Result
	for _, name := range c.Names("param/") {
		q, ok := params.Get(name)
		if !ok {
			q, ok = params.Get(models.BasePrefix(m) + name)
		}
		full := "param/" + name
		if !ok {
			if c.Tied[name] == "" && name != "lm_head.weight" {
				results = append(results, fault(full, "the model has no such weight"))
			}
			continue
		}
		got, err := values(q.Value.Data())
		if err != nil {
			continue
		}
		want := c.tensors[full]
		r := Compare(full, got, want.Float64s(), want.Shape, 0, 0, nil)
		if !r.OK {
			results = append(results, r)
		}
	}
	return results
}
