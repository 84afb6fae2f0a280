package kernels

// Epilogue is what Gemm does to C after the product, block by block while it is in cache:
// C = act(C + Bias) + Residual. Empty parts are left out. Start is what C holds before the product: each block is copied right
// before it is added to, with the bits of accumulating onto a C that held Start. Start may be C itself.
type Epilogue[F Float] struct {
	Start      []F // [m, n]
	LdStart    int
	Bias       []F // [n]
	Act        Activation
	Residual   []F // [m, n]
	LdResidual int
}

const (
	inlineFlops = 1 << 20 // a product of fewer operations is done by the caller alone: sharing it out costs as much
	dotVectors  = 10      // for so few rows of C and B transposed, dot products where B is cost less than packing it
	directRows  = 24      // for so few rows of C packing B costs more than it saves
)

// Gemm computes C[m,n] (+)= op(A)[m,k] op(B)[k,n], row major, then the epilogue. op(A) is A [m,k] or, with transA, the
// transpose of A [k,m]; op(B) likewise B [k,n] or the transpose of B [n,k]. lda, ldb, ldc are the row strides as stored.
// C may not overlap A, B or the residual (C += AB + bias is accumulate with a bias). 2mnk operations; one row or column is
// bound by memory. The work is split by shape and every element sums in a fixed order, so the bits do not depend on the
// number of workers. NaN and infinities go through as in the plain sum. Nothing is allocated once buffers have grown.
// It panics if a slice is shorter than its shape says.
func Gemm[F Float](transA, transB bool, m, n, k int, a []F, lda int, b []F, ldb int, c []F, ldc int, accumulate bool, ep *Epilogue[F]) {
	if m <= 0 || n <= 0 {
		return
	}
	j := gemmJobsOf[F]().Take(newGemmJob[F])
	j.transA, j.transB, j.m, j.n, j.k = transA, transB, m, n, max(k, 0)
	j.a, j.lda, j.b, j.ldb, j.c, j.ldc, j.accumulate = a, lda, b, ldb, c, ldc, accumulate
	if ep != nil {
		j.ep = *ep
		j.hasEpilogue = ep.Bias != nil || ep.Act != None || ep.Residual != nil
	}
	j.do()
}

// do computes the product, and gives the job back.
func (j *gemmJob[F]) do() {
	j.kg = gemmOf[F]()
	j.check()
	m, n, k, transA, transB := j.m, j.n, j.k, j.transA, j.transB
	if j.ep.Start != nil {
		j.accumulate = true
		if &j.ep.Start[0] == &j.c[0] && j.ep.LdStart == j.ldc {
			j.ep.Start = nil
		}
	}
	j.alone = 2*m*n*j.k <= inlineFlops
	if !j.alone {
		j.work = growTo(j.work, Workers())
	}
	switch {
	case k <= 0:
		j.startAll()
		j.empty()
	case m == 1 || n == 1 || transB && m <= dotVectors && n*k >= 1<<10:
		j.startAll()
		j.vectors()
	case transB && m <= swapRows && n >= swapCols && m < n: // else the transposed product would be turned back, for ever
		j.startAll()
		j.swapped()
	case transA && inChunks(m, n, k):
		j.startAll()
		j.chunks()
	default:
		j.blocks()
	}
	j.release()
	gemmJobsOf[F]().Give(j)
}

// start copies Start to rows i0..i1, columns j0..j1 of C.
func (j *gemmJob[F]) start(i0, i1, j0, j1 int) {
	for i := i0; i < i1; i++ {
		copy(j.c[i*j.ldc+j0:i*j.ldc+j1], j.ep.Start[i*j.ep.LdStart+j0:])
	}
}

// startAll is start for products whose C is small.
func (j *gemmJob[F]) startAll() {
	if j.ep.Start != nil {
		j.start(0, j.m, 0, j.n)
	}
}

// gemmJob is one product: its operands, how it is cut, and the buffers, which stay for the next one.
type gemmJob[F Float] struct {
	kg             *gemmKernels[F]
	transA, transB bool
	m, n, k        int
	a, b, c        []F
	lda, ldb, ldc  int
	accumulate     bool
	hasEpilogue    bool
	ep             Epilogue[F]
	sumA, sumB     []F  // see WeightGrad
	alone          bool // too small to share out

	cut   gemmBlockPlan
	chunk gemmChunkPlan
	vec   gemmVectorPlan

	packedA, packedB [2][]F
	partial          []F
	sums             []F              // of the columns of A and B in each chunk
	work             []gemmScratch[F] // of each worker

	// The methods as func values, made once.
	blockTasks, chunkTasks func(phase int) int
	blockTask, chunkTask   func(worker, phase, task int)
	vectorTask, turnTask   func(worker, task int)
}

type gemmScratch[F Float] struct {
	a, b, edge, sum []F
	_               [32]byte // no line shared by two workers
}

func newGemmJob[F Float]() *gemmJob[F] {
	j := &gemmJob[F]{work: make([]gemmScratch[F], 1)}
	j.blockTasks, j.blockTask = j.countBlocks, j.block
	j.chunkTasks, j.chunkTask = j.countChunks, j.chunkOrSum
	j.vectorTask, j.turnTask = j.vector, j.turn
	return j
}

var (
	gemmJobs32 FreeList[gemmJob[float32]]
	gemmJobs64 FreeList[gemmJob[float64]]
)

func gemmJobsOf[F Float]() *FreeList[gemmJob[F]] {
	return FreeListOf[gemmJob[F]](&gemmJobs32, &gemmJobs64)
}

// check touches the last element of every operand, because the assembly does not look.
func (j *gemmJob[F]) check() {
	rows, cols := j.m, j.k
	if j.transA {
		rows, cols = cols, rows
	}
	checkMatrix("A", rows, cols, j.lda, len(j.a))
	rows, cols = j.k, j.n
	if j.transB {
		rows, cols = cols, rows
	}
	checkMatrix("B", rows, cols, j.ldb, len(j.b))
	checkMatrix("C", j.m, j.n, j.ldc, len(j.c))
	if j.ep.Start != nil {
		checkMatrix("start", j.m, j.n, j.ep.LdStart, len(j.ep.Start))
	}
	if j.ep.Residual != nil {
		checkMatrix("residual", j.m, j.n, j.ep.LdResidual, len(j.ep.Residual))
	}
	if j.ep.Bias != nil {
		checkMatrix("bias", 1, j.n, j.n, len(j.ep.Bias))
	}
}

// release forgets the caller's memory.
func (j *gemmJob[F]) release() {
	j.a, j.b, j.c, j.ep, j.hasEpilogue = nil, nil, nil, Epilogue[F]{}, false
	j.sumA, j.sumB = nil, nil
}

// empty is the product of k = 0.
func (j *gemmJob[F]) empty() {
	if !j.accumulate {
		for i := range j.m {
			clear(j.c[i*j.ldc:][:j.n])
		}
	}
	j.finish(0, j.m, 0, j.n)
}

// finish applies the epilogue to rows i0..i1, columns j0..j1 of C.
func (j *gemmJob[F]) finish(i0, i1, j0, j1 int) {
	if !j.hasEpilogue {
		return
	}
	e := elem[F]()
	for i := i0; i < i1; i++ {
		row := j.c[i*j.ldc:][j0:j1]
		if j.ep.Bias != nil {
			e.add(row, j.ep.Bias[j0:j1], row)
		}
		if j.ep.Act != None {
			e.act[j.ep.Act](row, row)
		}
		if j.ep.Residual != nil {
			e.add(row, j.ep.Residual[i*j.ep.LdResidual:][j0:j1], row)
		}
	}
}
