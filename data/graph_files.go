package data

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// graphTask is the task of a graph that lies in files, see readGraph.
const graphTask = "nodes"

// nodesKind is what a graph in files is in place of a synthetic task: of one length, its own.
var nodesKind = taskKind{name: graphTask, summary: "a graph in the files of data.path; the class of each node",
	resize: func(v taskValues, t int) bool { return t == v["nodes"] }}

func init() {
	nodesKind.build = func(v taskValues) (*task, []string) { return nil, []string{"a graph in files has no other length"} }
}

// graphFiles is a graph of nodes with classes and features.
type graphFiles struct {
	classes []int32 // -1: not known
	part    []int8  // 0 train, 1 val, 2 test
	width   int
	numbers []float32 // [nodes, width]
	edges   []int32   // pairs, each edge in both directions
}

// readGraph reads the graph of a folder, whose one example it is:
//
//	nodes.tsv   a line a node, from number 0: its class (a whole number, - if it is not known), train, val or test, and its features
//	edges.tsv   a line an edge: the numbers of two nodes; it counts in both directions
//
// Columns are separated by tabs, blanks or commas; lines that begin with # are left out. The classes of the nodes of a part are asked for
// in that part alone; all parts read all nodes and edges. Batches are as those of the task blocks.
//
// Errors: ErrMissing, ErrRead; ErrFormat with the file and the line.
func readGraph(dir string) (*task, error) {
	if dir == "" {
		return nil, &Error{Kind: ErrTask, Path: "task:" + graphTask, What: "data.path is not given", Fix: "set it to a folder with nodes.tsv and edges.tsv"}
	}
	g := &graphFiles{width: -1}
	if err := eachRow(filepath.Join(dir, "nodes.tsv"), g.node); err != nil {
		return nil, err
	}
	if err := eachRow(filepath.Join(dir, "edges.tsv"), g.edge); err != nil {
		return nil, err
	}
	n, width := len(g.classes), max(g.width, 0)
	if n == 0 || width == 0 {
		return nil, &Error{Kind: ErrFormat, Path: filepath.Join(dir, "nodes.tsv"), What: fmt.Sprintf("%d nodes of %d features", n, width), Fix: "give a line a node: class, part, features"}
	}
	if n*width > maxVectors || n > maxTaskLength || len(g.edges) > maxVectors {
		return nil, &Error{Kind: ErrFormat, Path: dir, What: fmt.Sprintf("%d nodes of %d features and %d edges are too many", n, width, len(g.edges)/4), Fix: "give a smaller graph"}
	}
	classes := int(slices.Max(g.classes)) + 1
	t := &task{length: n, answers: n, words: newWords(wordGroup{"c", max(classes, 1)}), name: fmt.Sprintf("%s(%s,%x)", graphTask, filepath.Base(dir), g.sum()), kind: &nodesKind,
		values: taskValues{"nodes": n}, sizes: [3]int{1, 1, 1}, shape: Shape{Vectors: width, Classes: classes, More: map[string]int{}}}
	if len(g.edges) > 0 {
		t.shape.More["graph_edges"] = len(g.edges)
	}
	t.draw = func(_ *stream, part int, x *example) {
		for i, c := range g.classes {
			if int(g.part[i]) == part {
				x.targets[i] = c
			}
		}
		copy(x.vectors, g.numbers)
		copy(x.more["graph_edges"], g.edges)
	}
	return t, nil
}

// sum tells graphs apart: FNV-1a of everything.
func (g *graphFiles) sum() uint64 {
	h := fnv.New64a()
	for _, part := range []any{g.classes, g.part, g.numbers, g.edges} {
		_ = binary.Write(h, binary.LittleEndian, part)
	}
	return h.Sum64()
}

// node takes a line of nodes.tsv; what is wrong with it is returned.
func (g *graphFiles) node(fields []string) string {
	if len(fields) < 3 {
		return fmt.Sprintf("%d columns, want a class, a part and features", len(fields))
	}
	class := -1
	if fields[0] != "-" {
		var err error
		if class, err = strconv.Atoi(fields[0]); err != nil || class < 0 || class > maxTaskLength {
			return fmt.Sprintf("the class is %q, want a whole number from 0 on, or -", fields[0])
		}
	}
	part := slices.Index(PartNames[:], fields[1])
	if part < 0 {
		return fmt.Sprintf("the part is %q, want one of %v", fields[1], PartNames)
	}
	if g.width < 0 {
		g.width = len(fields) - 2
	}
	if len(fields)-2 != g.width {
		return fmt.Sprintf("%d features, the lines before have %d", len(fields)-2, g.width)
	}
	for _, f := range fields[2:] {
		v, err := strconv.ParseFloat(f, 32)
		if err != nil || v != v || v-v != 0 {
			return fmt.Sprintf("the feature is %q, want a number", f)
		}
		g.numbers = append(g.numbers, float32(v))
	}
	g.classes, g.part = append(g.classes, int32(class)), append(g.part, int8(part))
	return ""
}

// edge takes a line of edges.tsv.
func (g *graphFiles) edge(fields []string) string {
	if len(fields) < 2 {
		return fmt.Sprintf("%d columns, want two nodes", len(fields))
	}
	var ends [2]int
	for k := range ends {
		var err error
		if ends[k], err = strconv.Atoi(fields[k]); err != nil || ends[k] < 0 || ends[k] >= len(g.classes) {
			return fmt.Sprintf("the node is %q, want a number from 0 to %d", fields[k], len(g.classes)-1)
		}
	}
	g.edges = append(g.edges, int32(ends[0]), int32(ends[1]), int32(ends[1]), int32(ends[0]))
	return ""
}

// eachRow calls f with the fields of each line of a file.
func eachRow(path string, f func(fields []string) (fault string)) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return &Error{Kind: ErrMissing, Path: path, What: "a graph is nodes.tsv and edges.tsv", Fix: "set data.path to the folder that holds both", Err: err}
	}
	defer func() {
		if cerr := file.Close(); err == nil && cerr != nil {
			err = &Error{Kind: ErrRead, Path: path, What: cerr.Error(), Fix: "try again", Err: cerr}
		}
	}()
	lines := bufio.NewReader(file)
	for n := 1; ; n++ {
		line, rerr := lines.ReadString('\n')
		if rerr != nil && rerr != io.EOF {
			return &Error{Kind: ErrRead, Path: path, What: rerr.Error(), Fix: "try again", Err: rerr}
		}
		fields := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\r\n,", r) })
		if len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
			if fault := f(fields); fault != "" {
				return &Error{Kind: ErrFormat, Path: path, Line: n, What: fault, Fix: "see docs/sac.md for the form of the files"}
			}
		}
		if rerr == io.EOF {
			return nil
		}
	}
}
