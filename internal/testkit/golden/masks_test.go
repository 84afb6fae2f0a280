package golden

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/layers/attention"
)

// runMasks compares whole masks: each tensor is named after its pattern. A mask comes from the definition of the pattern, and
// must be the same where Attend reads it: with equal scores and values that are unit vectors, the result is the mask divided by
// the number of keys.
func runMasks(c *Case, p Precision) ([]Result, error) {
	var results []Result
	for _, name := range c.Names("") {
		expression, err := maskExpression(c, name)
		if err != nil {
			return nil, err
		}
		pattern, err := attention.Parse(expression)
		if err != nil {
			return nil, err
		}
		shape := c.Tensor(name).Shape
		if len(shape) != 2 || shape[0] != shape[1] {
			return nil, fmt.Errorf("%s has shape %v, want [n,n]", name, shape)
		}
		n := shape[0]
		sees := make([]bool, n*n)
		for i := range n * n {
			sees[i] = pattern.Sees(0, i/n, i%n, n)
		}
		attended, err := attendedMask(pattern, n, p)
		if err != nil {
			return nil, err
		}
		results = append(results, c.CompareTensor(name, sees, p), c.CompareTensor(name, attended, p))
	}
	return results, nil
}

var dilatedName = regexp.MustCompile(`^dilated(_causal)?_w(\d+)_d(\d+)(?:_global((?:_\d+|_last)+))?$`)

// maskExpression is the pattern of a mask in our language.
func maskExpression(c *Case, name string) (string, error) {
	if m := dilatedName.FindStringSubmatch(name); m != nil {
		e := fmt.Sprintf("dilated(%s,%s,%s)", m[2], m[2], m[3])
		if m[1] != "" {
			e = "causal(" + e + ")"
		}
		if m[4] != "" { // symmetric: they see all and all see them
			list := strings.ReplaceAll(strings.TrimPrefix(m[4], "_"), "_", ",")
			e += " + global(" + strings.ReplaceAll(list, "last", "-1") + ")"
		}
		return e, nil
	}
	var size int
	if c.Has("block") {
		if err := c.Decode("block", &size); err != nil {
			return "", err
		}
	}
	b := strconv.Itoa(size)
	switch name {
	case "block":
		return "blocks(" + b + ")", nil
	case "block_causal":
		return "causal(blocks(" + b + "))", nil
	case "block_plus_prev":
		return "blocks(" + b + "," + b + ",0)", nil
	case "block_plus_prev_causal":
		return "causal(blocks(" + b + "," + b + ",0))", nil
	case "block_plus_neighbours":
		return "blocks(" + b + "," + b + ")", nil
	}
	return "", fmt.Errorf("no pattern for mask %s", name)
}

// attendedMask tells which values reach each query through the attention node.
func attendedMask(pattern attention.Pattern, n int, p Precision) ([]bool, error) {
	r := newRig(&Case{}, p)
	unit := make([]float64, n*n)
	for i := range n {
		unit[i*n+i] = 1
	}
	zero := r.floats("zero", make([]float64, n), 1, n, 1)
	o, _ := attention.Attend(r.b, attention.Config{Pattern: pattern, Heads: 1}, zero, zero, r.floats("unit", unit, 1, n, n))
	x, err := r.value(o)
	mask := make([]bool, len(x))
	for i, v := range x {
		mask[i] = v != 0
	}
	return mask, err
}
