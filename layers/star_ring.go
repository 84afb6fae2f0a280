package layers

import "github.com/euryale-ml/euryale/internal/kernels"

// length is how many satellites example b has.
func (j *ringJob[F]) length(b int) int {
	if j.lens == nil {
		return j.t
	}
	return int(j.lens[b])
}

// context lists the rows of k and v in the slots of satellite i of n, -1 for a slot that does not exist.
func (j *ringJob[F]) context(i, n int) [contextSlots]int {
	left, right := i-1, i+1
	if !j.open {
		left, right = (i+n-1)%n, (i+1)%n
		if n == 1 {
			left = -1
		}
		if n <= 2 {
			right = -1
		}
	} else if right == n {
		right = -1
	}
	return [contextSlots]int{left, i, right, j.t + i, 2 * j.t}
}

// span is the satellites of a task: from lo, up to mid those that exist, up to hi padding. at is the place of satellite 0 of the
// example among all, row the first row of its k and v.
func (j *ringJob[F]) span(task int) (lo, mid, hi, n, at, row int) {
	b := task / j.chunks
	n = j.length(b)
	lo = task % j.chunks * ringChunk
	hi = min(lo+ringChunk, j.t)
	return lo, min(max(n, lo), hi), hi, n, b * j.t, b * (2*j.t + 1)
}

// attend is the forward pass of a task.
func (j *ringJob[F]) attend(_, task int) {
	lo, mid, hi, n, at, row := j.span(task)
	u, d, w := j.u, j.d, j.heads*contextSlots
	p := j.p[(at+lo)*w : (at+hi)*w]
	clear(p)
	clear(j.o[(at+lo)*u : (at+hi)*u])
	if lo == mid {
		return
	}
	p = p[:(mid-lo)*w]
	for i := lo; i < mid; i++ {
		q, x := j.q[(at+i)*u:][:u], p[(i-lo)*w:][:w]
		for c, r := range j.context(i, n) {
			if r < 0 {
				continue
			}
			k := j.k[(row+r)*u:][:u]
			for h := range j.heads {
				x[h*contextSlots+c] = j.factor * dot(q[h*d:][:d], k[h*d:][:d])
			}
		}
		there := j.context(i, n)
		for h := range j.heads { // scores become differences to the largest
			x := x[h*contextSlots:][:contextSlots]
			largest := x[slotSelf]
			for c, r := range there {
				if r >= 0 {
					largest = max(largest, x[c])
				}
			}
			for c := range x {
				x[c] -= largest
			}
		}
	}
	kernels.Exp(p, p)
	for i := lo; i < mid; i++ {
		x, o := p[(i-lo)*w:][:w], j.o[(at+i)*u:][:u]
		there := j.context(i, n)
		for h := range j.heads {
			x := x[h*contextSlots:][:contextSlots]
			sum := F(0)
			for c, r := range there {
				if r < 0 {
					x[c] = 0
				}
				sum += x[c]
			}
			for c := range x {
				x[c] /= sum
			}
		}
		for c, r := range there {
			if r < 0 {
				continue
			}
			v := j.v[(row+r)*u:][:u]
			for h := range j.heads {
				axpy(x[h*contextSlots+c], v[h*d:][:d], o[h*d:][:d])
			}
		}
	}
}

// attendGrad computes, for the satellites of a task, the gradients of scores and queries:
// ds_c = p_c (do·v_c - Σ p do·v), dq = s Σ ds_c k_c.
func (j *ringJob[F]) attendGrad(_, task int) {
	lo, mid, hi, n, at, row := j.span(task)
	u, d, w := j.u, j.d, j.heads*contextSlots
	clear(j.ds[(at+lo)*w : (at+hi)*w])
	clear(j.dq[(at+lo)*u : (at+hi)*u])
	for i := lo; i < mid; i++ {
		p, ds := j.p[(at+i)*w:][:w], j.ds[(at+i)*w:][:w]
		do, dq := j.do[(at+i)*u:][:u], j.dq[(at+i)*u:][:u]
		there := j.context(i, n)
		for c, r := range there {
			if r < 0 {
				continue
			}
			v := j.v[(row+r)*u:][:u]
			for h := range j.heads {
				ds[h*contextSlots+c] = dot(do[h*d:][:d], v[h*d:][:d])
			}
		}
		for h := range j.heads {
			p, ds := p[h*contextSlots:][:contextSlots], ds[h*contextSlots:][:contextSlots]
			mean := F(0)
			for c := range p {
				mean += p[c] * ds[c]
			}
			for c := range p {
				ds[c] = j.factor * p[c] * (ds[c] - mean)
			}
		}
		for c, r := range there {
			if r < 0 {
				continue
			}
			k := j.k[(row+r)*u:][:u]
			for h := range j.heads {
				axpy(ds[h*contextSlots+c], k[h*d:][:d], dq[h*d:][:d])
			}
		}
	}
}

// gather computes the gradients of keys and values: of the satellites of a chunk and their embeddings, or, for the later tasks, of
// one head of the relay.
func (j *ringJob[F]) gather(_, task int) {
	chunks := j.b * j.chunks
	if task >= chunks {
		j.gatherRelay((task-chunks)/j.heads, (task-chunks)%j.heads)
		return
	}
	lo, mid, hi, n, at, row := j.span(task)
	u := j.u
	for _, first := range [2]int{row, row + j.t} {
		clear(j.dk[(first+lo)*u : (first+hi)*u])
		clear(j.dv[(first+lo)*u : (first+hi)*u])
	}
	for i := lo; i < mid; i++ {
		j.take(row+i, at+i, slotSelf)
		j.take(row+j.t+i, at+i, slotOwn)
		// Its neighbours read it, each as the neighbour on the other side.
		for _, reader := range [2]struct{ by, slot int }{{1, slotLeft}, {-1, slotRight}} {
			x := i + reader.by
			if !j.open {
				x = (x + n) % n
			}
			if x >= 0 && x < n && j.context(x, n)[reader.slot] == i {
				j.take(row+i, at+x, reader.slot)
			}
		}
	}
}

// take adds to row r of dk and dv what satellite i gives to one of its slots.
func (j *ringJob[F]) take(r, i, slot int) {
	u, d, w := j.u, j.d, j.heads*contextSlots
	q, do, dk, dv := j.q[i*u:][:u], j.do[i*u:][:u], j.dk[r*u:][:u], j.dv[r*u:][:u]
	p, ds := j.p[i*w:][:w], j.ds[i*w:][:w]
	for h := range j.heads {
		axpy(ds[h*contextSlots+slot], q[h*d:][:d], dk[h*d:][:d])
		axpy(p[h*contextSlots+slot], do[h*d:][:d], dv[h*d:][:d])
	}
}

// gatherRelay sums over all satellites, in their order.
func (j *ringJob[F]) gatherRelay(b, h int) {
	u, d, w := j.u, j.d, j.heads*contextSlots
	r := b*(2*j.t+1) + 2*j.t
	dk, dv := j.dk[r*u+h*d:][:d], j.dv[r*u+h*d:][:d]
	clear(dk)
	clear(dv)
	for i := b * j.t; i < b*j.t+j.length(b); i++ {
		at := i*w + h*contextSlots + slotRelay
		axpy(j.ds[at], j.q[i*u+h*d:][:d], dk)
		axpy(j.p[at], j.do[i*u+h*d:][:d], dv)
	}
}

// dot is the product of two vectors of a head, which are too short for a call of a kernel. Four sums, in a fixed order.
func dot[F kernels.Float](x, y []F) F {
	y = y[:len(x)]
	var a, b, c, e F
	i := 0
	for ; i+4 <= len(x); i += 4 {
		a += x[i] * y[i]
		b += x[i+1] * y[i+1]
		c += x[i+2] * y[i+2]
		e += x[i+3] * y[i+3]
	}
	for ; i < len(x); i++ {
		a += x[i] * y[i]
	}
	return (a + b) + (c + e)
}

// axpy adds f x to y.
func axpy[F kernels.Float](f F, x, y []F) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += f * v
	}
}
