package data

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/splitmix"
)

// Tasks for attention on graphs, given or learned: pointer, blocks.

// pointerTask: among noise two marked tokens, each with a payload; are the payloads equal? The question stands before them, where a head for
// classes reads. Two tokens out of length have to be brought together, and nothing but what they are says which. Chance is a half.
//
//	ids      n0.. (noise) | m0.. (marked, with a payload) | C
//	tokens   C n n m2 n n n m1 n
//	label    0 (different) or 1 (equal)
//
// Source: experiment of ours for learned edges, after Li et al. 2020 (SAC).
var pointerTask = taskKind{
	name:    "pointer",
	summary: "two marked tokens among noise: are their payloads equal? (which edges does it take)",
	params:  []taskParam{{"length", 16, 3, maxTaskLength}, {"noise", 8, 1, 1 << 16}, {"payloads", 4, 2, 1 << 16}},
	resize: func(v taskValues, t int) bool {
		v["length"] = t
		return t >= 3
	},
	build: func(v taskValues) (*task, []string) {
		length, noise, payloads := v["length"], v["noise"], v["payloads"]
		t := &task{length: length, answers: 1, words: newWords(wordGroup{"n", noise}, wordGroup{"m", payloads}, wordGroup{"C", 1}),
			shape: Shape{Globals: 1, Labels: 1, Classes: 2}}
		t.draw = func(r *stream, _ int, x *example) {
			x.ids[0] = int32(noise + payloads)
			for i := 1; i < length; i++ {
				x.ids[i] = int32(r.below(noise))
			}
			equal := r.below(2)
			a := r.below(payloads)
			b := a
			if equal == 0 {
				b = (a + 1 + r.below(payloads-1)) % payloads
			}
			places := r.choose(length-1, 2)
			x.ids[1+places[0]], x.ids[1+places[1]] = int32(noise+a), int32(noise+b)
			x.ask(int32(equal), 0)
		}
		return t, nil
	},
}

// blocksTask: a graph of a stochastic block model. Every node has a class; two nodes are joined with probability inside or outside (in
// thousandths), as their classes are the same or not. What is known of a node is its class, one number for each, in noise: normal of
// deviation 100/signal. The class of each node is asked for. Every example is another graph. Chance is 1 of classes.
//
//	vectors      [T,classes]  features
//	graph_edges  [2E]         pairs (from, to), each edge in both directions, -1: none
//	targets      [T]          class
//
// Source: Holland, Laskey and Leinhardt 1983, Stochastic blockmodels: first steps.
var blocksTask = taskKind{
	name:    "blocks",
	summary: "a random graph whose classes of nodes are rather joined among themselves, noisy features; the class of each node",
	params: []taskParam{{"nodes", 300, 1, 1 << 14}, {"classes", 3, 2, 1 << 10}, {"inside", 50, 0, 1000}, {"outside", 20, 0, 1000},
		{"signal", 80, 1, 1 << 16}},
	resize: func(v taskValues, t int) bool {
		v["nodes"] = t
		return t >= 1
	},
	build: func(v taskValues) (*task, []string) {
		nodes, classes := v["nodes"], v["classes"]
		inside, outside := float64(v["inside"])/1000, float64(v["outside"])/1000
		// Room for all edges there are, or for the mean and eight deviations.
		pairs := float64(nodes) * float64(nodes-1) / 2
		mean := pairs * max(inside, outside)
		most := int(min(pairs, math.Ceil(mean+8*math.Sqrt(mean)+8)))
		var faults []string
		if nodes*classes > maxVectors || 4*most > maxVectors {
			faults = append(faults, fmt.Sprintf("the examples would have %d numbers, want at most %d", max(nodes*classes, 4*most), maxVectors))
		}
		t := &task{length: nodes, answers: nodes, words: newWords(wordGroup{"c", classes}), shape: Shape{Vectors: classes, Classes: classes, More: map[string]int{}}}
		if most > 0 {
			t.shape.More["graph_edges"] = 4 * most
		}
		t.draw = func(r *stream, _ int, x *example) {
			for i := range nodes {
				x.targets[i] = int32(r.below(classes))
			}
			if x.vectors != nil {
				for i := range nodes {
					row := x.vectors[i*classes:][:classes]
					for k := range row {
						row[k] = float32(normal(r) * 100 / float64(v["signal"]))
					}
					row[x.targets[i]]++
				}
			}
			edges := edgeList{to: x.more["graph_edges"]}
			for i := range nodes {
				for j := range i {
					p := outside
					if x.targets[i] == x.targets[j] {
						p = inside
					}
					if splitmix.Unit(r.next()) < p {
						edges.add(i, j)
					}
				}
			}
		}
		return t, faults
	},
}

// normal draws by the method of Box and Muller.
func normal(r *stream) float64 {
	u, v := splitmix.Unit(r.next()), splitmix.Unit(r.next())
	return math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*v)
}

// edgeList writes edges in both directions, as many as there is room for.
type edgeList struct {
	to []int32
	n  int
}

func (e *edgeList) add(i, j int) {
	if e.n+4 <= len(e.to) {
		copy(e.to[e.n:], []int32{int32(i), int32(j), int32(j), int32(i)})
		e.n += 4
	}
}
