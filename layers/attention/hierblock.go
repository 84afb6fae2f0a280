package attention

import (
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// hierEntry is block-local attention by levels. With pool "tokens" (the default) the blocks of layer l are block_size·2^(l·growth)
// tokens, which costs more from layer to layer and reaches everything after ⌈log₂(n/block_size)/growth⌉ + 1 layers. With "mean" or
// "linear" layer l works on ever coarser rows (layers.Hierarchy), so that every layer has blocks of block_size rows; then
// all layers of the model have this entry, and it has no causal form.
type hierEntry struct {
	kind
	BlockSize *int    `json:"block_size"`
	Growth    *int    `json:"growth,omitempty"` // doublings a layer, 1 if not given
	Pool      *string `json:"pool,omitempty"`
}

func (e *hierEntry) check() []error {
	faults := checkSide(checkPositive(nil, "block_size", e.BlockSize), "growth", e.Growth, false)
	if e.Pool == nil || *e.Pool == "tokens" {
		return faults
	}
	if *e.Pool != string(layers.PoolMean) && *e.Pool != string(layers.PoolLinear) {
		return append(faults, &config.FieldError{Path: "pool", Value: *e.Pool, Want: "give one of tokens, mean, linear"})
	}
	if e.Growth != nil && *e.Growth != 1 {
		faults = append(faults, &config.FieldError{Path: "growth", Value: *e.Growth, Want: "pooled rows are pairs: leave it out, or give 1"})
	}
	return faults
}

func (e *hierEntry) pattern(at Layer) (Pattern, error) {
	size := *e.BlockSize
	if _, pooled := e.pool(); pooled {
		if at.Decoder {
			return nil, &config.FieldError{Path: "pool", Value: *e.Pool, Want: "a pooled row tells of later tokens: in a decoder give tokens"}
		}
		return Blocks{Size: size}, nil
	}
	growth := 1
	if e.Growth != nil {
		growth = *e.Growth
	}
	for doublings := at.Index * growth; doublings > 0 && size < maxNumber; doublings-- {
		size = min(2*size, maxNumber)
	}
	return Blocks{Size: size}, nil
}

func (e *hierEntry) pool() (layers.Pool, bool) {
	if e.Pool == nil || *e.Pool == "tokens" {
		return "", false
	}
	return layers.Pool(*e.Pool), true
}

// Hierarchy reports whether the layers of a model are levels of ever coarser rows, and how these are made.
func (e Entry) Hierarchy() (layers.Pool, bool) {
	if h, ok := e.fields.(*hierEntry); ok {
		return h.pool()
	}
	return "", false
}
