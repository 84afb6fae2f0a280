package models

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// families is every model_type that New knows, in the order of the documentation.
var families = []struct {
	modelType string
	new       func(raw []byte) (Model, error)
}{
	{"decoder", newDecoder},
	{"encoder", newEncoder},
	{"encoder_decoder", newEncoderDecoder},
	{"bert", newBert},
	{"big_bird", newBigBird},
	{"bigbird_pegasus", newBigBirdPegasus},
	{"etc", newETC},
	{"gpt2", newGPT2},
	{"gpt_neo", newGPTNeo},
	{"imagegpt", newImageGPT},
	{"image_transformer", newImageTransformer},
	{"longformer", newLongformer},
	{"led", newLED},
	{"longt5", newLongT5},
	{"reformer", newReformer},
	{"star_transformer", newStarTransformer},
	{"bp_transformer", newBPTransformer},
	{"axial_transformer", newAxialTransformer},
}

// Types lists the model types that can be built.
func Types() []string {
	var all []string
	for _, f := range families {
		all = append(all, f.modelType)
	}
	return all
}

// New builds a model from the text of a config.json (or of the "model" part of a recipe).
//
// Errors: *config.SyntaxError for broken JSON, else every fault as *config.FieldError, joined, with paths relative to the model.
func New(raw []byte) (Model, error) {
	var head map[string]json.RawMessage
	if err := config.Decode(raw, &head); err != nil {
		return nil, err
	}
	var modelType string
	if v, ok := head["model_type"]; ok {
		if err := json.Unmarshal(v, &modelType); err != nil {
			return nil, &config.FieldError{Path: "model_type", Value: v, Want: "want a string: one of " + strings.Join(Types(), ", ")}
		}
	} else {
		return nil, &config.FieldError{Path: "model_type", Want: "is missing: give one of " + strings.Join(Types(), ", ")}
	}
	for _, f := range families {
		if f.modelType == modelType {
			m, err := f.new(raw)
			if err != nil {
				return nil, err // not m, which is an interface that holds a nil pointer
			}
			return m, nil
		}
	}
	want := "unknown: have " + strings.Join(Types(), ", ")
	if near := config.Nearest(modelType, Types()); near != "" {
		want = fmt.Sprintf("unknown, did you mean %q? There are %s", near, strings.Join(Types(), ", "))
	}
	return nil, &config.FieldError{Path: "model_type", Value: modelType, Want: want}
}

// Default is the config.json of the model that is trained when nothing else is asked for.
const Default = `{"model_type": "decoder", "task": "causal_lm", "vocab_size": 256, "hidden_size": 256, "intermediate_size": 1024,
 "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 16384, "position_embedding_type": "rotary",
 "hidden_act": "gelu", "layer_norm_eps": 1e-5, "hidden_dropout_prob": 0.0, "tie_word_embeddings": true, "residual": "plain",
 "attention": [{"type": "band", "window_left": 255}]}`

// NewParams makes the weights of a model with their initial values, which depend on the seed and on each weight's name alone.
func NewParams(m Model, dtype tensor.Dtype, seed uint64) (*layers.Params, error) {
	params := layers.NewParams(dtype)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{Seed: seed})
	length := 1 // of models of images of one size, all of their levels
	if f, ok := m.(interface{ levels() int }); ok {
		length = f.levels()
	}
	in := Inputs{IDs: b.Input("input_ids", tensor.Int32, 1, length), TargetIDs: b.Input("decoder_input_ids", tensor.Int32, 1, 1)}
	if f, ok := m.(interface{ lowLevels() int }); ok && f.lowLevels() > 0 {
		in.More = map[string]*Node{"low_ids": b.Input("low_ids", tensor.Int32, 1, f.lowLevels())}
	}
	if d := m.Dims().Vectors; d > 0 {
		in.Vectors = b.Input("vectors", dtype, 1, 1, d)
	}
	m.Forward(b, in, 0)
	return params, b.Err()
}

// problems collects the faults of a configuration.
type problems []error

func (p *problems) want(ok bool, path string, value any, want string) {
	if !ok {
		*p = append(*p, &config.FieldError{Path: path, Value: value, Want: "want " + want})
	}
}

// Bounds of a configuration: what is larger is a slip or an attack, and must not overflow or fill the memory.
const (
	maxSize   = 1<<31 - 1 // of vocabularies, widths and positions, which are int32 in the graph
	maxLayers = 1 << 16
)

// size checks a number of something that the model must have.
func (p *problems) size(path string, value, most int) {
	p.want(value >= 1 && value <= most, path, value, fmt.Sprintf("1 to %d", most))
}

func (p *problems) oneOf(path, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	want := "want one of " + strings.Join(allowed, ", ")
	if near := config.Nearest(value, allowed); near != "" {
		want = fmt.Sprintf("did you mean %q? Want one of %s", near, strings.Join(allowed, ", "))
	}
	*p = append(*p, &config.FieldError{Path: path, Value: value, Want: want})
}

// residual checks how residuals are kept, "" being plain. why, if not empty, is why they cannot be reversible.
func (p *problems) residual(kind, why string) {
	p.oneOf("residual", cmp.Or(kind, "plain"), "plain", "reversible")
	p.want(kind != "reversible" || why == "", "residual", kind, "plain"+why)
}

// normAfter is why a model with norms after its residual sums cannot have these reversible.
const normAfter = ", or norm pre: a norm after the residual sum cannot be computed back"

func (p *problems) add(err error) {
	if err != nil {
		*p = append(*p, err)
	}
}

func (p problems) err() error { return errors.Join(p...) }
