package attention

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
)

// Values of MIPS.Index: how candidates are found.
const (
	IVF           = "ivf"       // cells of spherical k-means over keys mapped by SimpleLSH; those nearest to the query are searched
	HashSRP       = "srp"       // random hyperplanes over directions
	HashSimpleLSH = "simplelsh" // random hyperplanes over keys mapped by SimpleLSH
	HashSignALSH  = "signalsh"  // … by SignALSH
	HashL2ALSH    = "l2alsh"    // steps along random directions, over keys mapped by L2ALSH
)

// Values of MIPS.Fallback: what fills up a query with too few candidates.
const (
	FallbackNone   = "none"
	FallbackRecent = "recent" // the nearest keys before it that are not chosen yet, without Causal the first ones
)

// MIPS is TopK with keys found by an index of the keys instead of by all products: approximate search for the maximum inner product. The
// index is made anew for each head of each example in every pass.
//
// Each query looks the keys up that the index has for it, takes the K of them with the greatest products (Rerank), or the first K that
// the index comes upon, then itself if Causal, keys of Fallback, and in training Explore random ones: so that keys that nobody finds
// can become worth finding. Queries with fewer than K candidates have fewer keys.
// Cost: with IVF and √T cells O(T^1.5·D) for cells and candidates; with hashes O(T·Tables·(Bits·D + log T)) and candidates, whose part
// of all keys depends on the data.
// Not only keys and queries that earlier tokens have decide where the cells of IVF lie, and how long the longest key is that the maps of
// keys divide by; so all but HashSRP are of class C0.
type MIPS struct {
	K, Explore    int
	Index         string
	Rerank        bool
	Fallback      string
	Cells, Probes int // of IVF; 0: √n and 8
	Tables, Bits  int // of hashes; 0: 4 and 4 (2 of HashL2ALSH)
	Causal        bool
}

var _ Crossing = MIPS{}

// normMap is what keys are mapped by.
func (a MIPS) normMap() NormMap {
	switch a.Index {
	case HashSRP:
		return NoMap
	case HashSignALSH:
		return SignALSH
	case HashL2ALSH:
		return L2ALSH
	}
	return SimpleLSH
}

// full fills in what is left open.
func (a MIPS) full() MIPS {
	if a.Index == "" {
		a.Index = IVF
	}
	if a.Probes == 0 {
		a.Probes = 8
	}
	if a.Tables == 0 {
		a.Tables = 4
	}
	if a.Bits == 0 {
		a.Bits = 4
		if a.Index == HashL2ALSH {
			a.Bits = 2
		}
	}
	return a
}

// Pattern is every pair that may be chosen.
func (a MIPS) Pattern() Pattern { return candidates(a.Causal) }

// Class is the class of causality, see MIPS; empty without causality.
func (a MIPS) Class() string {
	switch {
	case !a.Causal:
		return ""
	case a.Index == HashSRP:
		return "C1"
	}
	return "C0"
}

// Mix adds the attention of a layer.
func (a MIPS) Mix(b *layers.Builder, in Stream) *Node {
	q, k, v := in.Split(b)
	if in.Labels != nil {
		return b.Failf("mips: biases by relative position, which chosen keys do not have; use other positions")
	}
	return a.attend(b, Chosen{Heads: in.Heads, Scale: in.Scale, Lens: in.Lens}, q, k, v)
}

// Cross is attention on another sequence.
func (a MIPS) Cross(b *layers.Builder, in CrossStream) *Node {
	a.Causal = false
	return a.attend(b, Chosen{Heads: in.Heads, Scale: in.Scale, Lens: in.Lens, Cross: true, LensQ: in.LensQ}, in.Q, in.K, in.V)
}

func (a MIPS) attend(b *layers.Builder, c Chosen, q, k, v *Node) *Node {
	o, _ := AttendChosen(b, c, FoundKeys(b, a, c, q, k), q, k, v)
	return o
}

// FoundKeys chooses the keys of MIPS: int32 [B,H,TQ,W], rising, -1 behind them, W = min(K, TK) and room for the token itself and what is
// explored. No gradient. Draws are functions of (seed, step, place in the model, example, head).
func FoundKeys(b *layers.Builder, a MIPS, c Chosen, q, k *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	op := foundKeys{MIPS: a.full(), heads: c.Heads, cross: c.Cross, seed: b.Seed(), site: b.Site("mips"), lensQ: -1, lensK: -1}
	if !b.Training() {
		op.Explore = 0
	}
	in := Nodes{q, k, b.Step()}
	if c.Lens != nil {
		op.lensK = len(in)
		in = append(in, c.Lens)
	}
	op.lensQ = op.lensK
	if c.Cross {
		op.lensQ = -1
		if c.LensQ != nil {
			op.lensQ = len(in)
			in = append(in, c.LensQ)
		}
	}
	op.inputs = len(in)
	return b.Op(op, in...)
}

// foundKeys has inputs: q, k, step, lengths.
type foundKeys struct {
	choosing
	MIPS
	heads, inputs int
	cross         bool
	seed, site    uint64
	lensQ, lensK  int
}

func (foundKeys) Name() string      { return "found_keys" }
func (o foundKeys) DiffWRT() []bool { return make([]bool, o.inputs) }

// width is how many keys a query may have.
func (o foundKeys) width(tk int) int {
	w := min(o.K, tk) + o.Explore
	if o.Causal {
		w++
	}
	return min(w, tk)
}

func (o foundKeys) Infer(in []engine.Type) (engine.Type, error) {
	switch {
	case o.K < 1 || o.Explore < 0 || o.Cells < 0 || o.Probes < 1 || o.Tables < 1 || o.Bits < 1 || o.Bits > 30:
		return engine.Type{}, fmt.Errorf("k %d, explore %d, %d cells, %d probes, %d tables of %d bits", o.K, o.Explore, o.Cells, o.Probes, o.Tables, o.Bits)
	case !slices.Contains([]string{IVF, HashSRP, HashSimpleLSH, HashSignALSH, HashL2ALSH}, o.Index):
		return engine.Type{}, fmt.Errorf("no such index %q", o.Index)
	}
	s, err := topKeys{heads: o.heads, cross: o.cross, lensQ: -1, lensK: -1, valid: -1}.size(in[:2])
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{s.b, s.heads, s.tq, o.width(s.tk)}}, err
}

// Flops are those of the products that find cells or hashes, and of those with candidates if cells are of equal size; how many candidates hashes
// have, the keys tell.
func (o foundKeys) Flops(in []engine.Type, out engine.Type) float64 {
	s := out.Shape
	tq, tk := float64(s[2]), float64(in[1].Shape[1])
	d := in[0].Size() / max(1, s[0]*s[1]*s[2])
	w := float64((&mipsIndex[float32]{c: o.MIPS, d: d}).width())
	head := w * float64(o.Tables*o.Bits) * (tq + tk)
	if o.Index == IVF {
		cells := float64(o.Cells)
		if o.Cells == 0 {
			cells = math.Ceil(math.Sqrt(tk))
		}
		head = w*cells*((lloydSteps+1)*tk+tq) + float64(d)*tq*min(float64(o.Probes)/max(1, cells), 1)*tk
	}
	return 2 * float64(s[0]*s[1]) * head
}

func (o foundKeys) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(in[0]) {
		return findKeys[float32](o, out, in)
	}
	return findKeys[float64](o, out, in)
}

// finder is an index and what looking up needs, for one head at a time.
type finder[F kernels.Float] struct {
	index  mipsIndex[F]
	keys   []int32
	stamp  []int32 // query after which a key was met
	scores []F
	find   func(key int32)
	now    int32
}

var (
	finders32 kernels.FreeList[finder[float32]]
	finders64 kernels.FreeList[finder[float64]]
)

func findersOf[F kernels.Float]() *kernels.FreeList[finder[F]] {
	return kernels.FreeListOf[finder[F]](&finders32, &finders64)
}

func findKeys[F kernels.Float](o foundKeys, out engine.Value, in []engine.Value) error {
	lensQ, err := lengths(o.lensQ, in[0].Shape()[1], in)
	if err != nil {
		return err
	}
	lensK, err := lengths(o.lensK, in[1].Shape()[1], in)
	if err != nil {
		return err
	}
	s := out.Shape()
	tq, tk, w := s[2], in[1].Shape()[1], s[3]
	d := in[0].Size() / max(1, s[0]*s[1]*tq)
	q, k, keys, row := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Ints(out), o.heads*d
	step := uint64(uint32(engine.Ints(in[2])[0]))
	for i := range keys {
		keys[i] = -1
	}
	kernels.Par(s[0]*s[1], func(_, bh int) {
		b, h := bh/s[1], bh%s[1]
		nq, nk := tq, tk
		if lensQ != nil {
			nq = int(lensQ[b])
		}
		if lensK != nil {
			nk = int(lensK[b])
		}
		if nk == 0 {
			return
		}
		f := findersOf[F]().Take(nil)
		defer findersOf[F]().Give(f)
		kh := k[b*tk*row+h*d:]
		// The planes and the first centers are the same for all examples: what stands in one does not change another.
		key := splitmix.Mix(splitmix.Mix(o.seed+step*splitmix.Increment)^o.site) + uint64(h)*splitmix.Increment
		f.index.build(o.MIPS, kh, row, nk, d, splitmix.Mix(key))
		f.begin(nk)
		for i := range nq {
			f.query(&o, q[(b*tq+i)*row+h*d:][:d], kh, row, i, nk, splitmix.Mix(splitmix.Mix(^key+uint64(b))+uint64(i)*splitmix.Increment), keys[(bh*tq+i)*w:][:w])
		}
	})
	return nil
}

// begin makes room for n keys.
func (f *finder[F]) begin(n int) {
	f.stamp, f.now = sized(f.stamp, n), 0
	clear(f.stamp)
	if f.find == nil {
		f.find = func(key int32) {
			if f.stamp[key] != f.now {
				f.stamp[key] = f.now
				f.keys = append(f.keys, key)
			}
		}
	}
}

// query fills out with the keys of query i of n keys.
func (f *finder[F]) query(o *foundKeys, q, k []F, row, i, n int, key uint64, out []int32) {
	f.now, f.keys = int32(i+1), f.keys[:0]
	end := n
	if o.Causal {
		end = min(n, i+1)
	}
	f.index.candidates(q, end, f.find)
	if m := min(o.K, len(f.keys)); o.Rerank && len(f.keys) > m {
		f.rerank(q, k, row, m)
	} else {
		f.drop(m)
	}
	if o.Causal && i < n {
		f.find(int32(i))
	}
	for j := 0; j < end && o.Fallback == FallbackRecent && len(f.keys) < min(o.K, end); j++ {
		if o.Causal {
			f.find(int32(end - 1 - j))
		} else {
			f.find(int32(j))
		}
	}
	for e := range o.Explore {
		f.find(int32(splitmix.Unit(splitmix.Mix(key+uint64(e+1)*0x632be59bd9b4e019)) * float64(end)))
	}
	slices.Sort(f.keys)
	copy(out, f.keys)
}

// drop keeps the first m candidates, and forgets that it met the others.
func (f *finder[F]) drop(m int) {
	for _, j := range f.keys[m:] {
		f.stamp[j] = 0
	}
	f.keys = f.keys[:m]
}

// rerank keeps the m candidates with the greatest products, of equal ones the first.
func (f *finder[F]) rerank(q, k []F, row, m int) {
	f.scores = sized(f.scores, len(f.keys))
	kernels.Dots(len(q), q, k, row, f.keys, f.scores)
	for e, s := range f.scores {
		if s != s { // NaN is the least of all
			f.scores[e] = F(math.Inf(-1))
		}
	}
	best := kernels.Best(m, f.scores, f.keys)
	f.drop(best)
}
