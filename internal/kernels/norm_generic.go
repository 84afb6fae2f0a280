package kernels

// stats returns the mean of a row, the part of it that rounding lost, and 1/sqrt(var + eps).
func stats[F Float](x []F, eps F) (mu, low, rstd F) {
	d := F(len(x))
	for _, v := range x {
		mu += v
	}
	mu /= d
	var s, q F
	for _, v := range x {
		v -= mu
		s += v
		q += v * v
	}
	low = s / d
	return mu, low, 1 / sqrt(max(q/d-low*low, 0)+eps)
}

func goLayerNorm[F Float](rows, d int, x, w, b, y []F, eps F) {
	for r := range rows {
		x, y := x[r*d:r*d+d], y[r*d:r*d+d]
		mu, low, rstd := stats(x, eps)
		for i, v := range x {
			y[i] = (v-mu-low)*rstd*w[i] + b[i]
		}
	}
}

func goLayerNormGrad[F Float](rows, d int, x, w, dy, more []F, ldMore int, dx, dw, db []F, eps F) {
	for r := range rows {
		x, dy, dx, more := x[r*d:r*d+d], dy[r*d:r*d+d], dx[r*d:r*d+d], more[r*ldMore:r*ldMore+d]
		mu, low, rstd := stats(x, eps)
		var s0, s1 F
		for i, v := range x {
			xh, g := (v-mu-low)*rstd, dy[i]
			db[i] += g
			dw[i] += g * xh
			g *= w[i]
			s0 += g
			s1 += g * xh
		}
		s0, s1 = s0/F(d), s1/F(d)
		for i, v := range x {
			xh := (v - mu - low) * rstd
			dx[i] = F((dy[i]*w[i]-s0-xh*s1)*rstd) + more[i]
		}
	}
}

// rms returns 1/sqrt(mean(x²) + eps).
func rms[F Float](x []F, eps F) F {
	var q F
	for _, v := range x {
		q += v * v
	}
	return 1 / sqrt(q/F(len(x))+eps)
}

func goRMSNorm[F Float](rows, d int, x, w, y []F, eps F) {
	for r := range rows {
		x, y := x[r*d:r*d+d], y[r*d:r*d+d]
		rstd := rms(x, eps)
		for i, v := range x {
			y[i] = v * rstd * w[i]
		}
	}
}

func goRMSNormGrad[F Float](rows, d int, x, w, dy, more []F, ldMore int, dx, dw []F, eps F) {
	for r := range rows {
		x, dy, dx, more := x[r*d:r*d+d], dy[r*d:r*d+d], dx[r*d:r*d+d], more[r*ldMore:r*ldMore+d]
		rstd := rms(x, eps)
		var s F
		for i, v := range x {
			xh, g := v*rstd, dy[i]
			dw[i] += g * xh
			s += g * w[i] * xh
		}
		s /= F(d)
		for i, v := range x {
			dx[i] = F((dy[i]*w[i]-v*rstd*s)*rstd) + more[i]
		}
	}
}
