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
