package attention

import (
	"errors"
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// BP is the attention of the BP-Transformer: softmax over the edges of a tree whose labels have keys of their own,
//
//	o_i = Σ_j p_ij v_j,  p_ij ∝ exp((q_i·k_j + q_i·r_λ(i,j)) / √D),  j in A_i
//
// for tokens and spans with the same weights. The rows of the stream are the nodes: see TreeNodes.
// Parameter: labels.weight [V,D], r, for all heads; V = (2K+1)(Clip+1).
// Source: Ye et al. 2019, arXiv 1911.04070, section 3.
// Differs: where the tree has no second child the released builder reads a node of the next level, which covers tokens twice; here that
// step is idle.
type BP struct {
	Tree BPTree // Causal(BPTree) in a decoder
	Clip int    // levels from there on share labels
}

var _ Mixer = BP{}

// NewBP is the attention with k nodes of each level and side and labels of clip+1 levels; causal reads to the left alone.
// Errors: every fault as *config.FieldError, joined.
func NewBP(k, clip int, causal bool) (BP, error) {
	e := bpEntry{kind{"bp"}, &k, &clip}
	if err := errors.Join(e.check()...); err != nil {
		return BP{}, err
	}
	tree := NewBPTree(k)
	if causal {
		tree = tree.inPast()
	}
	return BP{tree, clip}, nil
}

// Pattern is the tree.
func (a BP) Pattern() Pattern { return a.Tree }

// Labels tells the roles of the edges apart.
func (a BP) Labels() Labels { return BPLabels(a) }

// Mix is Attend with labels.
func (a BP) Mix(b *layers.Builder, in Stream) *Node {
	q, k, v := in.Split(b)
	if b.Err() != nil {
		return nil
	}
	c := in.Config(a.Tree)
	c.Labels = a.Labels()
	c.LabelKeys = b.Scope("labels").Param("weight", layers.XavierUniform(), c.Labels.Count(), q.Shape()[2]/in.Heads)
	o, _ := Attend(b, c, q, k, v)
	return o
}

// BPLabels are the roles of the edges of a tree, see BPTree.Edges.
type BPLabels struct {
	Tree BPTree
	Clip int
}

func (l BPLabels) String() string { return fmt.Sprintf("%s labels to %d", l.Tree, l.Clip) }

// Count is (2K+1)·(Clip+1).
func (l BPLabels) Count() int { return (2*l.Tree.K + 1) * (l.Clip + 1) }

// Label is the role of an edge. O(log degree) once the tree for n nodes is known.
func (l BPLabels) Label(_, i, j, n int) int {
	p := l.Tree.plan(n)
	at, _ := slices.BinarySearch(p.row(i), int32(j))
	return l.Tree.label(p, int(p.rowPtr[i])+at, l.Clip)
}

// TreeNodes makes the nodes of the trees over the tokens x [B,T,C] of each example, which are lens (int32 [B]; nil: all T): the tokens,
// directly behind the last of them the spans, which start as zeros, then padding. It returns them, [B,N,C] with N the nodes of T
// tokens, and how many there are of each, int32 [B], nil if lens is.
func TreeNodes(b *layers.Builder, x, lens *Node) (nodes, counts *Node) {
	if b.Err() != nil {
		return nil, nil
	}
	s := x.Shape()
	more := treeNodes(s[1]) - s[1]
	if lens != nil {
		x, counts = layers.MaskRows(b, x, lens), b.Op(treeCounts{}, lens)
	}
	if more == 0 || b.Err() != nil {
		return x, counts
	}
	zeros := engine.Zeros(b.Graph(), engine.Type{Dtype: x.Dtype(), Shape: []int{s[0], more, s[2]}})
	return layers.Concat(b, 1, x, zeros), counts
}

// TreeTokens drops the spans: the first T of the nodes that TreeNodes returns. Behind the last token of a shorter example stand its spans.
func TreeTokens(b *layers.Builder, nodes *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	return layers.Slice(b, nodes, 1, 0, treeTokens(nodes.Shape()[1]))
}

// TreeRoot is the root of each example's tree, [B,C], given what TreeNodes returns; zeros where there are no tokens.
func TreeRoot(b *layers.Builder, nodes, counts *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	s := nodes.Shape()
	if counts == nil {
		return layers.Reshape(b, layers.Slice(b, nodes, 1, s[1]-1, s[1]), s[0], s[2])
	}
	at := layers.Reshape(b, layers.Plus(b, counts, -1), s[0], 1)
	return layers.Reshape(b, layers.Gather(b, nodes, at), s[0], s[2])
}

// IsTree reports whether the nodes of a pattern are those of a tree, see TreeNodes.
func IsTree(p Pattern) bool { return spaceOf(p).tree }

// treeCounts is how many nodes there are for so many tokens.
type treeCounts struct{}

func (treeCounts) Name() string    { return "tree_nodes" }
func (treeCounts) Cheap()          {}
func (treeCounts) DiffWRT() []bool { return []bool{false} }
func (treeCounts) Infer(in []engine.Type) (engine.Type, error) {
	if in[0].IsFloat() {
		return engine.Type{}, fmt.Errorf("lengths %v, want int32", in[0])
	}
	return in[0], nil
}
func (treeCounts) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil}, nil }
func (treeCounts) Run(out engine.Value, in []engine.Value) error {
	y := engine.Ints(out)
	for b, n := range engine.Ints(in[0]) {
		if n < 0 {
			return fmt.Errorf("example %d has length %d, it must be 0 or more", b, n)
		}
		y[b] = int32(treeNodes(int(n)))
	}
	return nil
}

// bpEntry is {"type": "bp", "k": 4, "clip": 5}.
type bpEntry struct {
	kind
	K    *int `json:"k"`
	Clip *int `json:"clip"`
}

func (e *bpEntry) check() []error {
	faults := checkSide(checkPositive(nil, "k", e.K), "clip", e.Clip, true)
	if len(faults) == 0 && (2*int64(*e.K)+1)*(int64(*e.Clip)+1) > kernels.MaxLabels {
		faults = append(faults, &config.FieldError{Path: "clip", Value: *e.Clip,
			Want: fmt.Sprintf("(2k+1)(clip+1) labels are more than %d; give a smaller k or clip", kernels.MaxLabels)})
	}
	return faults
}

func (e *bpEntry) pattern(Layer) (Pattern, error) { return NewBPTree(*e.K), nil }

func (e *bpEntry) mixer(at Layer) (Mixer, error) { return NewBP(*e.K, *e.Clip, at.Decoder) }
