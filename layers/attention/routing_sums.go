package attention

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// clusterSums are the sums of the vectors assigned to each cluster, and their number, [H,C,D+1]. Inputs: vectors [B,T,H·D], clusters int32 [B,H,T].
type clusterSums struct{ clusters int }

func (clusterSums) Name() string                             { return "cluster_sums" }
func (clusterSums) DiffWRT() []bool                          { return []bool{false, false} }
func (clusterSums) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o clusterSums) Infer(in []engine.Type) (engine.Type, error) {
	x, a := in[0].Shape, in[1].Shape
	if len(x) != 3 || len(a) != 3 || in[1].Dtype != tensor.Int32 || x[0] != a[0] || x[1] != a[2] || a[1] < 1 || x[2]%a[1] != 0 {
		return engine.Type{}, fmt.Errorf("vectors %v in clusters %v, want [B,T,H·D] and int32 [B,H,T]", in[0], in[1])
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{a[1], o.clusters, x[2]/a[1] + 1}}, nil
}

func (o clusterSums) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		sumClusters[float32](out, in)
	} else {
		sumClusters[float64](out, in)
	}
	return nil
}

func sumClusters[F kernels.Float](out engine.Value, in []engine.Value) {
	x, a, y := engine.Floats[F](in[0]), engine.Ints(in[1]), engine.Floats[F](out)
	batch, t, width := in[0].Shape()[0], in[0].Shape()[1], in[0].Shape()[2]
	heads, clusters, d := out.Shape()[0], out.Shape()[1], out.Shape()[2]-1
	kernels.Par(heads, func(_, h int) {
		own := y[h*clusters*(d+1):][:clusters*(d+1)]
		clear(own)
		for b := range batch {
			for i, c := range a[(b*heads+h)*t:][:t] {
				if c >= 0 {
					row := own[int(c)*(d+1):][:d+1]
					kernels.Axpy(1, x[(b*t+i)*width+h*d:][:d], row[:d])
					row[d]++
				}
			}
		}
	})
}

// outliers are the vectors farthest from their centroids, [H,R,1+D] by falling distance, which stands in front; of equal ones the first of the
// first example. Behind them are rows of distance -1. Inputs: vectors [B,T,H·D], squared distances [B,H,T], clusters [B,H,T].
type outliers struct{ rows int }

func (outliers) Name() string                             { return "outliers" }
func (outliers) DiffWRT() []bool                          { return []bool{false, false, false} }
func (outliers) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o outliers) Infer(in []engine.Type) (engine.Type, error) {
	heads := in[1].Shape[1]
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{heads, o.rows, in[0].Shape[2]/heads + 1}}, nil
}

func (o outliers) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		findOutliers[float32](out, in)
	} else {
		findOutliers[float64](out, in)
	}
	return nil
}

func findOutliers[F kernels.Float](out engine.Value, in []engine.Value) {
	x, far, a, y := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Ints(in[2]), engine.Floats[F](out)
	batch, t, width := in[0].Shape()[0], in[0].Shape()[1], in[0].Shape()[2]
	heads, rows, d := out.Shape()[0], out.Shape()[1], out.Shape()[2]-1
	for h := range heads {
		own := y[h*rows*(d+1):][:rows*(d+1)]
		clear(own)
		for r := range rows {
			own[r*(d+1)] = -1
		}
		for b := range batch {
			for i := range t {
				at := (b*heads+h)*t + i
				if a[at] >= 0 && far[at] > own[(rows-1)*(d+1)] {
					insertRow(own, rows, far[at], x[(b*t+i)*width+h*d:][:d])
				}
			}
		}
	}
}

// insertRow puts a vector among rows of falling distance; the last row goes.
func insertRow[F kernels.Float](own []F, rows int, far F, x []F) {
	n := len(x) + 1
	r := rows - 1
	for ; r > 0 && far > own[(r-1)*n]; r-- {
		copy(own[r*n:][:n], own[(r-1)*n:][:n])
	}
	own[r*n] = far
	copy(own[r*n+1:], x)
}

// mergeOutliers takes up those of one more batch.
func mergeOutliers(total, next *tensor.Dense) {
	if total.Dtype() == tensor.Float32 {
		mergeRows[float32](total, next)
	} else {
		mergeRows[float64](total, next)
	}
}

func mergeRows[F kernels.Float](total, next *tensor.Dense) {
	s := total.Shape()
	heads, rows, n := s[0], s[1], s[2]
	for h := range heads {
		own, more := engine.Floats[F](total)[h*rows*n:][:rows*n], engine.Floats[F](next)[h*rows*n:][:rows*n]
		for r := range rows {
			if more[r*n] > own[(rows-1)*n] {
				insertRow(own, rows, more[r*n], more[r*n+1:][:n-1])
			}
		}
	}
}

// unrouted counts the tokens in no cluster and all tokens, of all heads, [2]. Inputs: members [B,H,S], a tensor whose axis 1 are the tokens, perhaps lens.
type unrouted struct{ dtype tensor.Dtype }

func (unrouted) Name() string                             { return "unrouted" }
func (unrouted) DiffWRT() []bool                          { return []bool{false, false, false} }
func (unrouted) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o unrouted) Infer([]engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: o.dtype, Shape: tensor.Shape{2}}, nil
}

func (unrouted) Run(out engine.Value, in []engine.Value) error {
	s, t := in[0].Shape(), in[1].Shape()[1]
	none, all := 0, 0
	seen := make([]bool, t)
	for bh := range s[0] * s[1] {
		clear(seen)
		for _, i := range engine.Ints(in[0])[bh*s[2]:][:s[2]] {
			if i >= 0 {
				seen[i] = true
			}
		}
		n := lengthOf(in[2:], bh/s[1], t)
		all += n
		for _, yes := range seen[:n] {
			none += oneIf(!yes)
		}
	}
	if engine.IsF32(out) {
		copy(engine.Floats[float32](out), []float32{float32(none), float32(all)})
	} else {
		copy(engine.Floats[float64](out), []float64{float64(none), float64(all)})
	}
	return nil
}
