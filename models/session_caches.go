package models

import (
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// uncachedMixer says why the attention of a layer cannot be continued token by token from what a cache keeps; empty: it can.
func uncachedMixer(m attention.Mixer) string {
	switch m := m.(type) {
	case attention.HeadGroups:
		for g, of := range m {
			if attention.MapsItself(of.Mixer) {
				return fmt.Sprintf("has maps of its own in heads_%d", g)
			}
			if why := uncachedMixer(of.Mixer); why != "" {
				return fmt.Sprintf("(heads_%d) %s", g, why)
			}
		}
		return ""
	case attention.Sinkhorn:
		if why := m.Uncached(); why != "" {
			return "cannot be kept: " + why
		}
		return ""
	case attention.Routing:
		if why := m.Uncached(); why != "" {
			return "cannot be kept: " + why
		}
		return ""
	case attention.LSH:
		if m.Plan != attention.BucketRecent {
			return fmt.Sprintf("cannot be kept: later tokens move the chunks that earlier ones read; plan %s is exact", attention.BucketRecent)
		}
		return ""
	}
	if c, ok := m.(attention.Cached); !ok || !c.Cached() {
		return "is more than a pattern"
	}
	return ""
}

// cacheFor is the cache of a layer.
func (r *run[F]) cacheFor(params *layers.Params, l int) (cache[F], error) {
	scope := fmt.Sprint(r.names.layer, l, ".", r.attn())
	groups, ok := r.mixers[l].(attention.HeadGroups)
	if !ok {
		return r.cacheOf(params, r.mixers[l], scope, l, 0, r.Heads)
	}
	all := &groupCaches[F]{}
	first := 0
	for g, of := range groups {
		c, err := r.cacheOf(params, of.Mixer, fmt.Sprint(scope, ".heads_", g), l, first, of.Heads)
		if err != nil {
			return nil, err
		}
		all.caches, all.widths = append(all.caches, c), append(all.widths, of.Heads*r.headSize())
		first += of.Heads
	}
	return all, nil
}

// cacheOf is the cache of so many heads of layer l from the first on, whose weights stand in a scope.
func (r *run[F]) cacheOf(params *layers.Params, m attention.Mixer, scope string, l, first, heads int) (cache[F], error) {
	size, scale := r.headSize(), r.scale(l)
	at := func() *layers.Builder {
		return layers.New(gorgonia.NewGraph(), params, layers.Options{}).Scope(scope)
	}
	switch m := m.(type) {
	case attention.Sinkhorn:
		return attention.NewSinkhornCache(m, heads, size, r.limit, scale, r.turnBack(heads))
	case attention.LSH:
		return attention.NewLSHCache[F](at(), m, heads, size, r.limit)
	case attention.Routing:
		return attention.NewRoutingCache[F](at(), m, heads, size, r.limit, scale)
	}
	p, err := attention.Stored(m, params, scope)
	if err != nil {
		return nil, err
	}
	c, err := attention.NewCache[F](p, heads, size, size, r.limit, scale)
	if err != nil {
		return nil, err
	}
	if r.relative != nil {
		c.SetBias(func(h, i, j int) F { return r.biases[r.relative.Label(first+h, i, j, r.limit)*r.Heads+first+h] })
	}
	if best, ok := m.(attention.TopK); ok {
		c.SetTop(best.K)
	}
	return c, nil
}

// turnBack takes the rotation of a position away from queries or keys of so many heads; nil: they have none.
func (r *run[F]) turnBack(heads int) func(x []F, rows, position int) {
	if r.cos == nil {
		return nil
	}
	return func(x []F, rows, position int) {
		at := slices.Repeat([]int32{int32(position)}, rows)
		kernels.Rope(rows, heads, r.headSize(), x, heads*r.headSize(), at, r.cos, r.sin, false, true)
	}
}

// groupCaches are those of groups of heads, whose columns stand side by side.
type groupCaches[F kernels.Float] struct {
	caches     []cache[F]
	widths     []int
	q, k, v, o []F
}

// Attend gives each group its columns.
func (c *groupCaches[F]) Attend(q, k, v, o []F) error {
	all, at := 0, 0
	for _, w := range c.widths {
		all += w
	}
	rows := len(o) / all
	for g, w := range c.widths {
		for _, part := range []struct {
			of  *[]F
			all []F
		}{{&c.q, q}, {&c.k, k}, {&c.v, v}, {&c.o, nil}} {
			*part.of = room(*part.of, rows*w)
			for i := range len(part.all) / all {
				copy((*part.of)[i*w:][:w], part.all[i*all+at:])
			}
		}
		if err := c.caches[g].Attend(c.q, c.k, c.v, c.o); err != nil {
			return err
		}
		for i := range rows {
			copy(o[i*all+at:][:w], c.o[i*w:])
		}
		at += w
	}
	return nil
}

// Select chooses candidates in all groups.
func (c *groupCaches[F]) Select(parents []int) {
	for _, of := range c.caches {
		of.Select(parents)
	}
}

// Bytes is the memory of all groups.
func (c *groupCaches[F]) Bytes() (n int) {
	for _, of := range c.caches {
		n += of.Bytes()
	}
	return n
}

// Reset empties all groups.
func (c *groupCaches[F]) Reset() {
	for _, of := range c.caches {
		of.Reset()
	}
}
