package bigbird_theory

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/train"
)

// Sizes of what is trained.
const (
	vectors, numbers = 64, 16 // n, d
	labels           = 16     // of each vector, at random
	width, batch     = 64, 16 // C, B
)

// TrainFinder trains a network of so many layers of a pattern to tell, for each of 64 vectors, the label of the one that is furthest from
// it, and returns how often it is right on sets that it has not seen; guessing is right once in 16. Every token is a vector and its
// own label. A layer is attention and a feed-forward part with norms before them; positions are not told, so what it
// learns is a rule.
func TrainFinder(p attention.Pattern, depth, steps int) (float64, error) {
	params := layers.NewParams(tensor.Float32)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{Seed: 1, Training: true})
	x := b.Input("x", tensor.Float32, batch, vectors, numbers+labels)
	right := b.Input("right", tensor.Int32, batch, vectors)
	xavier, norm := layers.XavierUniform(), layers.NormConfig{Eps: 1e-5}
	h := layers.Linear(b.Scope("in"), x, layers.LinearConfig{Out: width, Init: xavier})
	for l := range depth {
		lb := b.Scope(fmt.Sprint("layer.", l))
		qkv := layers.Linear(lb.Scope("qkv"), layers.LayerNorm(lb.Scope("norm1"), h, norm), layers.LinearConfig{Out: 3 * width, Init: xavier})
		o, _ := attention.AttendQKV(lb, attention.Config{Pattern: p, Heads: 2}, qkv)
		h = layers.Linear(lb.Scope("out"), o, layers.LinearConfig{Out: width, Residual: h, Init: xavier})
		h = layers.FeedForward(lb, layers.LayerNorm(lb.Scope("norm2"), h, norm), layers.FeedForwardConfig{
			Hidden: 2 * width, Act: kernels.GELU, Residual: h, Init: xavier})
	}
	logits := layers.Linear(b.Scope("label"), layers.LayerNorm(b.Scope("norm"), h, norm), layers.LinearConfig{Out: labels, Init: xavier})
	loss := layers.CrossEntropy(b, logits, right, 0)
	if b.Err() != nil {
		return 0, b.Err()
	}
	weights, nodes := b.Weights()
	grads, err := engine.VJP(layers.Nodes{loss}, layers.Nodes{engine.Fill(b.Graph(), engine.TypeOf(loss), 1)}, nodes, nil)
	if err != nil {
		return 0, err
	}
	program, err := engine.Compile(b.Graph(), append(layers.Nodes{loss, logits}, grads...), engine.Options{Scope: b.ScopeOf})
	if err != nil {
		return 0, err
	}
	defer program.Close()

	adam, c := train.NewAdamW(weights), train.DefaultConfig()
	c.WeightDecay = 0
	hits, asked := 0, 0
	for step := range steps + 20 { // the last ones test
		for e := range batch {
			draw(uint64(step*batch+e), layers.InputValue(x).Float32s()[e*vectors*(numbers+labels):], layers.InputValue(right).Int32s()[e*vectors:])
		}
		if err := program.Run(); err != nil {
			return 0, err
		}
		if step >= steps {
			y := engine.Floats[float32](program.Value(logits))
			for r, label := range layers.InputValue(right).Int32s() {
				row := y[r*labels:][:labels]
				if slices.Index(row, slices.Max(row)) == int(label) {
					hits++
				}
				asked++
			}
			continue
		}
		var g []gorgonia.Value
		for _, n := range grads {
			g = append(g, program.Value(n))
		}
		rate := 3e-3 * min(1, float64(step+1)/50) * (1 + math.Cos(math.Pi*float64(step)/float64(steps))) / 2
		adam.Update(c, rate, train.ClipFactor(train.GlobalNorm(g), 1), g)
	}
	return float64(hits) / float64(asked), nil
}

// draw makes one set: tokens [n, d + labels], and the label of the furthest vector of each.
func draw(seed uint64, tokens []float32, right []int32) {
	set := Unit(vectors, numbers, seed)
	label := func(i int) int32 {
		return int32(splitmix.Mix(splitmix.Mix(seed+splitmix.Increment)+uint64(i)*splitmix.Increment) % labels)
	}
	furthest := Furthest(set, vectors, numbers)
	clear(tokens[:vectors*(numbers+labels)])
	for i := range vectors {
		row := tokens[i*(numbers+labels):][:numbers+labels]
		for k, v := range set[i*numbers:][:numbers] {
			row[k] = 4 * float32(v) // about as large as what a layer norm gives
		}
		row[numbers+int(label(i))] = 1
		right[i] = label(furthest[i])
	}
}
