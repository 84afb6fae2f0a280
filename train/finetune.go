package train

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// FineTuning says which weights are trained and how they differ. Patterns name weights as layers.MatchName reads them: "query" is the layer of that
// name wherever it stands, "*.embeddings.*" whatever has that in its name.
type FineTuning struct {
	Freeze      []string     `json:"freeze,omitempty"`       // weights that stay as they are
	LoRA        *LoRA        `json:"lora,omitempty"`         // narrow matrices are trained in place of some weights
	ParamGroups []ParamGroup `json:"param_groups,omitempty"` // rates and decays of their own; the last that matches counts
	LayerDecay  float64      `json:"layer_decay,omitempty"`  // factor of the rate from each layer to the one below; 0: 1
	// ClassWeights are factors of the loss by class, of classifiers (of texts or tokens); the loss is divided by their sum over the step.
	ClassWeights []float64 `json:"class_weights,omitempty"`
}

// LoRA trains a product of two narrow matrices beside each of some weights. All other weights are frozen but those of heads (as of
// models.IsHead) and those that modules_to_save names.
type LoRA struct {
	layers.LoRA
	TargetModules []string `json:"target_modules"`
	ModulesToSave []string `json:"modules_to_save,omitempty"`
}

// ParamGroup are weights with a rate or a decay of their own.
type ParamGroup struct {
	Match       string   `json:"match"`
	LRScale     *float64 `json:"lr_scale,omitempty"`     // factor of the learning rate
	WeightDecay *float64 `json:"weight_decay,omitempty"` //
}

func (f FineTuning) validate(want func(ok bool, path string, value any, want string)) {
	for i, p := range f.Freeze {
		want(p != "", fmt.Sprintf("freeze[%d]", i), p, "a pattern such as \"*.embeddings.*\"")
	}
	if l := f.LoRA; l != nil {
		want(l.Rank >= 1, "lora.r", l.Rank, "at least 1")
		want(l.Alpha >= 0, "lora.lora_alpha", l.Alpha, "at least 0 (0: twice r)")
		want(len(l.TargetModules) > 0, "lora.target_modules", l.TargetModules, "names of layers, such as [\"query\", \"value\"]")
	}
	for i, g := range f.ParamGroups {
		at := fmt.Sprintf("param_groups[%d].", i)
		want(g.Match != "", at+"match", g.Match, "a pattern such as \"classifier.*\"")
		want(g.LRScale == nil || *g.LRScale >= 0, at+"lr_scale", g.LRScale, "at least 0")
		want(g.WeightDecay == nil || *g.WeightDecay >= 0, at+"weight_decay", g.WeightDecay, "at least 0")
	}
	want(f.LayerDecay >= 0 && f.LayerDecay <= 1, "layer_decay", f.LayerDecay, "from 0 to 1 (0: 1)")
	for i, w := range f.ClassWeights {
		want(w >= 0 && !math.IsInf(w, 0), fmt.Sprintf("class_weights[%d]", i), w, "a number of at least 0")
	}
}

// apply marks the weights of a model, all of which must be there, and adds what LoRA trains.
//
// Errors: a pattern that matches nothing; LoRA on what is no matrix.
func (f FineTuning) apply(m models.Model, params *layers.Params, seed uint64) error {
	all := ownWeights(params)
	match := func(what, pattern string) ([]*layers.Param, error) {
		var hit []*layers.Param
		for _, p := range all {
			if layers.MatchName(pattern, p.Name) {
				hit = append(hit, p)
			}
		}
		if len(hit) == 0 {
			return nil, fmt.Errorf("train.%s: %q matches no weight; `inspect` lists their names", what, pattern)
		}
		return hit, nil
	}
	for i, pattern := range f.Freeze {
		hit, err := match(fmt.Sprintf("freeze[%d]", i), pattern)
		if err != nil {
			return err
		}
		for _, p := range hit {
			p.Frozen = true
		}
	}
	if f.LayerDecay > 0 && f.LayerDecay < 1 {
		for _, p := range all {
			p.Rate = math.Pow(f.LayerDecay, float64(below(m, p.Name)))
		}
	}
	for i, g := range f.ParamGroups {
		hit, err := match(fmt.Sprintf("param_groups[%d].match", i), g.Match)
		if err != nil {
			return err
		}
		for _, p := range hit {
			if g.LRScale != nil {
				p.Rate = *g.LRScale
				p.Frozen = p.Rate == 0
			}
			if g.WeightDecay != nil {
				p.Decay = g.WeightDecay
			}
		}
	}
	if f.LoRA == nil {
		return nil
	}
	var targets []*layers.Param
	for i, pattern := range f.LoRA.TargetModules {
		hit, err := match(fmt.Sprintf("lora.target_modules[%d]", i), pattern)
		if err != nil {
			return err
		}
		for _, p := range hit {
			if p.Value.Dims() == 2 && !slices.Contains(targets, p) {
				targets = append(targets, p)
			}
		}
	}
	for _, p := range all {
		saved := slices.ContainsFunc(f.LoRA.ModulesToSave, func(pattern string) bool { return layers.MatchName(pattern, p.Name) })
		if !saved && !models.IsHead(m, p.Name) {
			p.Frozen = true
		}
	}
	for _, p := range targets {
		if err := params.AddLoRA(p.Name, f.LoRA.LoRA, seed); err != nil {
			return err
		}
	}
	return nil
}

// below is how many layers lie above a weight: 0 of heads and final norms, one more for each layer down, and of the embeddings all.
func below(m models.Model, name string) int {
	depth := m.Dims().Layers
	for _, word := range strings.Split(name, ".") {
		if l, err := strconv.Atoi(word); err == nil {
			return max(0, depth-l)
		}
	}
	if slices.ContainsFunc([]string{"embed", "wte", "wpe", "tokens", "positions"}, func(s string) bool { return strings.Contains(name, s) }) {
		return depth + 1
	}
	return 0
}

// fineTune gives a model all its weights and marks them.
func (c Config) fineTune(m models.Model, params *layers.Params) error {
	f := c.FineTuning
	if len(f.ClassWeights) > 0 {
		if n := m.Dims().Labels; m.Task() != "sequence_classification" && m.Task() != "token_classification" || n != len(f.ClassWeights) {
			return &config.FieldError{Path: "train.class_weights", Value: f.ClassWeights, Want: fmt.Sprintf("want a weight for each of the %d classes of a classifier", n)}
		}
	}
	if len(f.Freeze)+len(f.ParamGroups) == 0 && f.LoRA == nil && (f.LayerDecay == 0 || f.LayerDecay == 1) {
		return nil
	}
	all, err := models.NewParams(m, params.Dtype(), c.Seed)
	if err != nil {
		return err
	}
	for _, p := range all.All() {
		if _, ok := params.Get(p.Name); ok {
			continue
		}
		if err := params.Load(p.Name, p.Value); err != nil {
			return err
		}
	}
	return f.apply(m, params, c.Seed)
}

// weight is what the rows of a batch that have something to predict weigh together: as many as they are, or by their classes.
func (o objective) weight(b *data.Batch, classes []float64) float64 {
	if classes == nil {
		_, kept := o.count(b)
		return float64(kept)
	}
	sum := 0.0
	for _, t := range o.targets(b) {
		if t >= 0 {
			sum += classes[t]
		}
	}
	return sum
}

// setClassWeights gives the rows of a batch the factors of their classes, if classes have some, divided by what all weigh.
func (g *Graph) setClassWeights(b *data.Batch, classes []float64, all float64) {
	if classes == nil {
		return
	}
	for i, t := range g.goal.targets(b) {
		w := 0.0
		if t >= 0 {
			w = classes[t] / all
		}
		if engine.IsF32(g.weights) {
			engine.Floats[float32](g.weights)[i] = float32(w)
		} else {
			engine.Floats[float64](g.weights)[i] = w
		}
	}
}

// rowLoss is the sum of the losses of the rows, times the factors of their classes.
func (g *Graph) rowLoss(b *data.Batch, classes []float64) float64 {
	if classes == nil {
		return sum(g.rows)
	}
	total, row := 0.0, rowsOf(g.rows)
	for i, t := range g.goal.targets(b) {
		if t >= 0 {
			total += classes[t] * row(i)
		}
	}
	return total
}

func rowsOf(v engine.Value) func(i int) float64 {
	if engine.IsF32(v) {
		return floats64[float32](v)
	}
	return floats64[float64](v)
}
