package layers_test

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// A model is a chain of layers; errors are asked for once, at its end.
func Example() {
	params := layers.NewParams(tensor.Float32)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{Seed: 1, Training: true})

	tokens := b.Input("tokens", tensor.Int32, 2, 3)   // [B,T]
	targets := b.Input("targets", tensor.Int32, 2, 3) // [B,T], negative: ignored

	x := layers.Embedding(b.Scope("wte"), tokens, 11, 8, nil) // [B,T,C]
	h := b.Scope("h.0")
	n := layers.LayerNorm(h.Scope("ln"), x, layers.NormConfig{})
	x = layers.FeedForward(h.Scope("mlp"), n, layers.FeedForwardConfig{Hidden: 32, Act: kernels.GELU, Residual: x})
	logits := layers.Linear(b.Scope("head"), x, layers.LinearConfig{Out: 11, NoBias: true}) // [B,T,V]
	loss := layers.CrossEntropy(b, logits, targets, 0)
	if err := b.Err(); err != nil {
		fmt.Println(err)
		return
	}

	weights, nodes := b.Weights()
	one := engine.Fill(b.Graph(), engine.TypeOf(loss), 1)
	grads, err := engine.VJP(layers.Nodes{loss}, layers.Nodes{one}, nodes, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := engine.Compile(b.Graph(), append(layers.Nodes{loss}, grads...), engine.Options{Scope: b.ScopeOf})
	if err != nil {
		fmt.Println(err)
		return
	}
	copy(layers.InputValue(tokens).Int32s(), []int32{3, 1, 4, 1, 5, 9})
	copy(layers.InputValue(targets).Int32s(), []int32{1, 4, -1, 5, 9, -1})
	if err := p.Run(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("loss %.2f\n", engine.Floats[float32](p.Value(loss))[0])
	fmt.Println(weights[2].Name, p.Value(grads[2]).Shape())
	// Output:
	// loss 2.40
	// h.0.ln.bias (8)
}
