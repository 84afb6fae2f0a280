package golden

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/layers/attention"
)

// runDefinedMasks compares masks and lists of edges with the definition of the pattern and, where a mask is a pattern alone, with
// what the attention node reads.
func runDefinedMasks(c *Case, p Precision) ([]Result, error) {
	switch c.System {
	case "def_bp_transformer":
		return runTreeEdges(c, p)
	case "def_bigbird":
		return runBigBirdMasks(c, p)
	case "def_etc":
		return runETCPieces(c, p)
	}
	sizes, err := sizesOf(c)
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, name := range c.Names("") {
		want := c.Tensor(name)
		if got := derived(c, sizes, name); got != nil {
			results = append(results, c.CompareTensor(name, got, p))
			continue
		}
		expression := definedMask(c, sizes, name)
		pattern, err := attention.Parse(expression)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		n := want.Shape[0]
		attended, err := attendedMask(pattern, n, p)
		if err != nil {
			return nil, err
		}
		results = append(results, c.CompareTensor(name, maskOf(pattern, n), p), c.CompareTensor(name, attended, p))
	}
	return results, nil
}

// maskOf is the mask of one head.
func maskOf(pattern attention.Pattern, n int) []bool {
	sees := make([]bool, n*n)
	for e := range sees {
		sees[e] = pattern.Sees(0, e/n, e%n, n)
	}
	return sees
}

// maskSizes are the fields of the cases of masks.
type maskSizes struct {
	stride, lq, lm, h, w int
	q, m                 []int
}

func sizesOf(c *Case) (s maskSizes, err error) {
	for field, v := range map[string]any{"stride": &s.stride, "lq": &s.lq, "lm": &s.lm, "H": &s.h, "W": &s.w, "q": &s.q, "m": &s.m} {
		if c.Has(field) {
			err = errors.Join(err, c.Decode(field, v))
		}
	}
	return s, err
}

var fixedName = regexp.MustCompile(`^fixed/(A2|union)_c(\d+)(?:_head(\d+))?$`)

// definedMask is a mask in our language.
func definedMask(c *Case, s maskSizes, name string) string {
	if m := fixedName.FindStringSubmatch(name); m != nil {
		switch {
		case m[1] == "union":
			return fmt.Sprintf("fixed(%d,%s)", s.stride, m[2])
		case m[3] != "":
			return fmt.Sprintf("summary(%d,%s,%s)", s.stride, m[2], m[3])
		}
		return fmt.Sprintf("summary(%d,%s)", s.stride, m[2])
	}
	image2d := ""
	if s.q != nil {
		image2d = fmt.Sprintf("image2d(%d,%d,%d,%d,%d,%d)", s.h, s.w, s.q[0], s.q[1], s.m[0], s.m[1])
	}
	return map[string]string{
		"strided/repo_local":     fmt.Sprintf("band(%d,0)", s.stride-1),
		"strided/repo_strided":   fmt.Sprintf("causal(dilated(999,999,%d))", s.stride),
		"strided/paper_A1":       fmt.Sprintf("band(%d,0)", s.stride),
		"strided/paper_union":    fmt.Sprintf("band(%d,0) + dilated(999,0,%d)", s.stride, s.stride),
		"strided/repo_union":     fmt.Sprintf("strided(%d)", s.stride),
		"fixed/A1":               fmt.Sprintf("causal(blocks(%d))", s.stride),
		"local1d":                fmt.Sprintf("image1d(%d,%d)", s.lq, s.lm),
		"local1d_unmasked_block": fmt.Sprintf("blocks(%d,%d,0)", s.lq, s.lm),
		"local2d":                image2d,
		"row":                    fmt.Sprintf("row(%d,%d)", s.h, s.w),
		"col":                    fmt.Sprintf("column(%d,%d)", s.h, s.w),
		"masked_row":             fmt.Sprintf("causal(row(%d,%d))", s.h, s.w),
		"masked_col":             fmt.Sprintf("causal(column(%d,%d))", s.h, s.w),
	}[name]
}

// derived are tensors that are no pattern of the language but follow from patterns; nil for others.
func derived(c *Case, s maskSizes, name string) any {
	n := s.h * s.w
	switch name {
	case "generation_rank", "memory_box":
		image := attention.Image2D{Height: s.h, Width: s.w, QueryHeight: s.q[0], QueryWidth: s.q[1], MemoryHeight: s.m[0], MemoryWidth: s.m[1]}
		rank, box := make([]int32, n), make([]bool, n*n)
		for i := range n {
			rank[i] = int32(image.Rank(i))
		}
		if name == "generation_rank" {
			return rank
		}
		// What is generated later is in the box or not as the rest of its row of the box is.
		for e := range box {
			i, j := e/n, e%n
			top, left := i/s.w/s.q[0]*s.q[0], i%s.w/s.q[1]*s.q[1]
			y, x := j/s.w, j%s.w
			box[e] = y >= top-s.m[0] && y < top+s.q[0] && x >= left-s.m[1] && x < left+s.q[1]+s.m[1]
			if image.Sees(0, i, j, n) != (box[e] && rank[j] <= rank[i]) {
				return []bool{} // the pattern is another one
			}
		}
		return box
	case "strictly_above_rows", "decoder_dependency":
		// What reaches a position through the layers of the decoder: whole rows, then the column up to itself, then a row further
		// down; and in its own row what is before it.
		row, column := attention.ImageRow{Height: s.h, Width: s.w}, attention.Causal(attention.ImageColumn{Height: s.h, Width: s.w})
		reach := make([]bool, n*n)
		for e := range reach {
			i, j := e/n, e%n
			for k := range n {
				reach[e] = reach[e] || i >= s.w && column.Sees(0, i-s.w, k, n) && row.Sees(0, k, j, n)
			}
			before := i%s.w > 0 && attention.Causal(row).Sees(0, i-1, j, n)
			reach[e] = reach[e] || name == "decoder_dependency" && before
		}
		return reach
	}
	return nil
}

// runStarMasks compares what the tokens of a star see of each other; node 0 is the relay.
func runStarMasks(c *Case, p Precision) ([]Result, error) {
	var results []Result
	for _, name := range c.Names("") {
		n := c.Tensor(name).Shape[0]
		switch name {
		case "satellite_sees_satellites_cyclic", "satellite_sees_satellites_open":
			expression := "star"
			if strings.HasSuffix(name, "open") {
				expression = "external(1) + band(1,1)"
			}
			pattern, err := attention.Parse(expression)
			if err != nil {
				return nil, err
			}
			attended, err := attendedMask(pattern, n+1, p)
			if err != nil {
				return nil, err
			}
			for _, mask := range [][]bool{maskOf(pattern, n+1), attended} {
				var tokens []bool
				for i := range n {
					tokens = append(tokens, mask[(i+1)*(n+1)+1:][:n]...)
				}
				results = append(results, c.CompareTensor(name, tokens, p))
			}
		case "context_order": // predecessor, itself, successor
			var order []int32
			for i := range n {
				keys := attention.Keys(attention.Star{}, 0, i+1, n+1)
				near := []int{(i + n - 1) % n, i, (i + 1) % n}
				for _, j := range near {
					if !slices.Contains(keys, j+1) {
						return nil, fmt.Errorf("token %d does not read %d", i, j)
					}
					order = append(order, int32(j))
				}
			}
			results = append(results, c.CompareTensor(name, order, p))
		default:
			return nil, fmt.Errorf("%s is not handled", name)
		}
	}
	return results, nil
}

// runTreeEdges compares labelled edges, and the pattern with them.
func runTreeEdges(c *Case, p Precision) ([]Result, error) {
	var n, k, clip int
	if err := errors.Join(c.Decode("n", &n), c.Decode("k", &k), c.Decode("clip", &clip)); err != nil {
		return nil, err
	}
	var results []Result
	for _, name := range c.Names("") {
		tree := attention.NewBPTree(k)
		switch name {
		case "edges":
		case "edges_causal":
			tree = attention.Causal(tree).(attention.BPTree)
		default:
			return nil, fmt.Errorf("%s is not handled", name)
		}
		nodes := attention.NodeCount(tree, n)
		attended, err := attendedMask(tree, nodes, p)
		if err != nil {
			return nil, err
		}
		var edges []int32
		for _, e := range tree.Edges(n, clip) {
			edges = append(edges, int32(e.Key), int32(e.Query), int32(e.Label))
			if at := e.Query*nodes + e.Key; !attended[at] || !tree.Sees(0, e.Query, e.Key, nodes) {
				return nil, fmt.Errorf("%s: node %d does not read %d", name, e.Query, e.Key)
			}
		}
		if got := tree.NNZ(0, nodes) * 3; got != int64(len(edges)) {
			return nil, fmt.Errorf("%s: the pattern has %d pairs", name, got/3)
		}
		results = append(results, c.CompareTensor(name, edges, p))
	}
	return results, nil
}

// runBigBirdMasks compares the window, the global blocks and the plan of random blocks that comes with the case.
func runBigBirdMasks(c *Case, p Precision) ([]Result, error) {
	var blocks, size, r int
	if err := errors.Join(c.Decode("n_blocks", &blocks), c.Decode("block", &size), c.Decode("r", &r)); err != nil {
		return nil, err
	}
	plan := c.Tensor("rand_blocks")
	results := []Result{c.CompareTensor("rand_blocks", plan.I, p)} // drawn by the case, not by us
	for _, mask := range []struct {
		name string
		size int
	}{{"block_mask", 1}, {"token_mask", size}} {
		n := blocks * mask.size
		var ends []int
		for i := range mask.size {
			ends = append(ends, i, -1-i)
		}
		window, err := attention.Parse(fmt.Sprintf("window-blocks(%d,3)", mask.size))
		if err != nil {
			return nil, err
		}
		base, err := attention.Union(window, attention.NewGlobal(ends...))
		if err != nil {
			return nil, err
		}
		random := explicit{c.ID() + mask.name, 1, func(_, i, j int) bool {
			if i < 0 || i >= n {
				return false
			}
			for _, k := range plan.I[i/mask.size*r:][:r] {
				if k >= 0 && int(k) == j/mask.size && j >= 0 {
					return true
				}
			}
			return false
		}}
		all, err := attention.Union(base, random)
		if err != nil {
			return nil, err
		}
		attended, err := attendedMask(all, n, p)
		if err != nil {
			return nil, err
		}
		results = append(results, c.CompareTensor(mask.name, maskOf(all, n), p), c.CompareTensor(mask.name, attended, p))
	}
	return results, nil
}
