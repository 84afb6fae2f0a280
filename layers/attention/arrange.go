package attention

// arrangement is a way to lay out a head so that what its queries read stands together and fills tiles: row r is query q[r] and
// column c is key k[c]. Nil: in the order of positions. Negative: nothing stands there.
type arrangement struct{ q, k []int32 }

// arrange returns the arrangement of a head in n positions. Every run of the pattern is contiguous in it. ok is false where none
// is known.
func arrange(p Pattern, h, n int) (a arrangement, ok bool) {
	switch p := p.(type) {
	case causal:
		return arrange(p.of, h, n)
	case perHead:
		return arrange(p[h], 0, n)
	case Dilated:
		return byResidue(p.Gap, n), true
	case ImageColumn:
		return byResidue(p.Width, n), true
	case outside:
		return byResidue(p.Gap, n), true
	case Summary:
		return arrangement{k: p.strip(n)}, true
	case Band, Blocks, ImageRow, nothing:
		return arrangement{}, true
	}
	return arrangement{}, false
}

// byResidue is queries and keys by residue of gap, then by size. What reads every gap-th key is a plain band in it.
func byResidue(gap, n int) arrangement {
	if gap == 1 {
		return arrangement{}
	}
	order := residueOrder(gap, n)
	return arrangement{order, order}
}

// residueOrder lists 0 … n-1 by residue of gap, then by size.
func residueOrder(gap, n int) []int32 {
	order := make([]int32, 0, n)
	for c := range min(gap, n) {
		for i := c; i < n; i += gap {
			order = append(order, int32(i))
		}
	}
	return order
}

// strip lists the columns that a Summary reads, and then nothing.
func (s Summary) strip(n int) []int32 {
	strip := make([]int32, 0, n)
	for j := range n {
		if s.reads(j) {
			strip = append(strip, int32(j))
		}
	}
	for len(strip) < n {
		strip = append(strip, -1)
	}
	return strip
}

// gapOf returns the gap of a head that is nothing but a dilated window (cut to causal or not) or a band, whose gap is 1; else 0.
func gapOf(p Pattern, h int) int {
	switch q := p.(type) {
	case causal:
		return gapOf(q.of, h)
	case perHead:
		return gapOf(q[h], 0)
	case Dilated:
		return q.Gap
	case Band:
		return 1
	}
	return 0
}

// permutable reports whether every head is a window and one of them is dilated.
func permutable(p Pattern) bool {
	widest := 0
	for h := range p.Heads() {
		g := gapOf(p, h)
		if g == 0 {
			return false
		}
		widest = max(widest, g)
	}
	return widest > 1
}

// arrangeable reports whether all heads have an arrangement and one of them is not that of positions.
func arrangeable(p Pattern, n int) bool {
	other := false
	for h := range p.Heads() {
		a, ok := arrange(p, h, n)
		if !ok {
			return false
		}
		other = other || a.q != nil || a.k != nil
	}
	return other
}
