package golden

import (
	"errors"
	"fmt"
	"strings"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// runStar runs the cases of the Star-Transformer: masks, and steps in the printed form.
func runStar(c *Case, p Precision) ([]Result, error) {
	if !strings.HasPrefix(c.Name, "forward_") {
		return runStarMasks(c, p)
	}
	var n, d, heads, cycles int
	if err := errors.Join(c.Decode("n", &n), c.Decode("d", &d), c.Decode("heads", &heads), c.Decode("cycles", &cycles)); err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("e")
	// Projections x W without biases; all cycles share them.
	params := layers.NewParams(p.Dtype())
	load := func(name string, t *Tensor) {
		if t == nil {
			t = &Tensor{Shape: []int{d}, Dtype: "F64", F: make([]float64, d)}
		}
		if err := params.Load(name, dense(t)); err != nil {
			r.fail(err)
		}
	}
	for ours, theirs := range map[string]string{"ring": "sat", "relay": "rel"} {
		for _, w := range []string{"query", "key", "value", "out"} {
			load(ours+"."+w+".weight", transposed(c.Param(theirs+"_"+w[:1])))
			load(ours+"."+w+".bias", nil)
		}
		load(ours+".norm.weight", c.Param(theirs+"_g"))
		load(ours+".norm.bias", nil)
	}
	r.b = layers.New(r.b.Graph(), params, layers.Options{Training: true})
	e := r.inAs("e", nil, 1, n, d)
	h, s := e, layers.Reshape(r.b, layers.MeanRows(r.b, e, nil), 1, 1, d)
	for t := range cycles {
		h, s = attention.StarStep(r.b, attention.StarConfig{Mode: attention.StarPaper, Heads: heads, HeadSize: d / heads, Eps: 1e-5}, h, e, s)
		r.out(fmt.Sprint("h.", t), h)
		r.out(fmt.Sprint("s.", t), s)
	}
	return r.compare()
}

// transposed is a matrix with its axes changed.
func transposed(t *Tensor) *Tensor {
	rows, cols := t.Shape[0], t.Shape[1]
	x, y := t.Float64s(), make([]float64, rows*cols)
	for i := range y {
		y[i] = x[i%rows*cols+i/rows]
	}
	return &Tensor{Shape: []int{cols, rows}, Dtype: "F64", F: y}
}
