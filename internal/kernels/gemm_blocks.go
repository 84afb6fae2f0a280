package kernels

// gemmBlockPlan cuts a product into blocks of B (depth kb, nc columns) and tasks of C (mc rows, nb columns), by shape only.
type gemmBlockPlan struct {
	kb, nk    int  // depth of a block of k, number of blocks
	nc, nj    int  // columns of a block of B, number of blocks
	mc, gm    int  // rows of a task, number of row tasks
	nb, group int  // columns of a task; column tasks whose part of packed B is used by all row tasks in turn
	packB     bool // B is packed, else read where it is
	panels    bool // A is transposed and is cut into panels [k][12]
	copyA     bool // rows of A are copied to a stride that does not collide in the cache
}

const (
	panelA    = 12   // columns of a panel of A transposed; divides every mc
	packDepth = 32   // rows of B or of A transposed that one task packs
	packCols  = 64   // rows of B transposed that one task packs
	maxCols   = 4096 // columns of B packed at once
	leastTask = 24   // tasks, so that they can be shared out evenly
)

// blocks runs the general product. Phase p packs block p of B (and of A transposed) into one of two buffers and computes block
// p-1 from the other, so a block costs one barrier. Column groups whose packed B fits half a level 2 cache are outermost.
func (j *gemmJob[F]) blocks() {
	j.planBlocks()
	phases := j.cut.nk*j.cut.nj + 1
	if !j.cut.packB && !j.cut.panels {
		phases-- // phase p computes block p
	}
	if !j.alone {
		Phases(phases, j.blockTasks, j.blockTask)
		return
	}
	for p := range phases {
		for t := range j.countBlocks(p) {
			j.block(0, p, t)
		}
	}
}

func (j *gemmJob[F]) planBlocks() {
	kg, p := j.kg, &j.cut
	few := j.m <= directRows || j.alone && j.m <= 4*directRows
	*p = gemmBlockPlan{
		packB:  j.transB || j.n < 16 || !few,
		panels: j.transA && (j.n > kg.nr || j.lda >= 1024), // one strip reads A once anyway, unless each row is on a page of its own
		copyA:  !j.transA && kg.copyA && j.lda%1024 == 0 && j.n >= 1024,
	}
	p.kb = roundUp(ceilDiv(j.k, ceilDiv(j.k, kg.kc)), 16) // equal blocks
	p.nk = ceilDiv(j.k, p.kb)
	p.nc = j.n
	if p.packB {
		p.nc = min(j.n, maxCols)
	}
	p.nj = ceilDiv(j.n, p.nc)
	mc, nb := kg.mc, kg.nb
	for ceilDiv(j.m, mc)*ceilDiv(p.nc, nb) < leastTask && (nb > 64 || mc > 48) {
		if nb > 64 {
			nb /= 2
		} else {
			mc /= 2
		}
	}
	p.mc = roundUp(ceilDiv(j.m, ceilDiv(j.m, mc)), panelA)
	p.gm = ceilDiv(j.m, p.mc)
	for p.copyA && nb < p.nc && p.gm*ceilDiv(p.nc, nb) > leastTask { // rows are copied again for each column task
		nb *= 2
	}
	p.nb = nb
	p.group = max(1, kg.keepB/(p.kb*nb))
	for b := range min(2, p.nk*p.nj) {
		if p.packB {
			j.packedB[b] = growTo(j.packedB[b], roundUp(p.nc, 16)*p.kb)
		}
		if p.panels {
			j.packedA[b] = growTo(j.packedA[b], ceilDiv(j.m, panelA)*panelStride(p.kb))
		}
	}
}

// blockOf returns block b: columns jc..jc+nc, depth pc..pc+kc. Blocks of k are innermost.
func (j *gemmJob[F]) blockOf(b int) (jc, nc, pc, kc int) {
	p := &j.cut
	jc, pc = b/p.nk*p.nc, b%p.nk*p.kb
	return jc, min(p.nc, j.n-jc), pc, min(p.kb, j.k-pc)
}

// packTasks is the number of tasks that pack block b of B and of A.
func (j *gemmJob[F]) packTasks(b int) (nb, na int) {
	p := &j.cut
	if b >= p.nk*p.nj {
		return 0, 0
	}
	_, nc, _, kc := j.blockOf(b)
	switch {
	case p.packB && j.transB:
		nb = ceilDiv(nc, packCols)
	case p.packB:
		nb = ceilDiv(kc, packDepth)
	}
	if p.panels {
		na = ceilDiv(kc, packDepth)
	}
	return nb, na
}

// computed is the block that phase computes, or -1.
func (j *gemmJob[F]) computed(phase int) int {
	if j.cut.packB || j.cut.panels {
		return phase - 1
	}
	return phase
}

func (j *gemmJob[F]) countBlocks(phase int) int {
	nb, na := j.packTasks(phase)
	if b := j.computed(phase); b >= 0 {
		_, nc, _, _ := j.blockOf(b)
		nb += j.cut.gm * ceilDiv(nc, j.cut.nb)
	}
	return nb + na
}

func (j *gemmJob[F]) block(worker, phase, task int) {
	nb, na := j.packTasks(phase)
	switch {
	case task < nb:
		j.packBlockB(phase, task)
	case task < nb+na:
		_, _, pc, kc := j.blockOf(phase)
		k0 := (task - nb) * packDepth
		j.kg.cutA(kc, k0, min(packDepth, kc-k0), j.m, j.a[(pc+k0)*j.lda:], j.lda, j.packedA[phase&1])
	default:
		j.compute(worker, j.computed(phase), task-nb-na)
	}
}

func (j *gemmJob[F]) packBlockB(b, task int) {
	jc, nc, pc, kc := j.blockOf(b)
	dst := j.packedB[b&1]
	if j.transB {
		j0 := task * packCols
		j.kg.transposeB(kc, nc, j0, min(nc, j0+packCols), j.b[jc*j.ldb+pc:], j.ldb, dst)
		return
	}
	k0 := task * packDepth
	j.kg.cutB(kc, k0, min(packDepth, kc-k0), nc, j.b[(pc+k0)*j.ldb+jc:], j.ldb, dst)
}

// compute does task t of block b: at most mc rows and nb columns of C, from depth kc.
func (j *gemmJob[F]) compute(worker, b, t int) {
	p := &j.cut
	jc, nc, pc, kc := j.blockOf(b)
	gn := ceilDiv(nc, p.nb)
	first := t / (p.gm * p.group) * p.group // column task of the group
	t -= first * p.gm
	wide := min(p.group, gn-first)
	i0, j0 := t/wide*p.mc, (first+t%wide)*p.nb
	rows, j1 := min(p.mc, j.m-i0), min(nc, j0+p.nb)
	x := operand[F]{rs: j.lda, cs: 1, step: rows}
	switch {
	case p.panels:
		x = operand[F]{data: j.packedA[b&1][i0/panelA*panelStride(kc):], rs: 1, cs: panelA, step: panelA, next: panelStride(kc)}
	case j.transA:
		x.data, x.rs, x.cs = j.a[pc*j.lda+i0:], 1, j.lda
	case p.copyA:
		x.rs = kc + 16
		s := &j.work[worker]
		s.a = growTo(s.a, p.mc*(p.kb+16))
		for i := range rows {
			copy(s.a[i*x.rs:][:kc], j.a[(i0+i)*j.lda+pc:])
		}
		x.data = s.a
	default:
		x.data = j.a[i0*j.lda+pc:]
	}
	add := j.accumulate || pc > 0
	if j.ep.Start != nil && pc == 0 {
		j.start(i0, i0+rows, jc+j0, jc+j1)
	}
	if p.packB {
		j.strips(worker, rows, kc, x, j.packedB[b&1], nc, j0, j1, j.c[i0*j.ldc+jc:], j.ldc, add, nil)
	} else {
		j.direct(worker, rows, kc, x, j.b[pc*j.ldb:], j0, j1, j.c[i0*j.ldc:], add)
	}
	if pc+kc == j.k {
		j.finish(i0, i0+rows, jc+j0, jc+j1)
	}
}

// operand is a block of A as the strips read it: element (i, p) of the s-th group of step rows is data[s*next + i*rs + p*cs].
type operand[F Float] struct {
	data               []F
	rs, cs, step, next int
}

// strips computes columns j0..j1 of C from packed B of nc columns. ahead may be nil.
func (j *gemmJob[F]) strips(worker, rows, kc int, x operand[F], b []F, nc, j0, j1 int, c []F, ldc int, add bool, ahead *lookahead[F]) {
	acc := flag(add)
	for col := j0; col < j1; {
		width, strip := j.kg.panel(nc - col)
		if nc-col < width {
			j.edge(worker, rows, kc, x, &b[col*kc], width, c[col:], ldc, nc-col, add)
			return
		}
		for i, s := 0, 0; i < rows; i, s = i+x.step, s+x.next {
			if ahead != nil && width == j.kg.nr {
				if p, lines, jump := ahead.next(kc / 2); p != nil {
					j.kg.stripAhead(min(x.step, rows-i), kc, &x.data[s], x.rs, x.cs, &b[col*kc], width, &c[i*ldc+col], ldc, acc, p, lines, jump)
					continue
				}
			}
			strip(min(x.step, rows-i), kc, &x.data[s], x.rs, x.cs, &b[col*kc], width, &c[i*ldc+col], ldc, acc)
		}
		col += width
	}
}

// direct is strips with B where it is, row major; only a last panel of fewer than 16 columns is packed.
func (j *gemmJob[F]) direct(worker, rows, kc int, x operand[F], b []F, j0, j1 int, c []F, add bool) {
	acc := flag(add)
	for col := j0; col < j1; {
		width, strip := j.kg.panel(j.n - col)
		if j.n-col < width {
			s := &j.work[worker]
			s.b = growTo(s.b, 16*kc)
			j.kg.cutB(kc, 0, kc, j.n-col, b[col:], j.ldb, s.b)
			j.edge(worker, rows, kc, x, &s.b[0], width, c[col:], j.ldc, j.n-col, add)
			return
		}
		for i, s := 0, 0; i < rows; i, s = i+x.step, s+x.next {
			strip(min(x.step, rows-i), kc, &x.data[s], x.rs, x.cs, &b[col], j.ldb, &c[i*j.ldc+col], j.ldc, acc)
		}
		col += width
	}
}

// edge computes a last panel of fewer than 16 columns by way of a scratch C.
func (j *gemmJob[F]) edge(worker, rows, kc int, x operand[F], b *F, width int, c []F, ldc, cols int, add bool) {
	s := &j.work[worker]
	s.edge = growTo(s.edge, rows*width)
	for i, g := 0, 0; i < rows; i, g = i+x.step, g+x.next {
		j.kg.strips[width/16](min(x.step, rows-i), kc, &x.data[g], x.rs, x.cs, b, width, &s.edge[i*width], width, 0)
	}
	for i := range rows {
		dst, src := c[i*ldc:][:cols], s.edge[i*width:][:cols]
		if !add {
			copy(dst, src)
			continue
		}
		for q, v := range src {
			dst[q] += v
		}
	}
}
