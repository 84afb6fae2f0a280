package attention

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// LSH is attention with shared queries and keys on those tokens that locality-sensitive hashing puts near each other. In each of Hashes rounds
// tokens are sorted by bucket (Hash), and a token i of chunk c reads the tokens of chunks c - Before … c + After of the same round:
//
//	A_i = ∪_r { j in the chunks of round r, j ≠ i, j < i if Causal },  o_i = Σ_j p_ij v_j,  p_ij ∝ exp(q_i·k_j),  k_j = q_j / sqrt(mean(q_j²) + eps) / √D
//
// A token that finds no other in any round has o_i = v_i (last resort). Padding is in no chunk and gets 0. With Plan BucketRecent A_i are instead
// the last Chunk tokens before i in the bucket of i, so that no later token changes anything.
//
// Cost: Hashes·T·Chunk·(1 + Before + After)·D for the scores, 2·Hashes·T·D·ΣC for hashing (see LSHFactors), Hashes·T for sorting.
// Source: Kitaev, Kaiser, Levskaya 2020, arXiv 2001.04451, section 2; details of keys and factors from trax.
// Differs: chunks at the ends do not wrap round unless Wrap says so; a pair that several rounds find counts once unless Dup says otherwise (the
// paper's formula, which published code does not follow); the number of buckets is that of the tokens which are no padding.
type LSH struct {
	Chunk, Hashes int
	Factors       []int // of the number of buckets, all even; nil: LSHFactors of each example, which BucketRecent must not have
	Before, After int
	Plan          string // PlanChunks ("") or BucketRecent
	Dup           string // DupOnce (""): one softmax over the union of the rounds; DupCount: a pair counts as often as it is found
	Wrap          string // WrapNone (""), WrapRound: a round's ends meet; WrapAcross: each round goes on into the next, the last into the first
	SameBucket    bool   // of the tokens in the chunks those of the own bucket alone
	Causal        bool

	Scale        float64 // of the scores; 0: 1
	Eps          float64 // of the norm of the keys; 0: 1e-6
	PaddingReads bool    // queries that are padding read what is none, as in transformers; else they give 0
	Fixed        bool    // the same rotations in every step; else new ones
}

// Values of Plan, Dup and Wrap.
const (
	PlanChunks   = "chunks"
	BucketRecent = "bucketRecent"
	DupOnce      = "once"
	DupCount     = "count"
	WrapNone     = "none"
	WrapRound    = "round"
	WrapAcross   = "across"
)

var (
	_ Mixer  = LSH{}
	_ Shared = LSH{}
)

// SharesQK is true.
func (LSH) SharesQK() bool { return true }

// Pattern is every pair that hashing may find.
func (a LSH) Pattern() Pattern {
	if a.Causal {
		return Causal(Full{})
	}
	return Full{}
}

// Class is the causality class: C1, no later token changes anything, of BucketRecent; C0, later tokens change which keys are read but not
// what they give, of chunks; empty if it is not causal.
func (a LSH) Class() string {
	switch {
	case !a.Causal:
		return ""
	case a.Plan == BucketRecent:
		return "C1"
	}
	return "C0"
}

// Mix is Attend with rotations of its own.
func (a LSH) Mix(b *layers.Builder, in Stream) *Node {
	qk, _, v := in.Split(b)
	o, _ := a.Attend(b, LSHInputs{QK: qk, V: v, Heads: in.Heads, Lens: in.Lens})
	return o
}

// LSHInputs is what LSH reads.
type LSHInputs struct {
	QK, V     *Node // [B,T,H·D] and [B,T,H·DV]
	Heads     int
	Lens      *Node // int32 [B]; nil: no padding
	Rotations *Node // [H,R,C,D] or [1,R,C,D], see Rotations; nil: drawn
	Buckets   *Node // int32 [B,H,R,T], in place of rotations; nil: hashed
}

// Attend adds the attention to the graph: o [B,T,H·DV], and lse [B,H,T], which is 0 where the last resort was taken.
// Errors (kept by b): shapes that do not fit together.
func (a LSH) Attend(b *layers.Builder, in LSHInputs) (o, lse *Node) {
	if b.Err() != nil {
		return nil, nil
	}
	if in.QK == nil || in.V == nil || in.QK.Dims() != 3 || in.Heads < 1 || in.QK.Shape()[2]%in.Heads != 0 {
		return b.Failf("lsh: queries [B,T,H·D], which are keys too, and values are wanted, for %d heads", in.Heads), nil
	}
	batch, t, d := in.QK.Shape()[0], in.QK.Shape()[1], in.QK.Shape()[2]/in.Heads
	k := a.keys(b, in.QK, in.Heads)
	c := Chosen{Heads: in.Heads, Scale: a.scale(d), Lens: in.Lens, LastResort: true, PaddingReads: a.PaddingReads}
	s := Sorted{Chosen: c, ChunkQ: a.Chunk, Causal: a.Causal, Others: true}
	if t <= a.Chunk && !a.SameBucket && a.Plan != BucketRecent { // all are in one chunk, whatever the buckets
		s.OrderQ = inOrder(b, batch, t)
		return AttendSorted(b, s, in.QK, k, in.V)
	}
	buckets := a.buckets(b, in)
	if a.Plan == BucketRecent {
		return AttendRecent(b, Lookback{Chosen: c, Clusters: buckets, Window: a.Chunk}, in.QK, k, in.V)
	}
	there := in.Lens
	if a.PaddingReads {
		there = nil
	}
	s.OrderQ = SortBuckets(b, buckets, there)
	s.Before, s.After, s.Wrap, s.Once = a.Before, a.After, a.Wrap, a.Dup != DupCount
	if a.SameBucket {
		s.Buckets = buckets
	}
	return AttendSorted(b, s, in.QK, k, in.V)
}

// buckets are those that are given, or hashed.
func (a LSH) buckets(b *layers.Builder, in LSHInputs) *Node {
	if b.Err() != nil || in.Buckets != nil {
		return in.Buckets
	}
	t, d := in.QK.Shape()[1], in.QK.Shape()[2]/in.Heads
	if in.Rotations == nil {
		in.Rotations = Rotations(b, in.Heads, a.Hashes, d, lshColumns(a.Factors, t, a.Chunk), a.Fixed)
	}
	return Hash(b, Hashing{Heads: in.Heads, Factors: a.Factors, Chunk: a.Chunk, Lens: in.Lens}, in.QK, in.Rotations)
}

// inOrder is the order of positions, int32 [B,1,T].
func inOrder(b *layers.Builder, batch, t int) *Node {
	order := make([]int32, batch*t)
	for i := range order {
		order[i] = int32(i % t)
	}
	return b.Const(fmt.Sprint("order.", batch, ".", t), tensor.New(tensor.WithShape(batch, 1, t), tensor.WithBacking(order)))
}

// keys are the normalised keys, up to the factor 1/√D, which is in the scale.
func (a LSH) keys(b *layers.Builder, qk *Node, heads int) *Node {
	if b.Err() != nil {
		return nil
	}
	s := qk.Shape()
	k := layers.RMSNorm(b, layers.Reshape(b, qk, s[0], s[1], heads, s[2]/heads), layers.NormConfig{Eps: a.eps(), NoWeight: true})
	return layers.Reshape(b, k, s[0], s[1], s[2])
}

func (a LSH) eps() float64 {
	if a.Eps == 0 {
		return 1e-6
	}
	return a.Eps
}

// scale of the scores of a head of size d.
func (a LSH) scale(d int) float64 {
	if a.Scale == 0 {
		return 1 / math.Sqrt(float64(d))
	}
	return a.Scale / math.Sqrt(float64(d))
}

// lshEntry is {"type": "lsh", "chunk": 64, "num_hashes": 2}.
type lshEntry struct {
	kind
	Chunk         *int   `json:"chunk"`
	NumHashes     *int   `json:"num_hashes"`
	BucketFactors []int  `json:"bucket_factors,omitempty"` // nothing: by the length, of bucketRecent by the greatest length
	ChunksBefore  *int   `json:"chunks_before,omitempty"`  // 1 if not given
	ChunksAfter   *int   `json:"chunks_after,omitempty"`   // as chunks_before if not given, in a decoder 0
	Plan          string `json:"plan,omitempty"`
	Dup           string `json:"dup,omitempty"`
	Wrap          string `json:"wrap,omitempty"`
	SameBucket    bool   `json:"same_bucket_only,omitempty"`
}

// maxHashes bounds the rounds, and the factors of the number of buckets.
const maxHashes = 1 << 10

func (e *lshEntry) check() []error {
	faults := checkPositive(checkPositive(nil, "chunk", e.Chunk), "num_hashes", e.NumHashes)
	if e.NumHashes != nil && *e.NumHashes > maxHashes {
		faults = append(faults, &config.FieldError{Path: "num_hashes", Value: *e.NumHashes, Want: fmt.Sprintf("give 1 to %d", maxHashes)})
	}
	faults = checkSide(checkSide(faults, "chunks_before", e.ChunksBefore, false), "chunks_after", e.ChunksAfter, false)
	faults = append(faults, checkFactors("bucket_factors", e.BucketFactors)...)
	for _, f := range []struct {
		path, value string
		allowed     []string
	}{{"plan", e.Plan, []string{"", PlanChunks, BucketRecent}}, {"dup", e.Dup, []string{"", DupOnce, DupCount}}, {"wrap", e.Wrap, []string{"", WrapNone, WrapRound, WrapAcross}}} {
		if !slices.Contains(f.allowed, f.value) {
			faults = append(faults, &config.FieldError{Path: f.path, Value: f.value, Want: "no such value" + choice(f.value, f.allowed[1:])})
		}
	}
	if e.Plan == BucketRecent {
		for _, f := range []struct {
			path  string
			value any
			given bool
		}{{"chunks_before", e.ChunksBefore, e.ChunksBefore != nil}, {"chunks_after", e.ChunksAfter, e.ChunksAfter != nil}, {"same_bucket_only", true, e.SameBucket},
			{"wrap", e.Wrap, e.Wrap != "" && e.Wrap != WrapNone}, {"dup", e.Dup, e.Dup == DupCount}} {
			if f.given {
				faults = append(faults, &config.FieldError{Path: f.path, Value: f.value, Want: "leave it out beside plan bucketRecent, which has no chunks and counts a pair once"})
			}
		}
	}
	if e.Dup != DupCount && e.Wrap == WrapAcross {
		faults = append(faults, &config.FieldError{Path: "wrap", Value: e.Wrap, Want: `stands beside dup count: the rounds run into each other; give "dup": "count", or another wrap`})
	}
	return faults
}

// checkFactors checks the factors of the number of buckets.
func checkFactors(path string, factors []int) (faults []error) {
	buckets := 1
	for k, f := range factors {
		at := fmt.Sprintf("%s[%d]", path, k)
		switch {
		case f < 2 || f%2 != 0:
			faults = append(faults, &config.FieldError{Path: at, Value: f, Want: "give an even number from 2 on: a bucket has one on the other side"})
		case f > maxBuckets/buckets:
			faults = append(faults, &config.FieldError{Path: at, Value: f, Want: fmt.Sprintf("more than %d buckets in all; give smaller factors", maxBuckets)})
		default:
			buckets *= f
		}
	}
	if factors != nil && len(factors) == 0 {
		faults = append(faults, &config.FieldError{Path: path, Value: factors, Want: "give at least one even number, or leave it out"})
	}
	return faults
}

// maxBuckets bounds the memory of sorting.
const maxBuckets = 1 << 24

func (e *lshEntry) pattern(Layer) (Pattern, error) {
	if e.Plan == BucketRecent {
		return Causal(Full{}), nil
	}
	return Full{}, nil
}

// usualLength stands in for the greatest length of a model that does not know it.
const usualLength = 4096

func (e *lshEntry) mixer(at Layer) (Mixer, error) {
	a := LSH{Chunk: *e.Chunk, Hashes: *e.NumHashes, Factors: e.BucketFactors, Before: 1, Plan: e.Plan, Dup: e.Dup, Wrap: e.Wrap, SameBucket: e.SameBucket,
		Causal: at.Decoder || e.Plan == BucketRecent}
	if e.ChunksBefore != nil {
		a.Before = *e.ChunksBefore
	}
	a.After = right(e.ChunksAfter, a.Before, at.Decoder)
	if a.Plan == BucketRecent && a.Factors == nil { // the number of buckets must not tell how long the sequence will be
		longest := at.Positions
		if longest == 0 {
			longest = usualLength
		}
		a.Factors = LSHFactors(longest, a.Chunk)
	}
	return a, nil
}
