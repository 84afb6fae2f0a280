package golden

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

func init() {
	adapters["def_topk"] = runTopK
}

// runTopK is a case of def_topk: attention on the best keys, or the maps of an index.
func runTopK(c *Case, p Precision) ([]Result, error) {
	if c.Variant == "mips_maps" {
		if p == Float32 {
			return mapKeys[float32](c, p), nil
		}
		return mapKeys[float64](c, p), nil
	}
	var s struct {
		K      int  `json:"k"`
		Causal bool `json:"causal"`
		Self   bool `json:"self_attention"`
	}
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(p.Dtype()), layers.Options{})
	wrt := layers.Nodes{}
	for _, name := range []string{"q", "k", "v"} { // [B,H,T,D] there
		t := c.In(name)
		n := b.Input(name, p.Dtype(), t.Shape[0], t.Shape[2], t.Shape[1], t.Shape[3])
		fill(layers.InputValue(n), swapped(t.F, t.Shape))
		wrt = append(wrt, n)
	}
	heads := c.In("q").Shape[1]
	valid := c.In("valid_keys")
	exists := b.Input("valid", tensor.Int32, valid.Shape...)
	for i, x := range valid.Float64s() {
		layers.InputValue(exists).Int32s()[i] = int32(x)
	}
	cfg := attention.Chosen{Heads: heads, Cross: !s.Self}
	if !s.Self { // queries that do not exist stand behind the others
		rows := c.In("valid_queries")
		lens := make([]int32, rows.Shape[0])
		for i, x := range rows.Float64s() {
			lens[i/rows.Shape[1]] += int32(x)
		}
		cfg.LensQ = b.Const("lens_q", tensor.New(tensor.WithShape(len(lens)), tensor.WithBacking(lens)))
	}
	keys := attention.TopKeys(b, attention.TopK{K: s.K, Causal: s.Causal}, cfg, exists, wrt[0], wrt[1])
	o, _ := attention.AttendChosen(b, cfg, keys, wrt[0], wrt[1], wrt[2])
	if err := b.Err(); err != nil {
		return nil, err
	}
	w := b.Input("weight", p.Dtype(), o.Shape()...)
	weight := c.In("loss_weight.o")
	fill(layers.InputValue(w), swapped(weight.F, weight.Shape))
	loss := layers.Sum(b, layers.Mul(b, o, w))
	if err := b.Err(); err != nil {
		return nil, err
	}
	grads, err := engine.VJP(layers.Nodes{loss}, layers.Nodes{engine.Fill(b.Graph(), engine.TypeOf(loss), 1)}, wrt, nil)
	if err != nil {
		return nil, err
	}
	program, err := engine.Compile(b.Graph(), append(layers.Nodes{o, loss, keys}, grads...), engine.Options{Scope: b.ScopeOf, Poison: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = program.Close() }()
	if err := program.Run(); err != nil {
		return nil, err
	}
	back := func(n *Node) []float64 { // to [B,H,T,D]
		v, _ := values(copied(program.Value(n)))
		return swapped(v, n.Shape())
	}
	total, _ := values(copied(program.Value(loss)))
	var loss64 float64
	if err := c.Decode("loss", &loss64); err != nil {
		return nil, err
	}
	abs, rel := c.Tolerance.output(p, true)
	results := []Result{c.CompareOut("o", back(o), p), Compare("loss", total[:1], []float64{loss64}, nil, abs, rel, nil)}
	for i, name := range []string{"q", "k", "v"} {
		results = append(results, c.CompareGradIn(name, back(grads[i]), p))
	}
	list, shape := engine.Ints(program.Value(keys)), keys.Shape()
	plan := make([]float64, shape[0]*shape[1]*shape[2]*wrt[1].Shape()[1])
	for x, j := range list {
		if j >= 0 {
			plan[x/shape[3]*wrt[1].Shape()[1]+int(j)] = 1
		}
	}
	return append(results, c.CompareOut("plan", plan, p)), nil
}

// swapped exchanges the second and third of four dimensions.
func swapped(x []float64, shape []int) []float64 {
	y, d := make([]float64, 0, len(x)), shape[3]
	for b := range shape[0] {
		for t := range shape[2] {
			for h := range shape[1] {
				y = append(y, x[((b*shape[1]+h)*shape[2]+t)*d:][:d]...)
			}
		}
	}
	return y
}

// mapKeys is the case of the maps.
func mapKeys[F float32 | float64](c *Case, p Precision) (results []Result) {
	bound := c.In("norm_bound").F[0]
	for name, m := range map[string]attention.NormMap{"simple_lsh": attention.SimpleLSH, "l2_alsh": attention.L2ALSH, "sign_alsh": attention.SignALSH} {
		for of, f := range map[string]func(x, out []F){
			"keys":    func(x, out []F) { attention.MapKey(m, x, bound, out) },
			"queries": func(x, out []F) { attention.MapQuery(m, x, out) },
		} {
			t := c.In(of)
			d := t.Shape[1]
			var all []float64
			for i := 0; i < len(t.F); i += d {
				x, out := make([]F, d), make([]F, d+m.Extra())
				for e := range x {
					x[e] = F(t.F[i+e])
				}
				f(x, out)
				for _, v := range out {
					all = append(all, float64(v))
				}
			}
			results = append(results, c.CompareOut(name+"."+of, all, p))
		}
	}
	return results
}
