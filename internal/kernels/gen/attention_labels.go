package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// attnLabels emits attnLabel, s[c][r] += table[lab[c][r]][r], and attnUnlabel, table[lab[c][r]][r] += s[c][r], for rows of 64
// queries. Queries lie along the lanes, so no two lanes meet in the table. Only AVX-512 has the scattered store of the latter.
func attnLabels() {
	attnLabel("attnLabel", false)
	if w.wide {
		attnLabel("attnUnlabel", true)
	}
}

func attnLabel(name string, back bool) {
	text(name, "func(keys int, s *float32, lab *uint16, table *float32)")
	n, s, lab, table := arg("keys"), arg("s"), arg("lab"), arg("table")
	lanesAt := GLOBL(name+"Lanes", RODATA|NOPTR)
	for i := range 64 {
		DATA(i*4, U32(i))
	}
	parts := tileRow / w.bytes
	Label("row")
	for i := range parts {
		at, x := V(), V()
		VPMOVZXWD(Mem{Base: lab, Disp: i * w.bytes / 2}, at)
		VPSLLD(U8(6), at, at)
		VPADDD(lanesAt.Offset(i*w.bytes), at, at)
		zero(x)
		from := Mem{Base: table, Index: at, Scale: 4}
		if w.wide {
			k := K()
			KXNORW(k, k, k)
			VGATHERDPS(from, k, x)
			VADDPS(row(s, i), x, x)
			if back {
				KXNORW(k, k, k)
				VSCATTERDPS(x, k, from)
				continue
			}
		} else {
			all := V()
			VPCMPEQD(all, all, all)
			VGATHERDPS(all, from, x)
			VADDPS(row(s, i), x, x)
		}
		VMOVUPS(x, row(s, i))
	}
	ADDQ(U32(tileRow), s)
	ADDQ(U32(128), lab)
	DECQ(n)
	JNZ(LabelRef("row"))
	done()
}
