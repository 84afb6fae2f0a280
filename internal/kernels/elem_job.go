package kernels

import (
	"sync/atomic"
)

const (
	// elemChunk elements are one task of a call over a slice: 64 KB of float32, a few microseconds.
	elemChunk = 1 << 14
	// partialRows rows are one task of a reduction over rows; its partial sum is added in the order of the chunks.
	partialRows = 256
)

type opcode uint8

// The kinds of calls a job can hold.
const (
	opMap opcode = iota
	opMap2
	opAlpha
	opAddRow
	opColSum
	opSum
	opFinite
	opLayerNorm
	opLayerNormGrad
	opRMSNorm
	opRMSNormGrad
	opSoftmax
	opLogSoftmax
	opRowGrad
	opCrossEntropy
	opCrossEntropyGrad
	opEmbed
	opEmbedGrad
	opAdamW
	opDropout
	opRope
)

// job is one call, cut into chunks of n units (elements, rows or columns). Jobs are kept for reuse and step is bound once, so that
// a call allocates nothing.
type job[F Float] struct {
	op       opcode
	n, chunk int
	k        *elemTable[F]
	step     func(worker, i int)

	f1 func(x, y []F)
	f2 func(x, y, z []F)
	fa func(a F, x, y []F)
	fs func(x []F) float64

	d, ld, heads  int
	a, sign       F
	x, y, z, u, v []F
	ids           []int32
	flag          bool
	key           uint64
	drop          uint32
	adam          [numAdamW]F

	ones, zeros []F       // stand for absent weights
	part        []F       // partial rows of a reduction
	part64      []float64 // partial sums of a reduction
	bad         atomic.Int32
}

// Jobs that nobody uses.
var (
	jobs32 FreeList[job[float32]]
	jobs64 FreeList[job[float64]]
)

func jobs[F Float]() *FreeList[job[F]] { return FreeListOf[job[F]](&jobs32, &jobs64) }

func freshJob[F Float]() *job[F] {
	j := &job[F]{}
	j.step = func(_, i int) { j.run(i, i*j.chunk, min(i*j.chunk+j.chunk, j.n)) }
	return j
}

// newJob returns a job with op and k set and all else as the last user left it.
func newJob[F Float](op opcode, k *elemTable[F]) *job[F] {
	j := jobs[F]().Take(freshJob[F])
	j.op, j.k = op, k
	return j
}

// do runs the job over n units in chunks, and returns the number of chunks.
func (j *job[F]) do(n, chunk int) int {
	j.n, j.chunk = n, chunk
	c := (n + chunk - 1) / chunk
	if c == 1 {
		j.step(0, 0)
	} else if c > 1 {
		Par(c, j.step)
	}
	return c
}

// free gives the job back, without the caller's memory.
func (j *job[F]) free() {
	j.x, j.y, j.z, j.u, j.v, j.ids = nil, nil, nil, nil, nil, nil
	jobs[F]().Give(j)
}

// rowChunk is the number of rows of d elements in one task.
func rowChunk(d int) int { return max(1, elemChunk/max(d, 1)) }

// run does chunk i: the units lo to hi.
func (j *job[F]) run(i, lo, hi int) {
	k, d := j.k, j.d
	switch j.op {
	case opMap:
		j.f1(j.x[lo:hi], j.y[lo:hi])
	case opMap2:
		j.f2(j.x[lo:hi], j.y[lo:hi], j.z[lo:hi])
	case opAlpha:
		j.fa(j.a, j.x[lo:hi], j.y[lo:hi])
	case opAddRow:
		k.addRow(hi-lo, d, j.x[lo*d:hi*d], j.z, j.y[lo*d:hi*d])
	case opSum:
		j.part64[i] = j.fs(j.x[lo:hi])
	case opFinite:
		if !k.finite(j.x[lo:hi]) {
			j.bad.Store(1)
		}
	case opLayerNorm:
		k.layerNorm(hi-lo, d, j.x[lo*d:hi*d], j.u, j.v, j.y[lo*d:hi*d], j.a)
	case opRMSNorm:
		k.rmsNorm(hi-lo, d, j.x[lo*d:hi*d], j.u, j.y[lo*d:hi*d], j.a)
	case opColSum, opLayerNormGrad, opRMSNormGrad:
		// An assembly function cannot be interrupted, so a chunk of wide rows is cut; the sums go on in the same order.
		for n := 4 * rowChunk(d); lo < hi; lo += n {
			j.rowSums(i, lo, min(lo+n, hi))
		}
	case opEmbedGrad:
		embedGradCols(k, d, lo, hi, j.ids, j.x, j.y)
	case opAdamW:
		k.adamW(j.x[lo:hi], j.y[lo:hi], j.z[lo:hi], j.u[lo:hi], &j.adam)
	case opDropout:
		k.dropout(j.x[lo:hi], j.y[lo:hi], j.key, uint64(lo/2), j.drop, j.a)
	case opRope:
		j.ropeRows(lo, hi)
	default:
		for r := lo; r < hi; r++ {
			j.row(r)
		}
	}
}

// rowSums adds rows lo to hi to partial i.
func (j *job[F]) rowSums(i, lo, hi int) {
	k, d := j.k, j.d
	switch j.op {
	case opColSum:
		k.colSum(hi-lo, d, j.x[lo*j.ld:], j.ld, j.part[i*d:i*d+d])
	case opLayerNormGrad:
		p := j.part[2*i*d : 2*i*d+2*d]
		k.layerNormGrad(hi-lo, d, j.x[lo*d:hi*d], j.u, j.z[lo*d:hi*d], j.v[lo*j.ld:], j.ld, j.y[lo*d:hi*d], p[:d], p[d:], j.a)
	case opRMSNormGrad:
		k.rmsNormGrad(hi-lo, d, j.x[lo*d:hi*d], j.u, j.z[lo*d:hi*d], j.v[lo*j.ld:], j.ld, j.y[lo*d:hi*d], j.part[i*d:i*d+d], j.a)
	}
}

// row does row r of the operations that go row by row.
func (j *job[F]) row(r int) {
	k, d := j.k, j.d
	at := func(x []F) []F { return x[r*d : r*d+d] }
	switch j.op {
	case opSoftmax:
		softmaxRow(k, at(j.x), at(j.y))
	case opLogSoftmax:
		logSoftmaxRow(k, at(j.x), at(j.y))
	case opRowGrad:
		j.f2(at(j.x), at(j.y), at(j.z))
	case opCrossEntropy:
		j.y[r] = crossEntropyRow(k, at(j.x), j.ids[r], j.a)
	case opCrossEntropyGrad:
		crossEntropyGradRow(k, at(j.x), at(j.y), j.ids[r], j.a, j.u[r])
	case opEmbed:
		copy(at(j.y), j.x[int(j.ids[r])*d:])
	}
}
