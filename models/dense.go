package models

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// denseTarget is what a dense encoder is made into.
type denseTarget struct {
	modelType, class string
	positions        func(pad int) int                     // rows of the new table of positions before that of the first token
	set              func(set func(key string, value any)) // the keys of the config that are its own
	nameOf           func(d denseFamily, name, task string) string
	heads            bool // heads of other tasks than masked_lm are as in the dense model; else they begin anew
}

// fromDense makes a model of the weights of a BERT or RoBERTa: config is its config.json, weights are its tensors by name, with or without the
// prefix of the base model. Positions past the old ones repeat them. fresh are the weights that the dense model does not have.
//
// Errors: another model_type; faults of the config as of New; *WeightsError.
func fromDense(raw []byte, weights map[string]*tensor.Dense, to denseTarget, tokens int, dtype tensor.Dtype) (m Model, params *layers.Params, fresh []string, err error) {
	var c map[string]json.RawMessage
	if err := config.Decode(raw, &c); err != nil {
		return nil, nil, nil, err
	}
	dense := struct {
		ModelType     string   `json:"model_type"`
		Architectures []string `json:"architectures"`
		PadTokenID    *int     `json:"pad_token_id"`
		SepTokenID    *int     `json:"sep_token_id"`
		HiddenAct     string   `json:"hidden_act"`
	}{HiddenAct: "gelu"}
	if err := json.Unmarshal(raw, &dense); err != nil {
		return nil, nil, nil, err
	}
	d, ok := denseFamilies[dense.ModelType]
	if !ok {
		return nil, nil, nil, &config.FieldError{Path: "model_type", Value: dense.ModelType, Want: "cannot be made a " + to.modelType + "; want bert or roberta"}
	}
	pad, first := d.pad, 0
	if dense.PadTokenID != nil {
		pad = *dense.PadTokenID
	}
	if d.counted {
		first = pad + 1
	}
	old := find(weights, d.base, "embeddings.position_embeddings.weight")
	if old == nil || old.Dims() != 2 || old.Shape()[0] <= first {
		return nil, nil, nil, &WeightsError{Missing: []string{d.base + "embeddings.position_embeddings.weight"}}
	}
	if tokens == 0 {
		tokens = old.Shape()[0] - first
	}
	set := func(key string, v any) { c[key], _ = json.Marshal(v) }
	before := to.positions(pad)
	set("model_type", to.modelType)
	set("pad_token_id", pad)
	set("max_position_embeddings", tokens+before)
	set("hidden_act", dense.HiddenAct) // for which the families have defaults of their own
	to.set(set)
	architecture := ""
	if len(dense.Architectures) > 0 {
		if architecture = strings.TrimPrefix(dense.Architectures[0], d.class); architecture == "ForPreTraining" {
			architecture = "ForMaskedLM" // what else it has is not kept
		}
		set("architectures", []string{to.class + architecture})
	}
	var p problems
	p.want(architecture != "ForQuestionAnswering" || dense.SepTokenID != nil || d.counted, "sep_token_id", dense.SepTokenID, "the id that ends a question")
	p.want(!to.heads || !d.cls || !strings.HasSuffix(architecture, "LM") || dense.HiddenAct == "gelu", "hidden_act", dense.HiddenAct, "gelu: longformer's head has no other")
	for _, key := range []string{"vocab_size", "layer_norm_eps", "type_vocab_size"} {
		p.want(c[key] != nil, key, nil, "a value: the families do not default to the same")
	}
	if err := p.err(); err != nil {
		return nil, nil, nil, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, nil, nil, err
	}
	if m, err = New(text); err != nil {
		return nil, nil, nil, err
	}
	if params, err = NewParams(m, dtype, 0); err != nil {
		return nil, nil, nil, err
	}
	var faults WeightsError
	for _, q := range params.All() {
		name := to.nameOf(d, q.Name, m.Task())
		v := find(weights, d.base, name)
		switch {
		case v == nil && !to.heads && (strings.HasPrefix(name, "pooler.") || m.Task() != "masked_lm" && !strings.HasPrefix(q.Name, BasePrefix(m))):
			fresh = append(fresh, q.Name)
			continue
		case v == nil:
			faults.Missing = append(faults.Missing, d.base+name)
			continue
		case strings.HasSuffix(name, "position_embeddings.weight"):
			v = extend(v, first, before, tokens)
		}
		if !slices.Equal(v.Shape(), q.Value.Shape()) {
			faults.Shape = append(faults.Shape, fmt.Sprintf("%s: %v, want %v", name, v.Shape(), q.Value.Shape()))
		} else if err := params.Load(q.Name, v); err != nil {
			return nil, nil, nil, err
		}
	}
	if faults.Missing != nil || faults.Shape != nil {
		return nil, nil, nil, &faults
	}
	return m, params, fresh, nil
}

// denseFamily is how a dense encoder differs from a Longformer in names and positions.
type denseFamily struct {
	class, base string
	pad         int
	counted     bool // positions start behind that of padding
	cls         bool // BERT's names of heads
}

var denseFamilies = map[string]denseFamily{
	"bert":    {class: "Bert", base: "bert.", cls: true},
	"roberta": {class: "Roberta", base: "roberta.", pad: 1, counted: true},
}

// find looks a tensor up, with the prefix of the base model or without.
func find(weights map[string]*tensor.Dense, base, name string) *tensor.Dense {
	if v := weights[base+name]; v != nil {
		return v
	}
	return weights[name]
}

// extend makes a table whose rows from `to` on are those of the old one from `from` on, over and over, for so many tokens. What stood
// before them stays; rows that the old table does not have are 0.
func extend(old *tensor.Dense, from, to, tokens int) *tensor.Dense {
	v := tensor.New(tensor.Of(old.Dtype()), tensor.WithShape(to+tokens, old.Shape()[1]))
	if old.Dtype() == tensor.Float32 {
		extendRows(old.Float32s(), v.Float32s(), old.Shape()[1], from, to)
	} else {
		extendRows(old.Float64s(), v.Float64s(), old.Shape()[1], from, to)
	}
	return v
}

func extendRows[F float32 | float64](old, table []F, width, from, to int) {
	tokens := len(old)/width - from
	for r := range len(table) / width {
		switch {
		case r >= to:
			copy(table[r*width:][:width], old[(from+(r-to)%tokens)*width:])
		case r < from:
			copy(table[r*width:][:width], old[r*width:])
		}
	}
}

// ExtendPositions makes a table of positions [first+P,C] one for `tokens` tokens: new[first+t] = old[first + t mod P], and the first rows,
// those of no token, as they are. Attention that looks at most P tokens away then sees everywhere what it was trained on.
// Errors: a table without rows of tokens.
func ExtendPositions(old *tensor.Dense, first, tokens int) (*tensor.Dense, error) {
	if old.Dims() != 2 || first < 0 || old.Shape()[0] <= first || tokens < 1 {
		return nil, fmt.Errorf("a table of positions %v with tokens from row %d on, for %d tokens: want [P,C] with more rows", old.Shape(), first, tokens)
	}
	return extend(old, first, first, tokens), nil
}
