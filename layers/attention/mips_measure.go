package attention

import (
	"math"
	"slices"
)

// CandidateFraction is how many of the keys that queries may read were looked at: candidates lists those of each query, allowed is how many
// there are.
func CandidateFraction(candidates [][]int32, allowed []int) float64 {
	looked, all := 0, 0
	for i, list := range candidates {
		for _, j := range list {
			if j >= 0 {
				looked++
			}
		}
		all += allowed[i]
	}
	return float64(looked) / float64(all)
}

// Recall measures how well keys were found. Of the queries that have any key in truth, both int32 lists by query of negative-ended keys:
// the mean part of them that is in found.
func Recall(found, truth [][]int32) float64 {
	sum, n := 0.0, 0
	for i, t := range truth {
		hit, of := 0, 0
		for _, j := range t {
			if j < 0 {
				continue
			}
			of++
			if slices.Contains(found[i], j) {
				hit++
			}
		}
		if of > 0 {
			sum += float64(hit) / float64(of)
			n++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}

// TieRecall is Recall that counts a found key if its score is no less than the least score in truth, up to 1e-6: scores[i][j] is that of
// query i and key j.
func TieRecall(found, truth [][]int32, scores [][]float64) float64 {
	sum, n := 0.0, 0
	for i, t := range truth {
		least, of, hit := math.Inf(1), 0, 0
		for _, j := range t {
			if j >= 0 {
				least = min(least, scores[i][j])
				of++
			}
		}
		for _, j := range found[i] {
			if j >= 0 && scores[i][j] >= least-1e-6 {
				hit++
			}
		}
		if of > 0 {
			sum += min(1, float64(hit)/float64(of))
			n++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}

// MassRecall is the part of the softmax over all the scores of a query that falls on the keys found, on average. Scores of -Inf are of
// keys that it may not read.
func MassRecall(found [][]int32, scores [][]float64) float64 {
	sum, n := 0.0, 0
	for i, s := range scores {
		top := slices.Max(s)
		if math.IsInf(top, -1) {
			continue
		}
		all, part := 0.0, 0.0
		for _, x := range s {
			all += math.Exp(x - top)
		}
		for _, j := range found[i] {
			if j >= 0 {
				part += math.Exp(s[j] - top)
			}
		}
		sum += part / all
		n++
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}
