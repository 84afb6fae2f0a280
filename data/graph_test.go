package data

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPointerTask(t *testing.T) {
	c := loadTask(t, "pointer(length=11,noise=3,payloads=5,train=4000)")
	require.Equal(t, 9, c.Tokenizer.VocabSize())
	b := c.Train.Shape(11).NewBatch(4000, 11)
	s, err := c.Train.Sampler(11, 3)
	require.NoError(t, err)
	s.Fill(0, b)
	classes, places := [2]int{}, map[int]int{}
	for r := range b.B {
		ids := rowOf(b, b.IDs, r)
		require.Equal(t, int32(8), ids[0])
		var marked []int32
		for i, id := range ids[1:] {
			require.Less(t, id, int32(8))
			if id >= 3 {
				marked = append(marked, id)
				places[i]++
			}
		}
		require.Len(t, marked, 2)
		require.Equal(t, marked[0] == marked[1], b.Labels[r] == 1)
		classes[b.Labels[r]]++
	}
	require.InDelta(t, 2000, classes[1], 150)
	require.Len(t, places, 10)
	for i, n := range places {
		require.InDelta(t, 800, n, 120, i)
	}
}

func TestBlocksTask(t *testing.T) {
	c := loadTask(t, "blocks(nodes=101,classes=3,inside=200,outside=50,train=7)")
	shape := c.Train.Shape(101)
	b := shape.NewBatch(2, 101)
	s, err := c.Train.Sampler(101, 3)
	require.NoError(t, err)
	s.Fill(0, b)
	for r := range b.B {
		classes, edges := rowOf(b, b.Targets, r), rowOf(b, b.More["graph_edges"], r)
		var same, pairs [2]int
		for i, a := range classes {
			require.True(t, a >= 0 && a < 3)
			for _, z := range classes[:i] {
				if a == z {
					pairs[0]++
				} else {
					pairs[1]++
				}
			}
		}
		for e := 0; e < len(edges) && edges[e] >= 0; e += 4 {
			require.Equal(t, edges[e:e+2], []int32{edges[e+3], edges[e+2]}, "both directions")
			if classes[edges[e]] == classes[edges[e+1]] {
				same[0]++
			} else {
				same[1]++
			}
		}
		require.InDelta(t, 0.2, float64(same[0])/float64(pairs[0]), 0.04)
		require.InDelta(t, 0.05, float64(same[1])/float64(pairs[1]), 0.02)
		own, all := 0.0, 0.0
		for i, a := range classes {
			v := rowOf(b, b.Vectors, r)[i*3:][:3]
			own += float64(v[a]) / 101
			all += float64(v[0]+v[1]+v[2]) / 303
		}
		require.InDelta(t, 1, own, 0.5)
		require.InDelta(t, 1./3, all, 0.3)
	}
	require.NotEqual(t, rowOf(b, b.Targets, 0), rowOf(b, b.Targets, 1))
}

func TestGraphFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(nodes, edges string) Config {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "nodes.tsv"), []byte(nodes), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "edges.tsv"), []byte(edges), 0o600))
		return Config{Path: dir, Task: "nodes"}
	}
	good := "# class part features\n1\ttrain\t0.5\t-1\n0,val,2,3\n- test 4 5\n2 test 6 7"
	c, err := Load(write(good, "0 1\n3\t2\n"))
	require.NoError(t, err)
	require.Equal(t, 4, c.Train.Length())
	for i, want := range [][]int32{{1, -1, -1, -1}, {-1, 0, -1, -1}, {-1, -1, -1, 2}} {
		p := []*Part{c.Train, c.Val, c.Test}[i]
		b := p.Shape(4).NewBatch(1, 4)
		p.PlainWindows(4).Fill(0, b)
		require.Equal(t, want, b.Targets)
		require.Equal(t, []float32{0.5, -1, 2, 3, 4, 5, 6, 7}, b.Vectors)
		require.Equal(t, []int32{0, 1, 1, 0, 3, 2, 2, 3}, b.More["graph_edges"])
	}
	_, err = c.Train.WithLength(3)
	require.Error(t, err)
	other, err := Load(write(good, "0 1\n3\t1\n"))
	require.NoError(t, err)
	require.NotEqual(t, c.Digest, other.Digest, "another graph is other data")

	for _, bad := range []struct{ nodes, edges, want string }{
		{"1 train", "", "nodes.tsv:1: 2 columns"},
		{"1 train 1\nx test 2", "", "nodes.tsv:2: the class is \"x\""},
		{"1 all 1", "", "the part is \"all\""},
		{"1 train 1 2\n1 val 3", "", "1 features, the lines before have 2"},
		{"1 train NaN", "", "the feature is \"NaN\""},
		{"1 train 1", "0 1", "edges.tsv:1: the node is \"1\", want a number from 0 to 0"},
		{"1 train 1", "0", "edges.tsv:1: 1 columns"},
		{"", "", "0 nodes"},
	} {
		_, err := Load(write(bad.nodes, bad.edges))
		require.ErrorIs(t, err, ErrFormat, bad.want)
		require.ErrorContains(t, err, bad.want)
	}
	_, err = Load(Config{Task: "nodes"})
	require.ErrorIs(t, err, ErrTask)
	_, err = Load(Config{Task: "nodes", Path: filepath.Join(dir, "none")})
	require.ErrorIs(t, err, ErrMissing)
	require.Equal(t, dir, Config{Path: dir}.Spec("task:nodes").Path, "the graph stays")
}

func TestRepeat(t *testing.T) {
	shape := Shape{Labels: 1, Vectors: 2, More: map[string]int{"graph_edges": 2}}
	few, many := shape.NewBatch(2, 3), shape.NewBatch(6, 3)
	for i := range few.IDs {
		few.IDs[i] = int32(i)
	}
	few.Labels[1], few.Vectors[6], few.More["graph_edges"][2], few.Bytes = 7, 8, 9, 2
	many.Repeat(few)
	for r := range 6 {
		require.Equal(t, few.IDs[r/3*3:][:3], many.IDs[r*3:][:3])
	}
	require.Equal(t, []int32{0, 0, 0, 7, 7, 7}, many.Labels)
	require.Equal(t, float32(8), many.Vectors[3*6])
	require.Equal(t, []int32{9, 0}, many.More["graph_edges"][8:10])
	require.Equal(t, 6.0, many.Bytes)
}
