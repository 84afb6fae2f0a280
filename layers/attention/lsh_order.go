package attention

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// SortBuckets lists the tokens of each round by bucket, those of one bucket by position: int32 [B,H,R,T] -> [B,H,R,T]. Of padding, the tokens from
// lens on (int32 [B]; nil: none are), nothing is listed: its places, the last ones, are negative. Cost: O(B·H·R·(T + buckets)).
// Errors, when run: a bucket below 0.
func SortBuckets(b *layers.Builder, buckets, lens *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	in := Nodes{buckets}
	if lens != nil {
		in = append(in, lens)
	}
	return b.Op(sortBuckets{len(in)}, in...)
}

// sortBuckets counts. Inputs: buckets, and lengths if there are any.
type sortBuckets struct{ inputs int }

func (sortBuckets) Name() string                             { return "sort_buckets" }
func (o sortBuckets) DiffWRT() []bool                        { return make([]bool, o.inputs) }
func (sortBuckets) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (sortBuckets) Infer(in []engine.Type) (engine.Type, error) {
	if in[0].Dtype != tensor.Int32 || len(in[0].Shape) != 4 {
		return engine.Type{}, fmt.Errorf("buckets are %v, want int32 [B,H,R,T]", in[0])
	}
	if len(in) > 1 && (in[1].Dtype != tensor.Int32 || !slices.Equal(in[1].Shape, tensor.Shape{in[0].Shape[0]})) {
		return engine.Type{}, fmt.Errorf("lengths are %v, want int32[%d]", in[1], in[0].Shape[0])
	}
	return in[0], nil
}

var counters = sync.Pool{New: func() any { return new([]int32) }}

func (sortBuckets) Run(out engine.Value, in []engine.Value) error {
	all, order := engine.Ints(in[0]), engine.Ints(out)
	shape := out.Shape()
	t := shape[3]
	var lens []int32
	if len(in) > 1 {
		var err error
		if lens, err = lengths(1, t, in); err != nil {
			return err
		}
	}
	start := counters.Get().(*[]int32)
	defer counters.Put(start)
	for g := range shape[0] * shape[1] * shape[2] {
		n := t
		if lens != nil {
			n = int(lens[g/(shape[1]*shape[2])])
		}
		row := order[g*t:][:t]
		for i := range row[n:] {
			row[n+i] = -1
		}
		if n == 0 {
			continue
		}
		if err := countingSort(all[g*t:][:n], row[:n], start); err != nil {
			return err
		}
	}
	return nil
}

// countingSort lists the positions of keys by (key, position).
func countingSort(keys, order []int32, start *[]int32) error {
	most := slices.Max(keys)
	if slices.Min(keys) < 0 || bits.Len32(uint32(most)) > 30 {
		return fmt.Errorf("buckets from %d to %d, want them from 0 on", slices.Min(keys), most)
	}
	s := *start
	if cap(s) < int(most)+2 {
		s = make([]int32, most+2)
	}
	s = s[:most+2]
	clear(s)
	for _, k := range keys {
		s[k+1]++
	}
	for k := range most {
		s[k+1] += s[k]
	}
	for i, k := range keys {
		order[s[k]] = int32(i)
		s[k]++
	}
	*start = s
	return nil
}

// RecentKeys lists for every token the last count tokens before it in the same bucket, round by round: int32 [B,H,R,T] -> [B,H,T,R·count], negative
// where there are no more. Padding reads nothing. Cost: O(B·H·T·R·count).
func RecentKeys(b *layers.Builder, buckets, lens *Node, count int) *Node {
	if b.Err() != nil {
		return nil
	}
	in := Nodes{buckets}
	if lens != nil {
		in = append(in, lens)
	}
	return b.Op(recentKeys{count, len(in)}, in...)
}

// recentKeys has inputs: buckets, and lengths if there are any.
type recentKeys struct{ count, inputs int }

func (recentKeys) Name() string                             { return "recent_keys" }
func (o recentKeys) DiffWRT() []bool                        { return make([]bool, o.inputs) }
func (recentKeys) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o recentKeys) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if in[0].Dtype != tensor.Int32 || len(s) != 4 || o.count < 1 {
		return engine.Type{}, fmt.Errorf("the last %d of buckets %v, want at least 1 of int32 [B,H,R,T]", o.count, in[0])
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{s[0], s[1], s[3], s[2] * o.count}}, nil
}

func (o recentKeys) Run(out engine.Value, in []engine.Value) error {
	s := in[0].Shape()
	heads, rounds, t := s[1], s[2], s[3]
	buckets, keys := engine.Ints(in[0]), engine.Ints(out)
	var lens []int32
	if len(in) > 1 {
		var err error
		if lens, err = lengths(1, t, in); err != nil {
			return err
		}
	}
	before, newest := counters.Get().(*[]int32), counters.Get().(*[]int32)
	defer counters.Put(before)
	defer counters.Put(newest)
	if cap(*before) < t {
		*before = make([]int32, t)
	}
	for g := range s[0] * heads * rounds {
		n := t
		if lens != nil {
			n = int(lens[g/(heads*rounds)])
		}
		chain, of := (*before)[:t], buckets[g*t:][:t]
		most := int32(0)
		if t > 0 {
			most = slices.Max(of)
		}
		if cap(*newest) < int(most)+1 {
			*newest = make([]int32, most+1)
		}
		last := (*newest)[:most+1]
		for k := range last {
			last[k] = -1
		}
		for i := range t {
			row := keys[((g/rounds*t+i)*rounds+g%rounds)*o.count:][:o.count]
			j := int32(-1)
			if i < n {
				if of[i] < 0 {
					return fmt.Errorf("bucket %d of token %d, want it from 0 on", of[i], i)
				}
				j = last[of[i]]
				chain[i], last[of[i]] = j, int32(i)
			}
			for k := range row {
				if row[k] = j; j >= 0 {
					j = chain[j]
				}
			}
		}
	}
	return nil
}
