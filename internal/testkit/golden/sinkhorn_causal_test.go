package golden

import (
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// turned rotates the second half of the heads by so many rows to the left.
func (x *sorted) turned(y *Node, rows int) *Node {
	b := x.r.b
	if b.Err() != nil || rows == 0 {
		return y
	}
	var parts layers.Nodes
	half := x.heads / 2
	for g := 0; g < x.g; g += x.heads {
		if half > 0 {
			parts = append(parts, layers.Slice(b, y, 2, g*x.d, (g+half)*x.d))
		}
		z := layers.Slice(b, y, 2, (g+half)*x.d, (g+x.heads)*x.d)
		parts = append(parts, layers.Concat(b, 1, layers.Slice(b, z, 1, rows, x.t), layers.Slice(b, z, 1, 0, rows)))
	}
	return layers.Concat(b, 2, parts...)
}

// turnedMask is turned of a mask.
func (x *sorted) turnedMask(m []bool, rows int) []bool {
	y := slices.Clone(m)
	for e := range y {
		if g, i := e/x.t, e%x.t; g%x.heads >= x.heads/2 {
			y[e] = m[g*x.t+(i+rows)%x.t]
		}
	}
	return y
}

// causal is SinkhornCausalAttention.
func (x *sorted) causal(q, k, v *Node) (o, matrix *Node) {
	b, size := x.r.b, x.BucketSize
	n := x.t / size
	top := min(orElse(x.NTopBuckets, 2), n)
	q, k, v = x.turned(q, size-1), x.turned(k, size-1), x.turned(v, size-1)
	if x.mask != nil {
		x.mask, x.qMask = x.turnedMask(x.mask, size-1), x.turnedMask(x.qMask, size-1)
	}
	var scores *Node
	if x.UseSimpleSortNet {
		first := make([]int32, n)
		for u := range first {
			first[u] = int32(u * size)
		}
		scores = layers.Activation(b, x.net(layers.PoolBlocks(b, k, nil, size, layers.PrefixMean),
			layers.Gather(b, k, x.r.ints("first rows", first, n)), n+top), kernels.LeakyReLU)
	} else {
		first := layers.PoolBlocks(b, q, nil, size, layers.PrefixMean)
		sums := layers.PoolBlocks(b, layers.PoolBlocks(b, k, nil, 1, layers.PrefixMean), nil, size, layers.BlockSum)
		nulls := x.r.floats("null scores"+x.name, make([]float64, top*x.g*x.d), 1, top, x.g*x.d)
		scores = layers.HeadScores(b, first, layers.Concat(b, 1, nulls, sums), x.g, 1/math.Sqrt(float64(x.DimHeads)))
	}
	later := make([]float64, x.g*n*(n+top))
	for e := range later {
		if u, c := e/(n+top)%n, e%(n+top); c-top >= u {
			later[e] = math.Inf(-1)
		}
	}
	scores = layers.Add(b, scores, x.r.floats("later buckets"+x.name, later, 1, x.g, n, n+top))
	p := x.heaviest(scores, top, orElse(x.Temperature, 1))
	withNull := func(name string, y *Node) *Node {
		if x.params[name] == nil {
			x.params[name] = x.r.param(x.prefix + name)
		}
		row := layers.Reshape(b, x.params[name], 1, 1, x.heads*x.d)
		rows := layers.Gather(b, layers.Concat(b, 2, slices.Repeat(layers.Nodes{row}, x.g/x.heads)...), x.r.ints("null rows", make([]int32, top*size), top*size))
		return layers.MixBlocks(b, p, layers.Concat(b, 1, rows, y), layers.MixConfig{Size: size})
	}
	slotK, slotV := withNull("null_keys", k), withNull("null_values", v)
	if b.Err() != nil || x.r.err != nil {
		return nil, nil
	}
	first := x.argmax(p)
	// The last bucket of a rotated head holds the first tokens behind its own: token 0 reads slots and itself, later ones each other alone.
	wrapped := func(g, i int) bool { return g%x.heads >= x.heads/2 && i/size == n-1 && i%size > 0 }
	sorted := func(g, i, j int) (listed, shown bool) {
		bucket := first[(g*n*top)+j/size] - 2 // the package counts two null buckets whatever there are
		shown = !wrapped(g, i) && (x.mask == nil || bucket < 0 || x.mask[g*x.t+bucket*size+j%size])
		return j/(top*size) == i/size, shown
	}
	own := func(g, i, j int) (listed, shown bool) {
		return i/size == j/size, j <= i && !(wrapped(g, i) && j%size == 0) && (x.mask == nil || x.mask[g*x.t+j])
	}
	return x.turned(x.merge(q, slotK, slotV, k, v, sorted, own), x.t-size+1), x.matrix(p)
}
