package layers

import "gorgonia.org/tensor"

// lstmExamples are a sequence from zeros and from a state, both results read, and one step.
var lstmExamples = []example{
	{"lstm", []arg{dense(3, 5, 2)}, func(b *Builder, in Nodes) *Node {
		h, c := LSTM(b.Scope("lstm"), in[0], LSTMConfig{Size: 7})
		if b.Err() != nil {
			return nil
		}
		return Add(b, h, Scale(b, c, 0.3))
	}},
	{"lstm from a state, last steps alone", []arg{dense(2, 3, 5), dense(2, 4), dense(2, 4)}, func(b *Builder, in Nodes) *Node {
		h, _ := LSTM(b.Scope("lstm"), in[0], LSTMConfig{Size: 4, H: in[1], C: in[2]})
		return Slice(b, h, 1, 1, 3)
	}},
	{"lstm cell", []arg{dense(5, 3), dense(5, 2), dense(5, 2)}, func(b *Builder, in Nodes) *Node {
		h, c := LSTMCell(b.Scope("lstm"), in[0], LSTMConfig{Size: 2, H: in[1], C: in[2]})
		if b.Err() != nil {
			return nil
		}
		return Mul(b, h, c)
	}},
	{"stop gradient", []arg{dense(3, 5)}, func(b *Builder, in Nodes) *Node {
		v := b.Const("fixed", tensor.New(tensor.Of(b.Dtype()), tensor.WithShape(3, 5)))
		randomise(InputValue(v), "fixed")
		return Mul(b, in[0], StopGradient(b, v))
	}},
}
