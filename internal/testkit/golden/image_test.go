package golden

import (
	"fmt"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// imageConfig describes the cases of the Image Transformer.
type imageConfig struct {
	Mixtures int `json:"num_mixtures"`
	Channels int
	Levels   int

	Local        string
	N            int
	Height       int
	Width        int
	Query        int `json:"query_block"`
	Memory       int
	QueryHeight  int `json:"query_height"`
	QueryWidth   int `json:"query_width"`
	MemoryHeight int `json:"memory_height"`
	MemoryWidth  int `json:"memory_width"`
	Causal       bool
	Heads        int     `json:"num_heads"`
	Bias         bool    `json:"attention_bias"`
	Eps          float64 `json:"layer_norm_eps"`
	Activation   string
	Norm         string
}

// pattern is what a position reads, in the order of rows.
func (s imageConfig) pattern() (attention.Pattern, error) {
	switch {
	case s.Local == "1d" && s.Causal:
		return attention.Image1D{Query: s.Query, Memory: s.Memory}, nil
	case s.Local == "1d":
		return attention.Blocks{Size: s.Query, Left: s.Memory, Right: s.Memory}, nil
	case s.Local == "2d" && s.Causal:
		return attention.Image2D{Height: s.Height, Width: s.Width, QueryHeight: s.QueryHeight, QueryWidth: s.QueryWidth,
			MemoryHeight: s.MemoryHeight, MemoryWidth: s.MemoryWidth}, nil
	}
	return nil, fmt.Errorf("local %q, causal %v is not handled", s.Local, s.Causal)
}

// order are the positions in the order in which they are generated.
func (s imageConfig) order() []int {
	if s.Local == "1d" {
		return data.ImageShape{Height: 1, Width: s.N, Channels: 1}.Order()
	}
	return data.ImageShape{Height: s.Height, Width: s.Width, Channels: 1, BlockHeight: s.QueryHeight, BlockWidth: s.QueryWidth}.Order()
}

// runMixture is the probability of pixels under discretised mixtures of logistics, where the density takes the place of small masses.
func runMixture(c *Case, p Precision) ([]Result, error) {
	var s imageConfig
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("mixture_parameters", "levels")
	rows := layers.MixtureRows(r.b, r.in("mixture_parameters"), r.given("levels"),
		layers.MixtureConfig{Mixtures: s.Mixtures, Channels: s.Channels, Levels: s.Levels, Approximate: 1e-5})
	if err := r.b.Err(); err != nil {
		return nil, err
	}
	r.out("log_prob", layers.Scale(r.b, rows, -1))
	return r.compare()
}

// runImageLayer is a layer of the Image Transformer with norms behind its parts, on the order of rows.
func runImageLayer(c *Case, p Precision) ([]Result, error) {
	var s imageConfig
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	pattern, err := s.pattern()
	if err != nil {
		return nil, err
	}
	if s.Activation != "relu" || s.Norm != "post" {
		return nil, fmt.Errorf("config %s is not handled", c.Config)
	}
	r := newRig(c, p)
	r.only("x")
	linear := func(x *Node, name string, bias bool, act kernels.Activation, residual *Node) *Node {
		l := layers.LinearConfig{Weight: r.param("w_" + name), InOut: true, NoBias: !bias, Act: act, Residual: residual}
		if bias {
			l.Bias = r.param("b_" + name)
		}
		return layers.Linear(r.b, x, l)
	}
	none, x := kernels.None, r.in("x")
	o, _ := attention.Attend(r.b, attention.Config{Pattern: pattern, Heads: s.Heads}, linear(x, "q", s.Bias, none, nil), linear(x, "k", s.Bias, none, nil), linear(x, "v", s.Bias, none, nil))
	x = r.norm(linear(o, "o", s.Bias, none, x), "ln1", s.Eps)
	x = r.norm(linear(linear(x, "ffn1", true, kernels.ReLU, nil), "ffn2", true, none, x), "ln2", s.Eps)
	r.out("y", x)
	results, err := r.compare()
	if err != nil {
		return nil, err
	}
	order := s.order()
	n := len(order)
	mask, rank := make([]bool, n*n), make([]int32, n)
	for t, at := range order {
		rank[at] = int32(t)
	}
	for e := range mask {
		mask[e] = pattern.Sees(0, e/n, e%n, n)
	}
	return append(results, c.CompareOut("mask", mask, p), c.CompareOut("generation_rank", rank, p)), nil
}
