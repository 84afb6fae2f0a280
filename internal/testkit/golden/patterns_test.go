package golden

import (
	"encoding/json"
	"fmt"

	"github.com/euryale-ml/euryale/layers/attention"
)

// variants say, by the field `variant` of a case, how the definitions of position-based systems are run; masks have none.
var variants = map[string]func(c *Case, p Precision) ([]Result, error){
	"":                         runDefinedMasks,
	"pattern_attention":        runPatternAttention,
	"bpt_layer":                runBPLayer,
	"bpt_model":                runBPModel,
	"pattern_stack":            runPatternStack,
	"cross_block":              runCrossBlock,
	"hier_block_pooled":        runHierarchy,
	"etc_layer":                runETCLayer,
	"image_dmol_loss":          runMixture,
	"image_local_layer":        runImageLayer,
	"image_categorical_model":  runImageModel,
	"etc_cpc_loss":             runContrast,
	"etc_cpc_two_pass":         runTwoPasses,
	"sinkhorn_attention":       runSinkhornLayer,
	"sparse_transformer_stack": runSparseStack,
	"axial_transformer_model":  runAxialModel,
	"sparse_transformer_model": runSparseModel,
	"reversible_stack":         runReversible,
}

// runDefinition runs a case of a position-based system.
func runDefinition(c *Case, p Precision) ([]Result, error) {
	var variant string
	if c.Has("variant") {
		if err := c.Decode("variant", &variant); err != nil {
			return nil, err
		}
	}
	run := variants[variant]
	if run == nil {
		return nil, fmt.Errorf("no adapter for variant %s of %s", variant, c.System)
	}
	return run(c, p)
}

// described is a pattern as the cases of def_atoms describe it.
type described struct {
	Type       string
	Left       int
	Right      int
	LeftSteps  int `json:"left_steps"`
	RightSteps int `json:"right_steps"`
	Gap        int
	Stride     int
	Block      int
	Globals    int
	Nodes      []int
	Base       *described
	Parts      []described
	Patterns   []described
}

// pattern is the description in our language; a plan of random keys comes with the case.
func (d described) pattern(c *Case) (attention.Pattern, error) {
	switch d.Type {
	case "band":
		return attention.Band{Left: d.Left, Right: d.Right}, nil
	case "dilated":
		return attention.Dilated{Left: d.LeftSteps, Right: d.RightSteps, Gap: d.Gap}, nil
	case "strided":
		return attention.Parse(fmt.Sprintf("dilated(999,999,%d)", d.Stride))
	case "block_local":
		return attention.Blocks{Size: d.Block}, nil
	case "memory_block":
		return attention.Blocks{Size: d.Block, Left: d.Left, Right: d.Right}, nil
	case "random_plan":
		plan := c.Rand("plan")
		heads, n, degree := plan.Shape[0], plan.Shape[1], plan.Shape[2]
		return explicit{c.ID() + " plan", heads, func(h, i, j int) bool {
			if i < 0 || i >= n {
				return false
			}
			for _, key := range plan.I[(h*n+i)*degree:][:degree] {
				if int(key) == j && j >= 0 {
					return true
				}
			}
			return false
		}}, nil
	case "global_internal", "global_external":
		base, err := d.Base.pattern(c)
		if err != nil {
			return nil, err
		}
		if d.Type == "global_internal" {
			return attention.Union(base, attention.NewGlobal(d.Nodes...))
		}
		return attention.Union(base, attention.External{Count: d.Globals})
	case "union", "heads":
		var parts []attention.Pattern
		for _, part := range append(d.Parts, d.Patterns...) {
			p, err := part.pattern(c)
			if err != nil {
				return nil, err
			}
			parts = append(parts, p)
		}
		if d.Type == "heads" {
			return attention.Heads(parts...)
		}
		all := parts[0]
		for _, p := range parts[1:] {
			var err error
			if all, err = attention.Union(all, p); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	return nil, fmt.Errorf("no pattern for type %q", d.Type)
}

// runPatternAttention is one attention node under a pattern, with its gradients.
func runPatternAttention(c *Case, p Precision) ([]Result, error) {
	var config struct {
		Lengths []int32
		N       int
		Heads   int `json:"num_heads"`
		Size    int `json:"head_size"`
		Causal  bool
		Pattern described
		Plan    json.RawMessage
	}
	if err := c.Decode("config", &config); err != nil {
		return nil, err
	}
	pattern, err := config.Pattern.pattern(c)
	if err != nil {
		return nil, err
	}
	if config.Causal {
		pattern = attention.Causal(pattern)
	}
	r := newRig(c, p)
	r.only("q", "k", "v", "valid")
	b, n, h, d := len(config.Lengths), config.N, config.Heads, config.Size
	order := make([]int, b*n*h*d) // heads first in the case, tokens first here
	for e := range order {
		x, i, y, z := e/(n*h*d), e/(h*d)%n, e/d%h, e%d
		order[e] = ((x*h+y)*n+i)*d + z
	}
	node := func(name string) *Node { return r.inAs(name, order, b, n, h, d) }
	lens := r.ints("lens", config.Lengths, b)
	o, lse := attention.Attend(r.b, attention.Config{Pattern: pattern, Heads: h, Lens: lens}, node("q"), node("k"), node("v"))
	r.outAs("o", o, order)
	results, err := r.compare()
	if err != nil {
		return nil, err
	}
	logs, err := r.value(lse)
	if err != nil {
		return nil, err
	}
	mask := make([]bool, b*h*n*n)
	for e := range mask {
		x, y, i, j := e/(h*n*n), e/(n*n)%h, e/n%n, e%n
		length := int(config.Lengths[x])
		mask[e] = i < length && j < length && pattern.Sees(y%pattern.Heads(), i, j, n)
	}
	return append(results, c.CompareMid("lse", logs, p), c.CompareOut("mask", mask, p)), nil
}
