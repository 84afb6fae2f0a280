package engine

import "unsafe"

// poison fills the result of a step with NaN before it is computed, unless it is written over an input or gathers parts that
// were computed in place.
func (p *Program) poison(s *step) {
	own, _ := root(p.bufs, s.buf)
	for _, c := range s.kids {
		if c < 0 {
			continue
		}
		if r, _ := root(p.bufs, p.steps[c].buf); r == own {
			return
		}
	}
	spoil(unsafe.Slice((*byte)(p.pointer(s.buf, s.off)), s.typ.Size()*int(s.typ.Dtype.Size())))
}

// bury fills the buffers that are used for the last time in step i with NaN.
func (p *Program) bury(i int) {
	for _, b := range p.dying[i] {
		spoil(p.arena[p.bufs[b].offset:][:p.bufs[b].bytes])
	}
}

// spoil writes NaN in single and double precision, -1 in integers.
func spoil(m []byte) {
	for i := range m {
		m[i] = 0xff
	}
}
