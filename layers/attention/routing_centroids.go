package attention

import (
	"math"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
)

// leastCount and leastNorm keep a centroid finite that nothing was ever assigned to.
const (
	leastCount = 1e-6
	leastNorm  = 1e-6
)

// clusterState are the tables of a layer that its clusters are kept in, none of which is a weight: with averages over the training steps of
// what is assigned to a cluster in each,
//
//	centroid_c = emaSum_c / max(emaCount_c, 1e-6)
//
// which is the mean of all vectors ever assigned, weighted by decay^age. See Update.
type clusterState struct {
	emaSum   *Node // [H,C,D]
	emaCount *Node // [H,C]
	deadAge  *Node // [H,C] updates since which almost nothing was assigned
	progress *Node // [2] 1 once there are centroids, updates made
}

func newClusterState(b *layers.Builder, heads, clusters, d int) clusterState {
	return clusterState{b.State("ema_sum", layers.Zeros(), heads, clusters, d), b.State("ema_count", layers.Ones(), heads, clusters),
		b.State("dead_age", layers.Zeros(), heads, clusters), b.State("progress", layers.Zeros(), 2)}
}

// centroids are those of a step [2,H,C,D]: as they are, then at the length √D, which all vectors have that are normalised. Where there are none yet
// a graph for training finds some for the vectors at hand; any other is refused, for what is evaluated must not leave a trace.
// Inputs: emaSum, emaCount, progress, then vectors [B,T,H·D] once or twice, each perhaps with lengths.
type centroids struct {
	choosing
	lens     []bool // of each set of vectors: there are lengths
	training bool
	steps    int // of Lloyd's algorithm
	seed     uint64
	site     uint64
	name     string // of the state
}

func (centroids) Name() string { return "centroids" }
func (o centroids) DiffWRT() []bool {
	n := 3
	for _, lens := range o.lens {
		n += 1 + oneIf(lens)
	}
	return make([]bool, n)
}

func oneIf(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func (centroids) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: append(tensor.Shape{2}, in[0].Shape...)}, nil
}

func (o centroids) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return runCentroids[float32](o, out, in)
	}
	return runCentroids[float64](o, out, in)
}

func runCentroids[F kernels.Float](o centroids, out engine.Value, in []engine.Value) error {
	sums, counts, y := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	heads, clusters, d := in[0].Shape()[0], in[0].Shape()[1], in[0].Shape()[2]
	raw := y[:len(sums)]
	switch {
	case engine.Floats[F](in[2])[0] != 0:
		for c, n := range counts {
			kernels.Scale(1/max(n, leastCount), sums[c*d:][:d], raw[c*d:][:d])
		}
	case !o.training:
		return &layers.StateError{Name: o.name, What: "its clusters come from the first training step: train the model, or load weights that were trained"}
	default:
		for h := range heads {
			first := lloyd[F]{o: o, h: h, heads: heads, clusters: clusters, d: d, in: in[3:]}
			first.run(raw[h*clusters*d:][:clusters*d])
		}
	}
	for c := range heads * clusters {
		onSphere(raw[c*d:][:d], y[len(sums)+c*d:][:d])
	}
	return nil
}

// onSphere writes x at the length √D.
func onSphere[F kernels.Float](x, y []F) {
	norm := math.Sqrt(kernels.SumSq(x))
	if norm < leastNorm {
		norm = leastNorm
	}
	kernels.Scale(F(math.Sqrt(float64(len(x)))/norm), x, y)
}

// lloyd finds first centroids of a head: vectors drawn without replacement, or if there are fewer vectors with some noise, and steps of Lloyd's
// algorithm with the same assignment as in training. A cluster without vectors stays what it was.
// Source: Lloyd 1982; to start so is from the package routing-transformer, which draws vectors before they are normalised.
type lloyd[F kernels.Float] struct {
	o                  centroids
	h, heads           int
	clusters, d        int
	in                 []engine.Value // sets of vectors, each perhaps with lengths
	sphere, sum, score []F
	number             []int
}

// vectors calls f for the rows of an example in a set: row i is x[i·stride:][:d].
func (l *lloyd[F]) vectors(f func(x []F, n, stride int)) {
	in := l.in
	for _, withLens := range l.o.lens {
		set, lens := in[0], in[1:][:oneIf(withLens)]
		s := set.Shape()
		for b := range s[0] {
			f(engine.Floats[F](set)[b*s[1]*s[2]+l.h*l.d:], lengthOf(lens, b, s[1]), s[2])
		}
		in = in[1+len(lens):]
	}
}

func (l *lloyd[F]) run(mu []F) {
	total := 0
	l.vectors(func(_ []F, n, _ int) { total += n })
	clear(mu)
	if total == 0 {
		return
	}
	from := draws{seed: int(l.o.seed), stream: int(l.o.site >> 1)}
	picked := from.draw(l.h, l.clusters, total, nil)
	for c := len(picked); c < l.clusters; c++ {
		picked = append(picked, picked[c%total])
	}
	at := 0
	l.vectors(func(x []F, n, stride int) {
		for c, p := range picked {
			if p >= at && p < at+n {
				copy(mu[c*l.d:][:l.d], x[(p-at)*stride:])
			}
		}
		at += n
	})
	if total < l.clusters {
		key := from.key(l.heads + l.h)
		for i := range mu {
			key += splitmix.Increment
			mu[i] += F(1e-3 * (2*splitmix.Unit(splitmix.Mix(key)) - 1))
		}
	}
	for range l.o.steps {
		l.step(mu)
	}
}

func (l *lloyd[F]) step(mu []F) {
	l.sphere, l.sum, l.number = sized(l.sphere, len(mu)), sized(l.sum, len(mu)), sized(l.number, l.clusters)
	clear(l.sum)
	clear(l.number)
	for c := range l.clusters {
		onSphere(mu[c*l.d:][:l.d], l.sphere[c*l.d:][:l.d])
	}
	l.vectors(func(x []F, n, stride int) {
		if n == 0 {
			return
		}
		l.score = sized(l.score, n*l.clusters)
		kernels.Gemm(false, true, n, l.clusters, l.d, x, stride, l.sphere, l.d, l.score, l.clusters, false, nil)
		for i := range n {
			row := l.score[i*l.clusters:][:l.clusters]
			best := 0
			for c, s := range row {
				if s > row[best] {
					best = c
				}
			}
			l.number[best]++
			kernels.Axpy(1, x[i*stride:][:l.d], l.sum[best*l.d:][:l.d])
		}
	})
	for c, n := range l.number {
		if n > 0 {
			kernels.Scale(F(1/float64(n)), l.sum[c*l.d:][:l.d], mu[c*l.d:][:l.d])
		}
	}
}
