package golden

import (
	"github.com/euryale-ml/euryale/layers"
)

// blockLSTM is torch's LSTMCell over some steps: its weights are stored [4S, I], and its biases are two.
func blockLSTM(c *Case, p Precision) ([]Result, error) {
	r := newRig(c, p)
	r.only("x", "h0", "c0", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
	cfg := layers.LSTMConfig{H: r.in("h0"), C: r.in("c0"), WeightX: r.swapped("weight_ih"), WeightH: r.swapped("weight_hh")}
	x, ih, hh := r.in("x"), r.in("bias_ih"), r.in("bias_hh")
	if r.err != nil {
		return nil, r.err
	}
	cfg.Bias = layers.Add(r.b, ih, hh)
	h, cell := layers.LSTM(r.b, x, cfg)
	r.out("h", h)
	r.out("c", cell)
	return r.compare()
}

// swapped is an input matrix, transposed.
func (r *rig) swapped(name string) *Node {
	t := r.c.In(name)
	if t == nil {
		return r.in(name) // says that it is missing
	}
	rows, columns := t.Shape[0], t.Shape[1]
	order := make([]int, 0, rows*columns)
	for j := range columns {
		for i := range rows {
			order = append(order, i*columns+j)
		}
	}
	return r.inAs(name, order, columns, rows)
}
