package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/train"
)

// blockAdamW trains tanh(X w + b) on mean squared error with the optimiser, clipping and norm of training.
func blockAdamW(c *Case, p Precision) ([]Result, error) {
	o := struct {
		LR          float64    `json:"lr"`
		Betas       [2]float64 `json:"betas"`
		Eps         float64    `json:"eps"`
		WeightDecay float64    `json:"weight_decay"`
	}{1e-3, [2]float64{0.9, 0.999}, 1e-8, 1e-2}
	var raw json.RawMessage
	var limit *float64
	if err := errors.Join(c.Decode("options", &raw), c.Decode("clip_grad_norm", &limit)); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return nil, err
	}
	cfg := train.DefaultConfig()
	cfg.AdamBeta1, cfg.AdamBeta2, cfg.AdamEpsilon, cfg.WeightDecay = o.Betas[0], o.Betas[1], o.Eps, o.WeightDecay
	if limit != nil {
		cfg.GradClip = *limit
	} else {
		cfg.GradClip = 0
	}

	r := newRig(c, p)
	r.only("X", "Y")
	x, y, w, b := r.in("X"), r.in("Y"), r.param("w"), r.param("b")
	if r.err != nil {
		return nil, r.err
	}
	h := layers.Linear(r.b, x, layers.LinearConfig{Weight: w, Bias: b, InOut: true, Act: kernels.Tanh})
	e := layers.Add(r.b, h, layers.Scale(r.b, y, -1))
	loss := layers.Mean(r.b, layers.Mul(r.b, e, e))
	params, nodes := r.b.Weights()
	if r.b.Err() != nil {
		return nil, r.b.Err()
	}
	g := r.b.Graph()
	grads, err := engine.VJP(layers.Nodes{loss}, layers.Nodes{engine.Fill(g, engine.TypeOf(loss), 1)}, nodes, nil)
	if err != nil {
		return nil, err
	}
	program, err := engine.Compile(g, append(layers.Nodes{loss}, grads...), engine.Options{})
	if err != nil {
		return nil, err
	}
	var results []Result
	compare := func(name string, step int, v engine.Value) {
		results = append(results, c.CompareOut(fmt.Sprint(name, ".", step), copied(v), p))
	}
	adam := train.NewAdamW(params)
	for step := range c.Outputs() {
		if !slices.Contains(c.Outputs(), fmt.Sprint("loss.", step)) {
			break
		}
		if err := program.Run(); err != nil {
			return nil, err
		}
		var gs []gorgonia.Value
		for _, n := range grads {
			gs = append(gs, program.Value(n))
		}
		norm := train.GlobalNorm(gs)
		adam.Update(cfg, o.LR, train.ClipFactor(norm, cfg.GradClip), gs)
		compare("loss", step, program.Value(loss))
		results = append(results, c.CompareOut(fmt.Sprint("grad_norm_before_clip.", step), norm, p))
		for _, q := range params {
			compare(q.Name, step, q.Value)
		}
		err := adam.Moments(func(name string, v *tensor.Dense) error {
			kind, of, _ := strings.Cut(name, "/")
			compare(of+"_"+kind, step, v)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

var clippedName = regexp.MustCompile(`^(\w+)\.max([0-9.e+-]+)$`)

// blockClip clips all inputs together.
func blockClip(c *Case, p Precision) ([]Result, error) {
	var grads []gorgonia.Value
	of := map[string]engine.Value{}
	for _, name := range c.Names("in/") {
		v := value64(c.In(name), p)
		of[name] = v
		grads = append(grads, v)
	}
	norm := train.GlobalNorm(grads)
	var results []Result
	for _, out := range c.Outputs() {
		m := clippedName.FindStringSubmatch(out)
		if m == nil {
			return nil, fmt.Errorf("out/%s is not handled", out)
		}
		limit, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, err
		}
		switch v := of[m[1]]; {
		case m[1] == "norm":
			results = append(results, c.CompareOut(out, norm, p))
		case v == nil:
			return nil, fmt.Errorf("out/%s is not handled", out)
		case p == Float64:
			results = append(results, c.CompareOut(out, scaled(engine.Floats[float64](v), train.ClipFactor(norm, limit)), p))
		default:
			results = append(results, c.CompareOut(out, scaled(engine.Floats[float32](v), train.ClipFactor(norm, limit)), p))
		}
	}
	return results, nil
}

func scaled[F kernels.Float](x []F, factor float64) []F {
	y := make([]F, len(x))
	kernels.Scale(F(factor), x, y)
	return y
}

var (
	cyclesName     = regexp.MustCompile(`^cosine_([0-9.]+)_cycles$`)
	polynomialName = regexp.MustCompile(`^polynomial_p([0-9.]+)_end([0-9.e+-]+)$`)
	annealingName  = regexp.MustCompile(`^torch_cosine_annealing_eta([0-9.e+-]+)$`)
)

// blockSchedules compares learning rates; element i is the rate of the step that we count as i.
//
// Past the last step transformers' cosine rises again, while ours stays at its floor. A longer schedule with as many cycles more
// is the same function without the end.
func blockSchedules(c *Case, p Precision) ([]Result, error) {
	cfg := train.DefaultConfig()
	cfg.MinLRRatio = 0
	err := errors.Join(c.Decode("base_lr", &cfg.LR), c.Decode("warmup", &cfg.WarmupSteps), c.Decode("total", &cfg.Steps))
	if err != nil {
		return nil, err
	}
	number := func(s string) float64 {
		v, e := strconv.ParseFloat(s, 64)
		err = errors.Join(err, e)
		return v
	}
	var results []Result
	for _, name := range c.Outputs() {
		s := cfg
		s.Schedule = name
		if m := cyclesName.FindStringSubmatch(name); m != nil {
			s.Schedule, s.NumCycles = "cosine", number(m[1])
		} else if m := polynomialName.FindStringSubmatch(name); m != nil {
			s.Schedule, s.Power, s.MinLRRatio = "polynomial", number(m[1]), number(m[2])/s.LR
		} else if m := annealingName.FindStringSubmatch(name); m != nil {
			s.Schedule, s.WarmupSteps, s.MinLRRatio = "cosine", 0, number(m[1])/s.LR
		}
		if verr := s.Validate(); err != nil || verr != nil {
			return nil, fmt.Errorf("out/%s: %w", name, errors.Join(err, verr))
		}
		rates := make([]float64, c.Out64(name).Size())
		for i := range rates {
			past := s
			if s.Schedule == "cosine" && i > s.Steps {
				const times = 16
				past.Steps, past.NumCycles = s.WarmupSteps+times*(s.Steps-s.WarmupSteps), times*s.NumCycles
			}
			rates[i] = past.LearningRate(i)
		}
		results = append(results, c.CompareOut(name, rates, p))
	}
	return results, nil
}
