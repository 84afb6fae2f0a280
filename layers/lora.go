package layers

import (
	"fmt"
	"math"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// The names of what LoRA adds beside a weight "x.weight": x.lora_A.weight [r, columns], x.lora_B.weight [rows, r] and x.lora_alpha [1].
const (
	loraA     = ".lora_A.weight"
	loraB     = ".lora_B.weight"
	loraAlpha = ".lora_alpha"
)

// LoRA is a change of a weight by a product of two narrow matrices, which are trained in its place: W + alpha/r · B·A.
//
// Source: Hu et al. 2021, arXiv 2106.09685, section 4.1.
// Differs: A and B are those of the weight as it is stored, so for weights [in, out] (GPT-2) A belongs to the outputs.
type LoRA struct {
	Rank  int     `json:"r"`
	Alpha float64 `json:"lora_alpha"` // 0: 2 r
}

// AddLoRA freezes a weight and adds the matrices of its change, B at 0, so that nothing changes at first. Matrices that are there already, as in
// the weights of a run that goes on, stay as they are.
//
// Errors: no weight of that name; one that is no matrix; a rank below 1 or above its smaller side.
func (p *Params) AddLoRA(name string, c LoRA, seed uint64) error {
	q, ok := p.names[name]
	if !ok {
		return fmt.Errorf("lora: there is no weight %s", name)
	}
	s := q.Value.Shape()
	if len(s) != 2 {
		return fmt.Errorf("lora: weight %s has shape %v, want a matrix", name, s)
	}
	if c.Rank < 1 || c.Rank > min(s[0], s[1]) {
		return fmt.Errorf("lora: rank %d for weight %s of shape %v, want 1 to %d", c.Rank, name, s, min(s[0], s[1]))
	}
	if c.Alpha == 0 {
		c.Alpha = 2 * float64(c.Rank)
	}
	stem := strings.TrimSuffix(name, ".weight")
	if _, err := p.require(stem+loraA, Normal(1/math.Sqrt(float64(s[1]))), seed, []int{c.Rank, s[1]}); err != nil {
		return err
	}
	if _, err := p.require(stem+loraB, Zeros(), seed, []int{s[0], c.Rank}); err != nil {
		return err
	}
	alpha, err := p.require(stem+loraAlpha, Const(c.Alpha), seed, []int{1})
	if err != nil {
		return err
	}
	q.Frozen, q.changed, alpha.Frozen = true, true, true
	return nil
}

// Trainable is the number of elements of the weights that are trained: those of Count that are not frozen.
func (p *Params) Trainable() int64 {
	var n int64
	for _, q := range p.list {
		if !q.Frozen && !q.State {
			n += int64(q.Value.DataSize())
		}
	}
	return n
}

// loraOf are the matrices that change a weight, and the factor of their product; ok only if there are any.
func (p *Params) loraOf(name string) (a, b *Param, scale float64, ok bool) {
	stem := strings.TrimSuffix(name, ".weight")
	a, okA := p.names[stem+loraA]
	b, okB := p.names[stem+loraB]
	alpha, okAlpha := p.names[stem+loraAlpha]
	if !okA || !okB || !okAlpha {
		return nil, nil, 0, false
	}
	return a, b, at(alpha.Value, 0) / float64(a.Value.Shape()[0]), true
}

func at(v *tensor.Dense, i int) float64 {
	if v.Dtype() == tensor.Float32 {
		return float64(v.Float32s()[i])
	}
	return v.Float64s()[i]
}

// changed is the node of a weight with its change.
func (b *Builder) changed(p *Param, w *Node) *Node {
	if n := b.adapted[p.Name]; n != nil {
		return n
	}
	pa, pb, scale, ok := b.params.loraOf(p.Name)
	if !ok {
		return b.Failf("parameter %s: its LoRA matrices are missing", p.Name)
	}
	product := Linear(b, b.leaf(pb), LinearConfig{Weight: b.leaf(pa), InOut: true, NoBias: true})
	n := Add(b, w, Scale(b, product, scale))
	if b.err == nil {
		b.adapted[p.Name] = n
	}
	return n
}

// Merged is the set with every change of LoRA added to its weight and left out itself; the set itself if there is none.
func (p *Params) Merged() *Params {
	some := false
	for _, q := range p.list {
		some = some || q.changed
	}
	if !some {
		return p
	}
	out := NewParams(p.dtype)
	out.ints = p.ints
	for _, q := range p.list {
		if isLoRA(q.Name) {
			continue
		}
		c := *q
		c.Frozen, c.changed = false, false
		if q.changed {
			if a, b, scale, ok := p.loraOf(q.Name); ok {
				c.Value = q.Value.Clone().(*tensor.Dense)
				addProduct(c.Value, b.Value, a.Value, scale)
			}
		}
		out.list, out.names[c.Name] = append(out.list, &c), &c
	}
	return out
}

// MergeLoRA adds the changes that a set of stored tensors holds to the weights of this one: a, b and alpha are those beside the weight.
func (p *Params) MergeLoRA(name string, a, b *tensor.Dense, alpha float64) error {
	q, ok := p.names[name]
	if !ok {
		return fmt.Errorf("lora: there is no weight %s", name)
	}
	s, sa, sb := q.Value.Shape(), a.Shape(), b.Shape()
	if len(s) != 2 || len(sa) != 2 || len(sb) != 2 || sa[1] != s[1] || sb[0] != s[0] || sa[0] != sb[1] || a.Dtype() != p.dtype || b.Dtype() != p.dtype {
		return fmt.Errorf("lora: matrices %v and %v for weight %s of shape %v", sb, sa, name, s)
	}
	addProduct(q.Value, b, a, alpha/float64(sa[0]))
	return nil
}

// addProduct is w += scale · b·a.
func addProduct(w, b, a *tensor.Dense, scale float64) {
	if w.Dtype() == tensor.Float32 {
		addProductOf[float32](w, b, a, scale)
	} else {
		addProductOf[float64](w, b, a, scale)
	}
}

func addProductOf[F kernels.Float](w, b, a *tensor.Dense, scale float64) {
	m, n, r := w.Shape()[0], w.Shape()[1], a.Shape()[0]
	scaled := make([]F, m*r)
	for i, x := range engine.Floats[F](b) {
		scaled[i] = F(scale) * x
	}
	kernels.Gemm(false, false, m, n, r, scaled, r, engine.Floats[F](a), n, engine.Floats[F](w), n, true, nil)
}

// isLoRA reports whether a name is that of a part of a change.
func isLoRA(name string) bool {
	return strings.HasSuffix(name, loraA) || strings.HasSuffix(name, loraB) || strings.HasSuffix(name, loraAlpha)
}

// LoRAParts splits the name of a part of a change into that of the weight and which part it is ("A", "B", "alpha"); ok only for such names.
func LoRAParts(name string) (weight, part string, ok bool) {
	for suffix, part := range map[string]string{loraA: "A", loraB: "B", loraAlpha: "alpha"} {
		if stem, is := strings.CutSuffix(name, suffix); is {
			return stem + ".weight", part, true
		}
	}
	return "", "", false
}

// MatchName reports whether the name of a weight is one that a pattern means: * stands for any characters, dots too. A pattern without * also
// means the weights of the layer of that name, whatever stands before it: "query" means "….self.query.weight" and "….self.query.bias".
func MatchName(pattern, name string) bool {
	if !strings.Contains(pattern, "*") {
		module := name[:max(strings.LastIndex(name, "."), 0)]
		return name == pattern || module == pattern || strings.HasSuffix(module, "."+pattern)
	}
	parts := strings.Split(pattern, "*")
	if !strings.HasPrefix(name, parts[0]) {
		return false
	}
	rest := name[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, p)
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
