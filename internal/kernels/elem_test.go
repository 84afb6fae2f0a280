package kernels

import (
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fenced is an array with known words around the part under test.
type fenced struct{ all []float32 }

const (
	fence     = 37
	fenceWord = 0x7fc0dead
)

func newFenced(n int) fenced {
	c := fenced{make([]float32, n+2*fence)}
	for i := range c.all {
		c.all[i] = math.Float32frombits(fenceWord)
	}
	return c
}

func (c fenced) body() []float32 { return c.all[fence : len(c.all)-fence : len(c.all)-fence] }

func (c fenced) intact() bool {
	for i := range fence {
		if math.Float32bits(c.all[i]) != fenceWord || math.Float32bits(c.all[len(c.all)-1-i]) != fenceWord {
			return false
		}
	}
	return true
}

func randoms(seed uint64, n int, scale float64) []float32 {
	r := rand.New(rand.NewPCG(seed, 11))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * scale)
	}
	return x
}

// elemCase is a call: inputs a, b, c, e of rows*d, vectors of d and rows, outputs.
type elemCase[F Float] struct {
	rows, d         int
	a, b, c, e      []F // rows*d; b is positive
	w, v            []F // d
	r               []F // rows
	ids             []int32
	out, out2, out3 []F // rows*d
	dw, db          []F // d
	per             []F // rows
	scalar          []F // 1
}

// elemOp is an operation on float32 (the set in use) and on float64 (the reference).
type elemOp struct {
	name string
	f32  func(c *elemCase[float32])
	f64  func(c *elemCase[float64])
}

func elemOps() []elemOp {
	var ops []elemOp
	l32, l64 := elemCalls[float32](), elemCalls[float64]()
	for i := range l32 {
		ops = append(ops, elemOp{l32[i].name, l32[i].run, l64[i].run})
	}
	return ops
}

type elemCall[F Float] struct {
	name string
	run  func(c *elemCase[F])
}

func elemCalls[F Float]() []elemCall[F] {
	calls := []elemCall[F]{
		{"exp", func(c *elemCase[F]) { Exp(c.a, c.out) }},
		{"exp2", func(c *elemCase[F]) { Exp2(c.a, c.out) }},
		{"add", func(c *elemCase[F]) { Add(c.a, c.b, c.out) }},
		{"mul", func(c *elemCase[F]) { Mul(c.a, c.b, c.out) }},
		{"axpy", func(c *elemCase[F]) { copy(c.out, c.b); Axpy(F(0.7), c.a, c.out) }},
		{"scale", func(c *elemCase[F]) { Scale(F(0.7), c.a, c.out) }},
		{"addRow", func(c *elemCase[F]) { AddRow(c.rows, c.d, c.a, c.w, c.out) }},
		{"colSum", func(c *elemCase[F]) { ColSum(c.rows, c.d, c.a, c.d, c.dw, false) }},
		{"colSum accumulating", func(c *elemCase[F]) { copy(c.dw, c.w); ColSum(c.rows, c.d, c.a, c.d, c.dw, true) }},
		{"sum", func(c *elemCase[F]) { c.scalar[0] = F(Sum(c.a)) }},
		{"sumSq", func(c *elemCase[F]) { c.scalar[0] = F(SumSq(c.a)) }},
		{"layerNorm", func(c *elemCase[F]) { LayerNorm(c.rows, c.d, c.a, c.w, c.v, c.out, 1e-5) }},
		{"layerNorm plain", func(c *elemCase[F]) { LayerNorm(c.rows, c.d, c.a, nil, nil, c.out, 1e-5) }},
		{"layerNormGrad", func(c *elemCase[F]) { LayerNormGrad(c.rows, c.d, c.a, c.w, c.c, nil, c.out, c.dw, c.db, 1e-5) }},
		{"layerNormGrad plain", func(c *elemCase[F]) { LayerNormGrad(c.rows, c.d, c.a, nil, c.c, c.b, c.out, nil, nil, 1e-5) }},
		{"rmsNorm", func(c *elemCase[F]) { RMSNorm(c.rows, c.d, c.a, c.w, c.out, 1e-6) }},
		{"rmsNorm plain", func(c *elemCase[F]) { RMSNorm(c.rows, c.d, c.a, nil, c.out, 1e-6) }},
		{"rmsNormGrad", func(c *elemCase[F]) { RMSNormGrad(c.rows, c.d, c.a, c.w, c.c, c.b, c.out, c.dw, 1e-6) }},
		{"softmax", func(c *elemCase[F]) { Softmax(c.rows, c.d, c.a, c.out) }},
		{"softmaxGrad", func(c *elemCase[F]) { SoftmaxGrad(c.rows, c.d, c.b, c.c, c.out) }},
		{"logSoftmax", func(c *elemCase[F]) { LogSoftmax(c.rows, c.d, c.a, c.out) }},
		{"logSoftmaxGrad", func(c *elemCase[F]) { Scale(-1, c.b, c.out2); LogSoftmaxGrad(c.rows, c.d, c.out2, c.c, c.out) }},
		{"crossEntropy", func(c *elemCase[F]) { CrossEntropy(c.rows, c.d, c.a, c.ids, 0, c.per) }},
		{"crossEntropy smooth", func(c *elemCase[F]) { CrossEntropy(c.rows, c.d, c.a, c.ids, F(0.1), c.per) }},
		{"crossEntropyGrad", func(c *elemCase[F]) { CrossEntropyGrad(c.rows, c.d, c.a, c.ids, 0, c.r, c.out) }},
		{"crossEntropyGrad smooth", func(c *elemCase[F]) { CrossEntropyGrad(c.rows, c.d, c.a, c.ids, F(0.1), c.r, c.out) }},
		{"adamW", func(c *elemCase[F]) {
			copy(c.out, c.a)
			copy(c.out2, c.c)
			copy(c.out3, c.b)
			AdamWStep(AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.1, Scale: 0.5, Step: 3}, c.out, c.out2, c.out3, c.e)
		}},
		{"dropout", func(c *elemCase[F]) { Dropout(F(0.25), 3, 5, 7, c.a, c.out) }},
		{"embed", func(c *elemCase[F]) {
			if err := Embed(c.rows, c.d, c.rows, c.a, c.positions(), c.out); err != nil {
				panic(err)
			}
		}},
		{"embedGrad", func(c *elemCase[F]) { EmbedGrad(c.rows, c.d, c.rows, c.positions(), c.a, c.out) }},
	}
	for a := range numActivations {
		calls = append(calls, elemCall[F]{a.String(), func(c *elemCase[F]) { Act(a, c.a, c.out) }},
			elemCall[F]{a.String() + "'", func(c *elemCase[F]) { ActGrad(a, c.a, c.c, c.out) }})
	}
	return calls
}

// positions are ids of rows, some twice.
func (c *elemCase[F]) positions() []int32 {
	p := make([]int32, c.rows)
	for i := range p {
		p[i] = int32(i * i % max(c.rows, 1))
	}
	return p
}

// outputs names everything a call may have written.
func (c *elemCase[F]) outputs() [][]F {
	return [][]F{c.out, c.out2, c.out3, c.dw, c.db, c.per, c.scalar}
}

// newCase makes inputs of a shape in memory from alloc, which must be cleared.
func newCase(rows, d int, alloc func(n int) []float32) *elemCase[float32] {
	c := &elemCase[float32]{rows: rows, d: d}
	n := rows * d
	fill := func(seed uint64, n int, scale float64) []float32 {
		x := alloc(n)
		copy(x, randoms(seed*1000+uint64(n), n, scale))
		return x
	}
	c.a, c.b, c.c, c.e = fill(1, n, 1.5), fill(2, n, 1), fill(3, n, 1), fill(4, n, 1)
	for i, x := range c.b {
		c.b[i] = max(x, -x)
	}
	c.w, c.v, c.r = fill(5, d, 1), fill(6, d, 1), fill(7, rows, 1)
	c.ids = make([]int32, rows)
	for i := range c.ids {
		c.ids[i] = int32(i*7%(d+1)) - 1
	}
	for _, o := range []*[]float32{&c.out, &c.out2, &c.out3} {
		*o = alloc(n)
	}
	c.dw, c.db, c.per, c.scalar = alloc(d), alloc(d), alloc(rows), alloc(1)
	return c
}

// double is the case with the same inputs in float64.
func (c *elemCase[F]) double() *elemCase[float64] {
	up := func(x []F) []float64 {
		y := make([]float64, len(x))
		for i, v := range x {
			y[i] = float64(v)
		}
		return y
	}
	return &elemCase[float64]{rows: c.rows, d: c.d, a: up(c.a), b: up(c.b), c: up(c.c), e: up(c.e), w: up(c.w), v: up(c.v), r: up(c.r),
		ids: c.ids, out: up(c.out), out2: up(c.out2), out3: up(c.out3), dw: up(c.dw), db: up(c.db), per: up(c.per), scalar: up(c.scalar)}
}

func fresh(n int) []float32 { return make([]float32, n) }

// worst is the greatest error of got and the greatest value of want.
func worst(got []float32, want []float64) (e, size float64) {
	for i, v := range want {
		e, size = max(e, math.Abs(float64(got[i])-v)), max(size, math.Abs(v))
	}
	return e, size
}

// Every kernel on every set, in ragged shapes, has at most twice the error of the plain loop (and some last places where the loop was
// lucky), and stays inside its slices.
func TestElemRagged(t *testing.T) {
	set := Set()
	defer func() { require.NoError(t, Use(set)) }()
	shapes := [][2]int{{0, 5}, {3, 37}, {5, 64}, {2, 257}, {67, 1009}, {521, 48}, {2, elemChunk + 5}}
	for n := range 67 {
		shapes = append(shapes, [2]int{2, n + 1})
	}
	for _, s := range shapes {
		for _, op := range elemOps() {
			require.NoError(t, Use("generic"))
			plain := newCase(s[0], s[1], fresh)
			op.f32(plain)
			truth := newCase(s[0], s[1], fresh).double()
			op.f64(truth)
			for _, set := range Sets() {
				require.NoError(t, Use(set))
				var fences []fenced
				c := newCase(s[0], s[1], func(n int) []float32 {
					f := newFenced(n)
					clear(f.body())
					fences = append(fences, f)
					return f.body()
				})
				op.f32(c)
				for _, f := range fences {
					require.True(t, f.intact(), "%s on %s, %d rows of %d: wrote outside", op.name, set, s[0], s[1])
				}
				for i, want := range truth.outputs() {
					e, size := worst(c.outputs()[i], want)
					p, _ := worst(plain.outputs()[i], want)
					for _, v := range op.scale(c) {
						size = max(size, math.Abs(float64(v)))
					}
					require.LessOrEqual(t, e, 2*p+4*0x1p-24*size, "%s on %s, %d rows of %d, output %d", op.name, set, s[0], s[1], i)
				}
			}
		}
	}
}

// scale is what the results are the difference of, if they are smaller than that.
func (o elemOp) scale(c *elemCase[float32]) []float32 {
	if strings.HasPrefix(o.name, "crossEntropyGrad") {
		return c.r
	}
	return nil
}

// An output may be the input that the function's comment names; the bits are the same.
func TestElemInPlace(t *testing.T) {
	forSets(t, func(t *testing.T) {
		const rows, d = 3, 331
		type call func(c *elemCase[float32], out []float32)
		for name, f := range map[string]struct {
			run  call
			into []func(c *elemCase[float32]) []float32
		}{
			"gelu":      {func(c *elemCase[float32], o []float32) { Act(GELU, c.a, o) }, inA},
			"gelu'":     {func(c *elemCase[float32], o []float32) { ActGrad(GELU, c.a, c.c, o) }, inAC},
			"add":       {func(c *elemCase[float32], o []float32) { Add(c.a, c.c, o) }, inAC},
			"mul":       {func(c *elemCase[float32], o []float32) { Mul(c.a, c.c, o) }, inAC},
			"scale":     {func(c *elemCase[float32], o []float32) { Scale(2, c.a, o) }, inA},
			"addRow":    {func(c *elemCase[float32], o []float32) { AddRow(rows, d, c.a, c.w, o) }, inA},
			"layerNorm": {func(c *elemCase[float32], o []float32) { LayerNorm(rows, d, c.a, c.w, c.v, o, 1e-5) }, inA},
			"layerNorm'": {func(c *elemCase[float32], o []float32) {
				LayerNormGrad(rows, d, c.a, c.w, c.c, nil, o, c.dw, c.db, 1e-5)
			}, inAC},
			"layerNorm'+": {func(c *elemCase[float32], o []float32) {
				LayerNormGrad(rows, d, c.b, c.w, c.b, c.a, o, c.dw, c.db, 1e-5)
			}, inA},
			"rmsNorm'+":     {func(c *elemCase[float32], o []float32) { RMSNormGrad(rows, d, c.b, c.w, c.c, c.a, o, c.dw, 1e-5) }, inAC},
			"rmsNorm":       {func(c *elemCase[float32], o []float32) { RMSNorm(rows, d, c.a, c.w, o, 1e-5) }, inA},
			"rmsNorm'":      {func(c *elemCase[float32], o []float32) { RMSNormGrad(rows, d, c.a, c.w, c.c, nil, o, c.dw, 1e-5) }, inAC},
			"softmax":       {func(c *elemCase[float32], o []float32) { Softmax(rows, d, c.a, o) }, inA},
			"softmax'":      {func(c *elemCase[float32], o []float32) { SoftmaxGrad(rows, d, c.a, c.c, o) }, inAC},
			"logSoftmax":    {func(c *elemCase[float32], o []float32) { LogSoftmax(rows, d, c.a, o) }, inA},
			"logSoftmax'":   {func(c *elemCase[float32], o []float32) { LogSoftmaxGrad(rows, d, c.a, c.c, o) }, inAC},
			"crossEntropy'": {func(c *elemCase[float32], o []float32) { CrossEntropyGrad(rows, d, c.a, c.ids, 0.1, c.r, o) }, inA},
			"dropout":       {func(c *elemCase[float32], o []float32) { Dropout(0.5, 1, 2, 3, c.a, o) }, inA},
		} {
			c := newCase(rows, d, fresh)
			f.run(c, c.out)
			for _, in := range f.into {
				alias := newCase(rows, d, fresh)
				f.run(alias, in(alias))
				require.Equal(t, c.out, in(alias), name)
				require.Equal(t, c.dw, alias.dw, name)
			}
		}
	})
}

var (
	inA  = []func(c *elemCase[float32]) []float32{func(c *elemCase[float32]) []float32 { return c.a }}
	inAC = append(inA, func(c *elemCase[float32]) []float32 { return c.c })
)

// Results have the same bits for any number of workers, and a call allocates nothing once its job exists.
func TestElemDeterminism(t *testing.T) {
	limit := workerLimit
	workerLimit = 8
	defer func() { workerLimit = limit; runtime.GOMAXPROCS(runtime.NumCPU()) }()
	forSets(t, func(t *testing.T) {
		for _, op := range elemOps() {
			var first [][]float32
			for _, p := range []int{1, 2, 3, 5} {
				runtime.GOMAXPROCS(p)
				c := newCase(521, 53, fresh)
				op.f32(c)
				if first == nil {
					first = c.outputs()
				}
				require.Equal(t, first, c.outputs(), "%s on %d workers", op.name, p)
			}
		}
	})
}

func TestElemAllocations(t *testing.T) {
	forSets(t, func(t *testing.T) {
		c := newCase(401, 53, fresh)
		d := c.double()
		for _, op := range elemOps() {
			if strings.HasPrefix(op.name, "embed") {
				continue // the test makes the ids
			}
			op.f32(c)
			op.f64(d)
			require.Less(t, testing.AllocsPerRun(5, func() { op.f32(c) }), 1.0, op.name)
			require.Less(t, testing.AllocsPerRun(5, func() { op.f64(d) }), 1.0, op.name)
		}
	})
}

// What a gradient of a norm adds gives the bits of Add.
func TestNormGradAdds(t *testing.T) {
	forSets(t, func(t *testing.T) {
		const rows, d = 521, 37
		c := newCase(rows, d, fresh)
		want, got, dw, db := make([]float32, rows*d), make([]float32, rows*d), make([]float32, d), make([]float32, d)
		LayerNormGrad(rows, d, c.a, c.w, c.c, nil, want, dw, db, 1e-5)
		Add(want, c.b, want)
		LayerNormGrad(rows, d, c.a, c.w, c.c, c.b, got, c.dw, c.db, 1e-5)
		require.Equal(t, want, got)
		require.Equal(t, dw, c.dw)
		require.Equal(t, db, c.db)
		RMSNormGrad(rows, d, c.a, c.w, c.c, nil, want, dw, 1e-5)
		Add(want, c.b, want)
		RMSNormGrad(rows, d, c.a, c.w, c.c, c.b, got, c.dw, 1e-5)
		require.Equal(t, want, got)
		require.Equal(t, dw, c.dw)
	})
}
