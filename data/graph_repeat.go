package data

// Repeat makes each row of another batch, which has the same shape but fewer rows, stand in this one several times in a row: so several
// choices can be tried for an example.
func (b *Batch) Repeat(of *Batch) {
	k := b.B / of.B
	eachAgain(b.IDs, of.IDs, of.B, k)
	eachAgain(b.Targets, of.Targets, of.B, k)
	eachAgain(b.Lens, of.Lens, of.B, k)
	eachAgain(b.Types, of.Types, of.B, k)
	eachAgain(b.Globals, of.Globals, of.B, k)
	eachAgain(b.Vectors, of.Vectors, of.B, k)
	eachAgain(b.Labels, of.Labels, of.B, k)
	eachAgain(b.Values, of.Values, of.B, k)
	eachAgain(b.TargetIDs, of.TargetIDs, of.B, k)
	eachAgain(b.TargetTargets, of.TargetTargets, of.B, k)
	eachAgain(b.TargetLens, of.TargetLens, of.B, k)
	for name, field := range of.More {
		eachAgain(b.More[name], field, of.B, k)
	}
	eachAgain(b.Tenths, of.Tenths, of.B, k)
	b.Bytes = of.Bytes * float64(k)
}

func eachAgain[E any](to, from []E, rows, k int) {
	n := len(from) / rows
	for r := range rows * k {
		copy(to[min(r*n, len(to)):min((r+1)*n, len(to))], from[r/k*n:])
	}
}
