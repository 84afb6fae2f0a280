package models

import (
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// Conversion says into what a dense encoder is made, and how.
type Conversion struct {
	To        string // longformer, big_bird
	Positions int    // longest sequence; 0: as before

	AttentionWindow int // longformer: keys of a query, both sides together
	BlockSize       int // big_bird
	RandomBlocks    int // big_bird
}

// ConversionTypes are the values of Conversion.To.
var ConversionTypes = []string{"big_bird", "longformer"}

// Convert makes a long model of the weights of a BERT or RoBERTa (see ToLongformer, ToBigBird). fresh are weights that the dense model lacks.
//
// Errors: those of ToLongformer; a *config.FieldError for another To.
func Convert(src *checkpoints.Model, c Conversion, dtype tensor.Dtype) (m Model, p *layers.Params, fresh []string, err error) {
	if !slices.Contains(ConversionTypes, c.To) {
		return nil, nil, nil, &config.FieldError{Path: "to", Value: c.To, Want: "want one of " + strings.Join(ConversionTypes, ", ")}
	}
	weights := map[string]*tensor.Dense{}
	for _, name := range src.Tensors.Names() {
		info, _ := src.Tensors.Info(name)
		if !info.Dtype.IsFloat() {
			continue // a buffer, such as position_ids
		}
		v := tensor.New(tensor.Of(dtype), tensor.WithShape(info.Shape...))
		if dtype == tensor.Float32 {
			err = src.Tensors.ReadFloat32s(name, v.Float32s())
		} else {
			err = src.Tensors.ReadFloat64s(name, v.Float64s())
		}
		if err != nil {
			return nil, nil, nil, err
		}
		weights[modern(name)] = v
	}
	if c.To == "longformer" {
		m, p, err = ToLongformer(src.Config, weights, c.AttentionWindow, c.Positions, dtype)
	} else {
		m, p, fresh, err = ToBigBird(src.Config, weights, c.BlockSize, c.RandomBlocks, c.Positions, dtype)
	}
	return m, p, fresh, err
}

// modern is the name of today for one of early versions of transformers.
func modern(name string) string {
	if at, ok := strings.CutSuffix(name, "LayerNorm.gamma"); ok {
		return at + "LayerNorm.weight"
	}
	if at, ok := strings.CutSuffix(name, "LayerNorm.beta"); ok {
		return at + "LayerNorm.bias"
	}
	return name
}
