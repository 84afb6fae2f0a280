package kernels

import "unsafe"

// gemmChunkPlan cuts k of a weight gradient.
type gemmChunkPlan struct {
	depth, count int // of a chunk
	rows, cols   int // of a task
	gm, gn       int
	ld           int // of a partial C
}

const (
	chunkDepth = 1024    // least depth of a chunk of k
	maxChunks  = 8       // as many tasks as a small machine has use for, as few partial sums
	chunkArea  = 1 << 19 // largest C: the partial ones are summed
	chunkRows  = 528     // of a task: 44 panels
	chunkCols  = 1024
	sumCols    = 4096 // elements of C summed by one task
)

// inChunks tells whether a weight gradient [m,n] over k rows is computed in chunks.
func inChunks(m, n, k int) bool { return k >= 2*chunkDepth && m*n <= chunkArea }

// chunks is for weight gradients, op(A) = A transposed: C is small and k long. k is cut into chunks by shape, each computed by
// one worker with buffers of its own (nothing packed by one core is read by another), then added up in the order of the chunks.
func (j *gemmJob[F]) chunks() {
	p := &j.chunk
	p.depth = roundUp(ceilDiv(j.k, min(maxChunks, j.k/chunkDepth)), 16)
	p.count = ceilDiv(j.k, p.depth)
	p.rows, p.cols = min(j.m, chunkRows), min(j.n, chunkCols)
	p.gm, p.gn = ceilDiv(j.m, p.rows), ceilDiv(j.n, p.cols)
	p.ld = roundUp(j.n, 16)
	j.partial = growTo(j.partial, (p.count-1)*j.m*p.ld)
	width := j.m + j.n
	if j.sumA != nil || j.sumB != nil {
		j.sums = growTo(j.sums, p.count*width)
		clear(j.sums[:p.count*width])
	}
	Phases(2, j.chunkTasks, j.chunkTask)
	for g := range p.count {
		if j.sumA != nil {
			elem[F]().add(j.sumA, j.sums[g*width:][:j.m], j.sumA)
		}
		if j.sumB != nil {
			elem[F]().add(j.sumB, j.sums[g*width+j.m:][:j.n], j.sumB)
		}
	}
}

// sumRows is the number of rows of C that one task sums.
func (p *gemmChunkPlan) sumRows() int { return max(1, sumCols/p.ld) }

func (j *gemmJob[F]) countChunks(phase int) int {
	if phase == 0 {
		return j.chunk.count * j.chunk.gm * j.chunk.gn
	}
	return ceilDiv(j.m, j.chunk.sumRows())
}

func (j *gemmJob[F]) chunkOrSum(worker, phase, task int) {
	if phase == 0 {
		j.chunkProduct(worker, task)
	} else {
		j.chunkSum(task)
	}
}

// chunkProduct computes a block of the partial C of one chunk. The first chunk's is C itself.
func (j *gemmJob[F]) chunkProduct(worker, task int) {
	p, s := &j.chunk, &j.work[worker]
	g := task / (p.gm * p.gn)
	i0, j0 := task/p.gn%p.gm*p.rows, task%p.gn*p.cols
	rows, cols := min(p.rows, j.m-i0), min(p.cols, j.n-j0)
	dst, ld, add := j.c[i0*j.ldc+j0:], j.ldc, j.accumulate
	if g > 0 {
		dst, ld, add = j.partial[((g-1)*j.m+i0)*p.ld+j0:], p.ld, false
	}
	k1 := min(j.k, (g+1)*p.depth)
	depth := k1 - g*p.depth
	kb := roundUp(ceilDiv(depth, ceilDiv(depth, j.kg.kcLong)), 16)
	s.a = growTo(s.a, ceilDiv(rows, panelA)*panelStride(kb))
	s.b = growTo(s.b, roundUp(cols, 16)*kb)
	for pc := g * p.depth; pc < k1; pc += kb {
		kc := min(kb, k1-pc)
		for k0 := 0; k0 < kc; k0 += 4 * packDepth { // short calls: assembly cannot be preempted
			n := min(4*packDepth, kc-k0)
			j.kg.cutA(kc, k0, n, rows, j.a[(pc+k0)*j.lda+i0:], j.lda, s.a)
			if !j.transB {
				j.kg.cutB(kc, k0, n, cols, j.b[(pc+k0)*j.ldb+j0:], j.ldb, s.b)
			}
			if sums := g * (j.m + j.n); j.sumA != nil && j0 == 0 {
				j.columns(worker, n, rows, j.a[(pc+k0)*j.lda+i0:], j.lda, j.sums[sums+i0:])
			}
			if sums := g*(j.m+j.n) + j.m; j.sumB != nil && i0 == 0 {
				j.columns(worker, n, cols, j.b[(pc+k0)*j.ldb+j0:], j.ldb, j.sums[sums+j0:])
			}
		}
		if j.transB {
			j.kg.transposeB(kc, cols, 0, cols, j.b[j0*j.ldb+pc:], j.ldb, s.b)
		}
		x := operand[F]{data: s.a, rs: 1, cs: panelA, step: panelA, next: panelStride(kc)}
		next := lookahead[F]{}
		if n := min(kb, k1-pc-kc); n > 0 {
			next.fetch(j.a[(pc+kc)*j.lda+i0:], j.lda, n, rows)
			if !j.transB {
				next.fetch(j.b[(pc+kc)*j.ldb+j0:], j.ldb, n, cols)
			}
		}
		j.strips(worker, rows, kc, x, s.b, cols, 0, cols, dst, ld, add, &next)
		add = true
	}
}

// chunkSum adds the partial sums to some rows of C.
func (j *gemmJob[F]) chunkSum(task int) {
	p, e := &j.chunk, elem[F]()
	n := p.sumRows()
	i0, i1 := task*n, min(j.m, (task+1)*n)
	for i := i0; i < i1; i++ {
		row := j.c[i*j.ldc:][:j.n]
		for g := range p.count - 1 {
			e.add(row, j.partial[(g*j.m+i)*p.ld:][:j.n], row)
		}
	}
	j.finish(i0, i1, 0, j.n)
}

// lookahead is the operands of the next block, which is fetched while this one is computed: packing it would wait for memory.
type lookahead[F Float] struct {
	block [2]struct {
		x              []F
		ld, rows, cols int
	}
	n, at, row int // blocks; the block and the row that the next call fetches
}

func (l *lookahead[F]) fetch(x []F, ld, rows, cols int) {
	b := &l.block[l.n]
	b.x, b.ld, b.rows, b.cols = x, ld, rows, cols
	l.n++
}

// next returns what a call of stripAhead with room for so many lines fetches; nil when there is nothing left.
func (l *lookahead[F]) next(room int) (p *F, lines, jump int) {
	if l.at == l.n {
		return nil, 0, 0
	}
	b, size := &l.block[l.at], int(unsafe.Sizeof(F(0)))
	p, lines = &b.x[l.row*b.ld], ceilDiv(b.cols*size, 64)
	jump = b.ld*size - lines*64
	if l.row += max(1, room/lines); l.row >= b.rows {
		l.at, l.row = l.at+1, 0
	}
	return p, lines, jump
}
