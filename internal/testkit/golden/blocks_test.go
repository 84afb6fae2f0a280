package golden

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// blockCases are chosen by the leading words of a case's name; a longer name comes before one that it begins with.
var blockCases = []struct {
	prefix string
	run    func(c *Case, p Precision) ([]Result, error)
}{
	{"activations", blockActivations},
	{"adamw", blockAdamW},
	{"alibi", blockALiBi},
	{"clip_grad_norm", blockClip},
	{"cross_entropy", blockCrossEntropy},
	{"layer_norm", blockNorm},
	{"lr_schedules", blockSchedules},
	{"lstm_cell", blockLSTM},
	{"rms_norm", blockNorm},
	{"rope", blockRope},
	{"sdpa", blockSDPA},
	{"sinkhorn", blockSinkhorn},
	{"sinusoidal", blockSinusoidal},
	{"t5_relative_buckets", blockT5},
	{"torch_encoder_layer", blockEncoder},
}

func runBlock(c *Case, p Precision) ([]Result, error) {
	for _, b := range blockCases {
		if strings.HasPrefix(c.Name, b.prefix) {
			return b.run(c, p)
		}
	}
	return nil, fmt.Errorf("no adapter for blocks/%s", c.Name)
}

// activationNames are the names of outputs that are not those of configurations.
var activationNames = map[string]kernels.Activation{
	"gelu_erf": kernels.GELU, "gelu_tanh": kernels.GELUTanh, "leaky_relu_0.01": kernels.LeakyReLU,
}

func blockActivations(c *Case, p Precision) ([]Result, error) {
	r := newRig(c, p)
	r.only("x")
	x := r.in("x")
	for _, name := range c.Outputs() {
		act, ok := activationNames[name]
		if !ok {
			var err error
			if act, err = kernels.ParseActivation(name); err != nil {
				return nil, err
			}
		}
		r.out(name, layers.Activation(r.b, x, act))
	}
	return r.compare()
}

func blockNorm(c *Case, p Precision) ([]Result, error) {
	r := newRig(c, p)
	r.only("x", "weight", "bias")
	var n layers.NormConfig
	r.fail(c.Decode("eps", &n.Eps))
	n.NoWeight, n.NoBias = !r.weight("weight"), !r.weight("bias")
	if strings.HasPrefix(c.Name, "rms") {
		r.out("y", layers.RMSNorm(r.b, r.in("x"), n))
	} else {
		r.out("y", layers.LayerNorm(r.b, r.in("x"), n))
	}
	return r.compare()
}

func blockRope(c *Case, p Precision) ([]Result, error) {
	r := newRig(c, p)
	r.only("x")
	x := r.in("x")
	if x == nil {
		return nil, r.err
	}
	cfg := layers.RopeConfig{Heads: 1, HeadSize: x.Shape()[x.Dims()-1]}
	if c.Has("theta") {
		r.fail(c.Decode("theta", &cfg.Base))
	}
	if c.Has("first_position") {
		r.fail(c.Decode("first_position", &cfg.Positions.First))
	}
	for _, name := range c.Outputs() {
		cfg.Interleaved = name == "interleaved"
		if !cfg.Interleaved && name != "half_split" {
			return nil, fmt.Errorf("out/%s is not handled", name)
		}
		r.out(name, layers.Rope(r.b, x, cfg))
	}
	return r.compare()
}

var smoothName = regexp.MustCompile(`^(?:smooth([0-9.]+)_)?(mean|sum|none|mean_nan)$`)

func blockCrossEntropy(c *Case, p Precision) ([]Result, error) {
	r := newRig(c, p)
	r.only("logits", "labels")
	x, labels := r.in("logits"), c.In("labels")
	if labels == nil {
		return nil, errors.New("in/labels is missing")
	}
	ignored := -100
	if c.Has("ignore_index") {
		r.fail(c.Decode("ignore_index", &ignored))
	}
	ids := labels.Int32s()
	for i, id := range ids {
		if int(id) == ignored {
			ids[i] = -1
		}
	}
	targets := r.ints("labels", ids, labels.Shape...)
	for _, name := range c.Outputs() {
		if name == "log_softmax" {
			r.out(name, layers.LogSoftmax(r.b, x))
			continue
		}
		m := smoothName.FindStringSubmatch(name)
		if m == nil {
			return nil, fmt.Errorf("out/%s is not handled", name)
		}
		smoothing := 0.0
		if m[1] != "" {
			var err error
			if smoothing, err = strconv.ParseFloat(m[1], 64); err != nil {
				return nil, err
			}
		}
		switch rows := layers.CrossEntropyRows(r.b, x, targets, smoothing); m[2] {
		case "none":
			r.out(name, rows)
		case "sum":
			r.out(name, layers.Sum(r.b, rows))
		default:
			r.out(name, layers.CrossEntropy(r.b, x, targets, smoothing))
		}
	}
	return r.compare()
}

// blockSinusoidal reads the table off zeros.
func blockSinusoidal(c *Case, p Precision) ([]Result, error) {
	var results []Result
	for _, name := range c.Outputs() {
		if name != "interleaved" && name != "concat_sin_cos" {
			return nil, fmt.Errorf("out/%s is not handled", name)
		}
		shape := c.Out64(name).Shape
		r := newRig(c, p)
		x := r.floats("zeros", make([]float64, shape[0]*shape[1]), shape...)
		table, err := r.value(layers.SinusoidalPositions(r.b, x, shape[0], name == "interleaved", layers.PositionConfig{}))
		if err != nil {
			return nil, err
		}
		results = append(results, c.CompareOut(name, table, p))
	}
	return results, nil
}

func blockALiBi(c *Case, p Precision) ([]Result, error) {
	var heads, n int
	if err := errors.Join(c.Decode("heads", &heads), c.Decode("n", &n)); err != nil {
		return nil, err
	}
	slopes := layers.ALiBiSlopes(heads)
	causal, symmetric := make([]float64, heads*n*n), make([]float64, heads*n*n)
	for k := range causal {
		h, i, j := k/(n*n), k/n%n, k%n
		causal[k] = slopes[h] * float64(min(j-i, 0))
		symmetric[k] = -slopes[h] * float64(max(j-i, i-j))
	}
	return []Result{c.CompareOut("slopes", round(slopes, p), p), c.CompareOut("bias_causal", round(causal, p), p),
		c.CompareOut("bias_symmetric", round(symmetric, p), p)}, nil
}

func blockT5(c *Case, p Precision) ([]Result, error) {
	var buckets, farthest int
	if err := errors.Join(c.Decode("num_buckets", &buckets), c.Decode("max_distance", &farthest)); err != nil {
		return nil, err
	}
	relative := c.In("relative_position")
	if relative == nil {
		return nil, errors.New("in/relative_position is missing")
	}
	var results []Result
	for _, name := range c.Outputs() {
		if name != "bidirectional" && name != "causal" {
			return nil, fmt.Errorf("out/%s is not handled", name)
		}
		got := make([]int, relative.Size())
		for i, d := range relative.I {
			got[i] = layers.T5Bucket(int(d), name == "bidirectional", buckets, farthest)
		}
		results = append(results, c.CompareOut(name, got, p))
	}
	return results, nil
}

// value64 puts a tensor of a case into a value of the precision of the run.
func value64(t *Tensor, p Precision) engine.Value {
	v := engine.NewValue(engine.Type{Dtype: p.Dtype(), Shape: tensor.Shape(slices.Clone(t.Shape))})
	if p == Float64 {
		copy(engine.Floats[float64](v), t.F)
	} else {
		copy(engine.Floats[float32](v), t.Float32s())
	}
	return v
}
