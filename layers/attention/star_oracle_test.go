package attention

import (
	"fmt"
	"math"
)

// starOracle is algorithm 1 in plain loops over vectors.
type starOracle struct {
	starScene
	weight func(name string) []float64
}

type vec = []float64

func (o starOracle) linear(at string, x vec) vec {
	w, bias := o.weight(at+".weight"), o.weight(at+".bias")
	y := make(vec, len(bias))
	for i := range y {
		y[i] = bias[i]
		for j, v := range x {
			y[i] += w[i*len(x)+j] * v
		}
	}
	return y
}

func (o starOracle) norm(at string, x vec) vec {
	w, bias := o.weight(at+".norm.weight"), o.weight(at+".norm.bias")
	mean, variance := 0.0, 0.0
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x))
	}
	y := make(vec, len(x))
	for i, v := range x {
		y[i] = (v-mean)/math.Sqrt(variance+o.config().Eps)*w[i] + bias[i]
	}
	return y
}

// mha is attention of a vector on others, with the output projection.
func (o starOracle) mha(at string, x vec, context []vec) vec {
	q, y := o.linear(at+".query", x), make(vec, o.h*o.d)
	for h := range o.h {
		sum, top, scores := 0.0, math.Inf(-1), make(vec, len(context))
		for k, c := range context {
			key := o.linear(at+".key", c)
			for j := h * o.d; j < (h+1)*o.d; j++ {
				scores[k] += q[j] * key[j] / math.Sqrt(float64(o.d))
			}
			top = max(top, scores[k])
		}
		for k := range scores {
			scores[k] = math.Exp(scores[k] - top)
			sum += scores[k]
		}
		for k, c := range context {
			value := o.linear(at+".value", c)
			for j := h * o.d; j < (h+1)*o.d; j++ {
				y[j] += scores[k] / sum * value[j]
			}
		}
	}
	return o.linear(at+".out", y)
}

// block is what stands around attention: x is what asks, read makes a vector of the context as it is read.
func (o starOracle) block(at string, x vec, context []vec) vec {
	leak := func(x vec, slope float64) vec {
		y := make(vec, len(x))
		for i, v := range x {
			y[i] = max(v, slope*v)
		}
		return y
	}
	switch o.mode {
	case StarPaper:
		return o.norm(at, leak(o.mha(at, x, context), 0))
	case StarFastNLP:
		return leak(o.mha(at, x, context), 0.01)
	}
	normed := make([]vec, len(context))
	for i, c := range context {
		normed[i] = o.norm(at, c)
	}
	y := o.mha(at, o.norm(at, x), normed)
	for i := range y {
		y[i] += x[i]
	}
	z := o.linear(at+".mlp.down", leak(o.linear(at+".mlp.up", o.norm(at+".mlp", y)), 0))
	for i := range y {
		y[i] += z[i]
	}
	return y
}

// run is h and s of one example with n satellites.
func (o starOracle) run(e []vec, s vec) ([]vec, vec) {
	h, n := e, len(e)
	for step := range o.steps {
		read := h // what satellites are read as
		if o.mode == StarFastNLP {
			read = nil
			for _, v := range h {
				read = append(read, o.norm(fmt.Sprint(step, ".ring"), v))
			}
		}
		var next []vec
		for i := range n {
			var context []vec
			switch { // neighbours
			case o.open:
				for _, j := range []int{i - 1, i + 1} {
					if j >= 0 && j < n {
						context = append(context, read[j])
					}
				}
			case n == 2:
				context = append(context, read[1-i])
			case n > 2:
				context = append(context, read[(i+n-1)%n], read[(i+1)%n])
			}
			context = append(context, read[i], e[i], s)
			next = append(next, o.block(fmt.Sprint(step, ".ring"), read[i], context))
		}
		h = next
		s = o.block(fmt.Sprint(step, ".relay"), s, append([]vec{s}, h...))
	}
	return h, s
}

func (s starScene) oracle() starOracle {
	return starOracle{s, func(name string) []float64 {
		size := map[string]int{"query": s.h * s.d, "key": s.h * s.d, "value": s.h * s.d, "out": s.c, "norm": s.c, "up": 7, "down": s.c}
		for part, n := range size {
			for kind, columns := range map[string]int{".bias": 1, ".weight": s.c} {
				if len(name) > len(part+kind) && name[len(name)-len(part+kind):] == part+kind {
					switch {
					case part == "norm":
						columns = 1
					case part == "out" && kind == ".weight":
						columns = s.h * s.d
					case part == "down" && kind == ".weight":
						columns = 7
					}
					x := make([]float64, n*columns)
					for i := range x {
						x[i] = 2 * noise(name, i)
					}
					return x
				}
			}
		}
		panic(name)
	}}
}
