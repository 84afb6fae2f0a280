package kernels

import "math"

// Softmax sets y = softmax of each row of x [rows,d]; y may be x. A row without a finite entry (all -Inf) gives zeros.
func Softmax[F Float](rows, d int, x, y []F) {
	j := newJob(opSoftmax, elem[F]())
	j.d, j.x, j.y = d, x[:rows*d], y[:rows*d]
	j.do(rows, rowChunk(d))
	j.free()
}

// SoftmaxGrad sets dx = y (dy - sum(y dy)) of each row, y being the result of Softmax; dx may be dy.
func SoftmaxGrad[F Float](rows, d int, y, dy, dx []F) {
	k := elem[F]()
	rowGrad(k, k.softmaxGrad, rows, d, y, dy, dx)
}

// LogSoftmax sets y = x - log sum exp(x) of each row of x [rows,d]; y may be x. A row that is all -Inf stays so.
func LogSoftmax[F Float](rows, d int, x, y []F) {
	j := newJob(opLogSoftmax, elem[F]())
	j.d, j.x, j.y = d, x[:rows*d], y[:rows*d]
	j.do(rows, rowChunk(d))
	j.free()
}

// LogSoftmaxGrad sets dx = dy - exp(y) sum(dy) of each row, y being the result of LogSoftmax; dx may be dy.
func LogSoftmaxGrad[F Float](rows, d int, y, dy, dx []F) {
	k := elem[F]()
	rowGrad(k, k.logSoftmaxGrad, rows, d, y, dy, dx)
}

func rowGrad[F Float](k *elemTable[F], f func(x, y, z []F), rows, d int, y, dy, dx []F) {
	j := newJob(opRowGrad, k)
	j.f2, j.d, j.x, j.y, j.z = f, d, y[:rows*d], dy[:rows*d], dx[:rows*d]
	j.do(rows, rowChunk(d))
	j.free()
}

// CrossEntropy sets loss[r] = logsumexp(x) - (1-smooth) x[target] - smooth mean(x) for each row x of logits [rows,v]: the negative
// log-likelihood with label smoothing (Szegedy et al. 2016). A negative target gives 0 (ignored). Targets must be below v.
func CrossEntropy[F Float](rows, v int, logits []F, targets []int32, smooth F, loss []F) {
	j := newJob(opCrossEntropy, elem[F]())
	j.d, j.a, j.x, j.y, j.ids = v, smooth, logits[:rows*v], loss[:rows], targets[:rows]
	j.do(rows, rowChunk(v))
	j.free()
}

// CrossEntropyGrad sets dlogits[r] = scale[r] (softmax(x) - (1-smooth) onehot(target) - smooth/v), zeros where the target is
// negative; scale [rows] is the gradient of each row's loss. dlogits may be logits.
func CrossEntropyGrad[F Float](rows, v int, logits []F, targets []int32, smooth F, scale, dlogits []F) {
	j := newJob(opCrossEntropyGrad, elem[F]())
	j.d, j.a, j.x, j.y, j.ids, j.u = v, smooth, logits[:rows*v], dlogits[:rows*v], targets[:rows], scale[:rows]
	j.do(rows, rowChunk(v))
	j.free()
}

// empty reports whether the maximum m of the row x says that no entry is above -Inf; it looks for a NaN, which m may have missed.
func empty[F Float](x []F, m F) bool {
	if m != -inf[F]() {
		return false
	}
	for _, v := range x {
		if v != v {
			return false
		}
	}
	return true
}

func softmaxRow[F Float](k *elemTable[F], x, y []F) {
	m := k.maxOf(x)
	if empty(x, m) {
		clear(y)
		return
	}
	k.scale(1/k.expSub(x, y, m), y, y)
}

func logSoftmaxRow[F Float](k *elemTable[F], x, y []F) {
	m := k.maxOf(x)
	if empty(x, m) {
		copy(y, x)
		return
	}
	k.subSub(x, y, m, log(k.sumExp(x, m)))
}

func crossEntropyRow[F Float](k *elemTable[F], x []F, target int32, smooth F) F {
	if target < 0 {
		return 0
	}
	m := k.maxOf(x)
	l := log(k.sumExp(x, m)) - (x[target] - m)
	if smooth != 0 { // apart, because 0 * -Inf is NaN
		l += smooth * (x[target] - F(k.sum(x)/float64(len(x))))
	}
	return l
}

func crossEntropyGradRow[F Float](k *elemTable[F], x, y []F, target int32, smooth, scale F) {
	if target < 0 {
		clear(y)
		return
	}
	s := k.expSub(x, y, k.maxOf(x))
	k.scale(scale/s, y, y)
	if smooth != 0 {
		k.subSub(y, y, scale*smooth/F(len(y)), 0)
	}
	y[target] -= scale * (1 - smooth)
}

func log[F Float](x F) F { return F(math.Log(float64(x))) }
