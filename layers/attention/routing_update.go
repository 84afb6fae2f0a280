package attention

import (
	"math"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// clusterUpdate is how the clusters of a layer follow from a training step in which S_c is the sum of the vectors nearest to centroid c, queries
// and keys of all examples, and N_c their number:
//
//	emaSum_c = λ emaSum_c + (1-λ) S_c,  emaCount_c = λ emaCount_c + (1-λ) N_c
//
// A cluster whose emaCount is below a hundredth of the mean for Reseed updates is dead: it starts anew at the vector that was farthest from its
// centroid, with the mean count; at most an eighth of the clusters a step.
// Source: van den Oord et al. 2017, arXiv 1711.00937, appendix A.1, as Roy et al. use it.
type clusterUpdate struct {
	Routing
	heads, d                  int
	sum, count, age, progress *tensor.Dense // the state
	sums, spread, outliers    []int         // places of the parts, by set
	unrouted                  int           // 0: there is none
}

func (u clusterUpdate) rule(parts []layers.StatePart) layers.StateUpdate {
	if u.sum.Dtype() == tensor.Float32 {
		return ruleOf[float32](u, parts)
	}
	return ruleOf[float64](u, parts)
}

func ruleOf[F kernels.Float](u clusterUpdate, parts []layers.StatePart) layers.StateUpdate {
	progress := engine.Floats[F](u.progress)
	return layers.StateUpdate{
		Parts: parts,
		Ready: func() bool { return progress[0] != 0 },
		Start: func(parts []*tensor.Dense) {
			sums := engine.Floats[F](u.sum)
			found := engine.Floats[F](parts[0])[:len(sums)]
			if !kernels.AllFinite(found) {
				return
			}
			copy(sums, found)
			fillWith(engine.Floats[F](u.count), 1)
			progress[0] = 1
		},
		Apply: func(_ int, parts []*tensor.Dense) []layers.Metric { return applyClusters[F](u, parts) },
	}
}

func applyClusters[F kernels.Float](u clusterUpdate, parts []*tensor.Dense) []layers.Metric {
	sum, count, age := engine.Floats[F](u.sum), engine.Floats[F](u.count), engine.Floats[F](u.age)
	var occupancy, busiest, moved, reseeded, vectors float64
	for h := range u.heads {
		numbers := make([]float64, u.Clusters)
		total, mean := 0.0, 0.0
		for c := range u.Clusters {
			at := h*u.Clusters + c
			m := sum[at*u.d:][:u.d]
			before := 1 / max(float64(count[at]), leastCount)
			n := 0.0
			for _, s := range u.sums {
				n += float64(engine.Floats[F](parts[s])[at*(u.d+1)+u.d])
			}
			after := u.Decay*float64(count[at]) + (1-u.Decay)*n
			step := 0.0
			for i, x := range m {
				s := 0.0
				for _, p := range u.sums {
					s += float64(engine.Floats[F](parts[p])[at*(u.d+1)+i])
				}
				y := u.Decay*float64(x) + (1-u.Decay)*s
				diff := y/max(after, leastCount) - float64(x)*before
				step += diff * diff
				m[i] = F(y)
			}
			count[at] = F(after)
			moved += math.Sqrt(step)
			numbers[c] = n
			total += n
			mean += after / float64(u.Clusters)
		}
		vectors += total
		most, entropy := 0.0, 0.0
		for _, n := range numbers {
			most = max(most, n)
			if n > 0 {
				entropy -= n / total * math.Log(n/total)
			}
		}
		if total > 0 {
			busiest += most * float64(u.Clusters) / total / float64(u.heads)
		}
		if u.Clusters > 1 {
			entropy /= math.Log(float64(u.Clusters))
		} else {
			entropy = 1
		}
		occupancy += entropy / float64(u.heads)
		if u.Reseed > 0 {
			own := h * u.Clusters
			reseeded += float64(reseed(u, h, mean, sum[own*u.d:][:u.Clusters*u.d], count[own:][:u.Clusters], age[own:][:u.Clusters], parts))
		}
	}
	progress := engine.Floats[F](u.progress)
	progress[1]++
	all := []layers.Metric{{Name: "occupancy", Value: occupancy}, {Name: "busiest", Value: busiest}, {Name: "moved", Value: moved / float64(u.heads*u.Clusters)}}
	spread := 0.0
	for _, p := range u.spread {
		spread += float64(engine.Floats[F](parts[p])[0])
	}
	all = append(all, layers.Metric{Name: "spread", Value: spread / max(vectors, 1)})
	if u.unrouted > 0 {
		of := engine.Floats[F](parts[u.unrouted])
		all = append(all, layers.Metric{Name: "unrouted", Value: float64(of[0]) / max(float64(of[1]), 1)})
	}
	if reseeded > 0 {
		all = append(all, layers.Metric{Name: "reseeded", Value: reseeded})
	}
	return all
}

// reseed counts for how long the clusters of a head have been dead, starts those anew that have been too long, and returns how many.
func reseed[F kernels.Float](u clusterUpdate, h int, mean float64, sum, count, age []F, parts []*tensor.Dense) (done int) {
	rows, n := max(1, u.Clusters/8), u.d+1
	next := make([]int, len(u.outliers)) // row of each set
	for c := range count {
		m := sum[c*u.d:][:u.d]
		norm := math.Sqrt(kernels.SumSq(m)) / max(float64(count[c]), leastCount)
		if float64(count[c]) >= 0.01*mean && norm >= leastNorm {
			age[c] = 0
			continue
		}
		age[c]++
		if int(age[c]) < u.Reseed || done == rows {
			continue
		}
		var best []F
		from := -1
		for s, p := range u.outliers {
			if next[s] == rows {
				continue
			}
			row := engine.Floats[F](parts[p])[(h*rows+next[s])*n:][:n]
			if row[0] >= 0 && (best == nil || row[0] > best[0]) {
				best, from = row, s
			}
		}
		if best == nil {
			return done
		}
		next[from]++
		count[c], age[c] = F(mean), 0
		kernels.Scale(F(mean), best[1:], m)
		done++
	}
	return done
}
