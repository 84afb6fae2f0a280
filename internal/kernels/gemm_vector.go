package kernels

// gemmVectorPlan is a product with few rows of C or one column: y = W x for `count` vectors x. It is bound by reading W, so W is
// read once, where it is, in order.
type gemmVectorPlan struct {
	count, out int  // vectors, elements of one y
	dots       bool // W is stored [out][k], else [k][out]
	column     bool // C is one column, W is A; else W is B
	ldw        int
	step, n    int // elements of y in a task, number of tasks
}

const (
	taskWeights = 1 << 15 // weights that a task reads at least, if they are stored [out][k]
	hotWeights  = 1 << 12
	callRows    = 64 // rows of W in one call if they are stored [k][out]: assembly cannot be preempted
)

func (j *gemmJob[F]) vectors() {
	p := &j.vec
	if p.column = j.m > 1 && j.n == 1; p.column {
		*p = gemmVectorPlan{count: 1, out: j.m, dots: !j.transA, column: true, ldw: j.lda}
	} else {
		*p = gemmVectorPlan{count: j.m, out: j.n, dots: j.transB, ldw: j.ldb}
	}
	switch {
	case j.alone:
		p.step = p.out
	case p.dots:
		p.step = roundUp(ceilDiv(taskWeights, j.k), 4)
	default:
		p.step = min(1024, max(256, roundUp(ceilDiv(p.out, 8), 64)))
	}
	p.n = ceilDiv(p.out, p.step)
	j.partial = growTo(j.partial, p.count*(p.out+j.k))
	j.gatherVectors()
	if j.alone {
		j.vector(0, 0)
		return
	}
	Par(p.n, j.vectorTask)
}

// gatherVectors copies the vectors behind the results in the scratch, each in one piece.
func (j *gemmJob[F]) gatherVectors() {
	p := &j.vec
	for v := range p.count {
		x := j.partial[p.count*p.out+v*j.k:][:j.k]
		from, stride := j.a[v*j.lda*flag(!j.transA)+v*flag(j.transA):], 1
		switch {
		case p.column:
			from = j.b
			if !j.transB {
				stride = j.ldb
			}
		case j.transA:
			stride = j.lda
		}
		for i := range x {
			x[i] = from[i*stride]
		}
	}
}

// vector does elements [task*step, …) of every y.
func (j *gemmJob[F]) vector(_, task int) {
	p, kg := &j.vec, j.kg
	w := j.b
	if p.column {
		w = j.a
	}
	o0 := task * p.step
	n := min(p.step, p.out-o0)
	xs := j.partial[p.count*p.out:]
	if p.dots {
		rows := n
		if p.count > 1 { // some rows of W stay in the level 1 cache for all vectors
			rows = max(4, hotWeights/j.k&^3)
		}
		for r := 0; r < n; r += rows {
			for v := range p.count {
				kg.dotRows(min(rows, n-r), j.k, &xs[v*j.k], &w[(o0+r)*p.ldw], p.ldw, &j.partial[v*p.out+o0+r])
			}
		}
	}
	for v := range p.count {
		y := j.partial[v*p.out+o0:][:n]
		if !p.dots {
			clear(y)
			for k0 := 0; k0 < j.k; k0 += callRows {
				kg.axpyRows(n, min(callRows, j.k-k0), &xs[v*j.k+k0], &w[k0*p.ldw+o0], p.ldw, &y[0])
			}
		}
		c, stride := j.c[v*j.ldc+o0*flag(!p.column)+o0*j.ldc*flag(p.column):], 1
		if p.column {
			stride = j.ldc
		}
		for i, s := range y {
			if j.accumulate {
				s += c[i*stride]
			}
			c[i*stride] = s
		}
	}
	if p.column {
		j.finish(o0, o0+n, 0, 1)
	} else {
		j.finish(0, p.count, o0, o0+n)
	}
}
