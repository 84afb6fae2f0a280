package engine

import (
	"cmp"
	"slices"
	"unsafe"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// root returns the buffer that b is a part of, and where.
func root(bufs []buffer, b int) (int, int) {
	at := 0
	for bufs[b].into >= 0 {
		at += bufs[b].at
		b = bufs[b].into
	}
	return b, at
}

// offsets places the buffers in one arena and returns its size in bytes. Buffers that are alive at the same step do not overlap.
// Three orders are tried: by size, by lifetime times size, by birth; each buffer takes the tightest gap.
func offsets(bufs []buffer) int {
	for i := range bufs { // a whole lives as soon as its first part
		if r, _ := root(bufs, i); r != i {
			bufs[r].def = min(bufs[r].def, bufs[i].def)
		}
	}
	var own []int
	for i, b := range bufs {
		if b.bound == nil && b.into < 0 {
			own = append(own, i)
		}
	}
	span := func(b buffer) float64 {
		if b.last == forever {
			return float64(len(bufs)) * float64(b.bytes)
		}
		return float64(b.last-b.def+1) * float64(b.bytes)
	}
	orders := []func(a, b buffer) int{
		func(a, b buffer) int { return b.bytes - a.bytes },
		func(a, b buffer) int { return cmp.Compare(span(b), span(a)) },
		func(a, b buffer) int { return a.def - b.def },
	}
	best, kept := -1, make([]int, len(bufs))
	for _, order := range orders {
		slices.SortStableFunc(own, func(a, b int) int {
			if c := order(bufs[a], bufs[b]); c != 0 {
				return c
			}
			return a - b
		})
		if n := fit(bufs, own); best < 0 || n < best {
			best = n
			for i := range bufs {
				kept[i] = bufs[i].offset
			}
		}
	}
	for i := range bufs {
		bufs[i].offset = kept[i]
	}
	return max(best, 0)
}

func fit(bufs []buffer, order []int) int {
	type block struct{ from, to, buf int }
	var placed []block // by rising from
	top := 0
	for _, i := range order {
		b := &bufs[i]
		need := roundUp(b.bytes)
		at, gap, end := -1, forever, 0
		for _, p := range placed {
			if q := &bufs[p.buf]; q.last < b.def || b.last < q.def {
				continue
			}
			if free := p.from - end; free >= need && free < gap {
				at, gap = end, free
			}
			end = max(end, p.to)
		}
		if at < 0 {
			at = end
		}
		b.offset = at
		top = max(top, at+need)
		k, _ := slices.BinarySearchFunc(placed, at, func(p block, at int) int { return p.from - at })
		placed = slices.Insert(placed, k, block{at, at + need, i})
	}
	return top
}

func roundUp(n int) int { return (n + align - 1) / align * align }

// newArena allocates aligned memory.
func newArena(bytes int) []byte {
	m := make([]byte, bytes+align)
	skip := int(-uintptr(unsafe.Pointer(&m[0])) & (align - 1))
	kernels.AdviseHugePages(m)
	return m[skip : skip+bytes : skip+bytes]
}

// valueAt makes a value of memory.
func valueAt(t Type, p unsafe.Pointer) Value {
	n := t.Size()
	if len(t.Shape) == 0 {
		switch t.Dtype {
		case tensor.Float32:
			return (*gorgonia.F32)(p)
		case tensor.Float64:
			return (*gorgonia.F64)(p)
		}
	}
	var data any
	switch t.Dtype {
	case tensor.Float32:
		data = unsafe.Slice((*float32)(p), n)
	case tensor.Float64:
		data = unsafe.Slice((*float64)(p), n)
	default:
		data = unsafe.Slice((*int32)(p), n)
	}
	return tensor.New(tensor.WithShape(t.Shape...), tensor.WithBacking(data))
}
