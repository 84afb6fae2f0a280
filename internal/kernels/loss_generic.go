package kernels

func goMax[F Float](x []F) F {
	m := -inf[F]()
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

func goExpSub[F Float](x, y []F, m F) F {
	var s F
	for i, v := range x {
		v = exp(v - m)
		y[i] = v
		s += v
	}
	return s
}

func goSumExp[F Float](x []F, m F) F {
	var s F
	for _, v := range x {
		s += exp(v - m)
	}
	return s
}

func goSubSub[F Float](x, y []F, m, l F) {
	for i, v := range x {
		y[i] = v - m - l
	}
}

func goSoftmaxGrad[F Float](y, dy, dx []F) {
	var s F
	for i, v := range y {
		s += v * dy[i]
	}
	for i, v := range y {
		dx[i] = v * (dy[i] - s)
	}
}

func goLogSoftmaxGrad[F Float](y, dy, dx []F) {
	var s F
	for _, v := range dy {
		s += v
	}
	for i, v := range y {
		dx[i] = dy[i] - exp(v)*s
	}
}
