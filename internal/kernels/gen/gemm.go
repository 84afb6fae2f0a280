package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func init() { parts["gemm"] = gemm }

func gemm() {
	if w.wide {
		strip("strip64", stripShape{vectors: 4, rows: []int{6, 4, 2, 1}, prefetch: true})
		strip("stripAhead64", stripShape{vectors: 4, rows: []int{6, 4, 2, 1}, prefetch: true, ahead: true})
		strip("strip32", stripShape{vectors: 2, rows: []int{14, 8, 4, 2, 1}, twice: 16})
		strip("strip16", stripShape{vectors: 1, rows: []int{12, 8, 4, 2, 1}, twice: 16})
	} else {
		strip("strip16", stripShape{vectors: 2, rows: []int{6, 4, 2, 1}, prefetch: true, added: true})
		strip("stripAhead16", stripShape{vectors: 2, rows: []int{6, 4, 2, 1}, prefetch: true, added: true, ahead: true})
	}
	packRows()
	packRows12()
	packT16()
	dotRows()
	axpyRows()
}

// stripShape describes a strip kernel.
type stripShape struct {
	vectors  int   // in a row of C
	rows     []int // row counts of the blocks, falling; the first loops
	twice    int   // this many rows are done as two of the second block (0: never)
	prefetch bool  // fetch C before the k loop
	added    bool  // only if the product is added to it: a C that is only stored to comes in by itself
	ahead    bool  // fetch one line of other memory for every `unroll` of k: it comes in while this is computed
}

const unroll = 4

// strip: C[m x n] (+)= A[m x k](rsa,csa) * B[k x n](ldb), n = vectors * lanes.
func strip(name string, s stripShape) {
	sig := "func(m, k int, a *float32, rsa, csa int, b *float32, ldb int, c *float32, ldc int, accum int"
	if s.ahead {
		sig += ", ahead *float32, lines, jump int"
	}
	text(name, sig+")")
	g := stripRegs{m: GP64(), a: GP64(), rs: GP64(), cs: GP64(), ldb: GP64(), c: GP64(), ldc: GP64(), b: GP64(), k: GP64()}
	Load(Param("m"), g.m)
	Load(Param("a"), g.a)
	Load(Param("rsa"), g.rs)
	Load(Param("csa"), g.cs)
	Load(Param("ldb"), g.ldb)
	Load(Param("c"), g.c)
	Load(Param("ldc"), g.ldc)
	for _, r := range []Register{g.rs, g.cs, g.ldb, g.ldc} {
		SHLQ(U8(2), r)
	}
	if s.ahead {
		g.ahead, g.lines = GP64(), GP64()
		Load(Param("ahead"), g.ahead)
		Load(Param("lines"), g.lines)
	}
	for i := 0; i*3 < s.rows[0]; i++ {
		g.base = append(g.base, GP64())
	}
	for i, rows := range s.rows {
		tag := fmt.Sprint(rows)
		Label("m" + tag)
		CMPQ(g.m, Imm(uint64(rows)))
		JLT(LabelRef("end" + tag))
		if i == 0 && s.twice > 0 {
			CMPQ(g.m, Imm(uint64(s.twice)))
			JEQ(LabelRef("end" + tag))
		}
		stripBlock(g, s, rows, tag)
		if i == 0 || i == 1 && s.twice > 0 {
			JMP(LabelRef("m" + tag))
		}
		Label("end" + tag)
	}
	done()
}

// stripRegs are the integer registers of a strip; strides are in bytes.
type stripRegs struct {
	m, a, rs, cs, ldb, c, ldc, b, k GPVirtual
	base                            []GPVirtual // of every third row of A
	ahead, lines                    GPVirtual
}

// stripBlock does `rows` rows of C and moves a, c and m past them.
func stripBlock(g stripRegs, s stripShape, rows int, tag string) {
	acc := make([][]VecVirtual, rows)
	for i := range acc {
		for range s.vectors {
			v := V()
			zero(v)
			acc[i] = append(acc[i], v)
		}
	}
	MOVQ(g.a, g.base[0])
	nb := (rows + 2) / 3
	for i := 1; i < nb; i++ {
		LEAQ(Mem{Base: g.base[i-1], Index: g.rs, Scale: 2}, g.base[i])
		ADDQ(g.rs, g.base[i])
	}
	if s.prefetch {
		if s.added {
			Load(Param("accum"), g.k)
			TESTQ(g.k, g.k)
			JEQ(LabelRef("fetched" + tag))
		}
		MOVQ(g.c, g.k)
		for i := range rows {
			for d := 0; d < s.vectors*w.bytes; d += 64 {
				PREFETCHT0(Mem{Base: g.k, Disp: d})
			}
			if i < rows-1 {
				ADDQ(g.ldc, g.k)
			}
		}
		if s.added {
			Label("fetched" + tag)
		}
	}
	Load(Param("b"), g.b)
	Load(Param("k"), g.k)
	// Few named temporaries, used in turn, so that the register allocator has little to decide.
	all := 16
	if w.wide {
		all = 32
	}
	tmp := make([]VecVirtual, min(4, all-rows*s.vectors-s.vectors))
	for i := range tmp {
		tmp[i] = V()
	}
	b := make([]VecVirtual, s.vectors)
	for z := range b {
		b[z] = V()
	}
	step := func() {
		for z := range b {
			VMOVUPS(row(g.b, z), b[z])
		}
		ADDQ(g.ldb, g.b)
		for i := range rows {
			at := Mem{Base: g.base[i/3]}
			if i%3 > 0 {
				at.Index, at.Scale = g.rs, uint8(i%3)
			}
			// A load of its own: broadcasting inside the FMA would load twice as often.
			t := tmp[i%len(tmp)]
			VBROADCASTSS(at, t)
			for z := range b {
				VFMADD231PS(b[z], t, acc[i][z])
			}
		}
		for i := range nb {
			ADDQ(g.cs, g.base[i])
		}
	}
	SUBQ(Imm(unroll), g.k)
	JLT(LabelRef("tail" + tag))
	Label("k" + tag)
	if s.ahead {
		PREFETCHT1(Mem{Base: g.ahead})
		ADDQ(Imm(64), g.ahead)
		DECQ(g.lines)
		JNZ(LabelRef("row" + tag))
		jump, err := Param("jump").Resolve()
		if err != nil {
			panic(err)
		}
		ADDQ(jump.Addr, g.ahead)
		Load(Param("lines"), g.lines)
		Label("row" + tag)
	}
	for range unroll {
		step()
	}
	SUBQ(Imm(unroll), g.k)
	JGE(LabelRef("k" + tag))
	Label("tail" + tag)
	ADDQ(Imm(unroll), g.k)
	JEQ(LabelRef("sum" + tag))
	Label("one" + tag)
	step()
	DECQ(g.k)
	JNZ(LabelRef("one" + tag))
	Label("sum" + tag)
	Load(Param("accum"), g.k)
	TESTQ(g.k, g.k)
	JEQ(LabelRef("store" + tag))
	for i := range acc {
		for z, v := range acc[i] {
			VADDPS(row(g.c, z), v, v)
			VMOVUPS(v, row(g.c, z))
		}
		ADDQ(g.ldc, g.c)
	}
	JMP(LabelRef("next" + tag))
	Label("store" + tag)
	for i := range acc {
		for z, v := range acc[i] {
			VMOVUPS(v, row(g.c, z))
		}
		ADDQ(g.ldc, g.c)
	}
	Label("next" + tag)
	for range rows / 3 {
		LEAQ(Mem{Base: g.a, Index: g.rs, Scale: 2}, g.a)
		ADDQ(g.rs, g.a)
	}
	for range rows % 3 {
		ADDQ(g.rs, g.a)
	}
	SUBQ(Imm(uint64(rows)), g.m)
}

// packRows: cut k rows of np*width floats (width a multiple of 16), stride ldx, into panels: panel p, row i goes to
// dst[p*pstride + i*width]. Row by row, so that memory is read in order.
func packRows() {
	text("packRows", "func(k, np, width int, x *float32, ldx int, dst *float32, pstride int)")
	k := Load(Param("k"), GP64())
	wd := Load(Param("width"), GP64())
	x := Load(Param("x"), GP64())
	ld := Load(Param("ldx"), GP64())
	dst := Load(Param("dst"), GP64())
	ps := Load(Param("pstride"), GP64())
	SHLQ(U8(2), ld)
	SHLQ(U8(2), wd)
	SHLQ(U8(2), ps)
	i, p, q, np := GP64(), GP64(), GP64(), GP64()
	Label("row")
	MOVQ(dst, q)
	MOVQ(x, p)
	Load(Param("np"), np)
	Label("panel")
	XORQ(i, i)
	Label("col")
	for z := range 64 / w.bytes {
		a := V()
		VMOVUPS(Mem{Base: p, Index: i, Scale: 1, Disp: z * w.bytes}, a)
		VMOVUPS(a, Mem{Base: q, Index: i, Scale: 1, Disp: z * w.bytes})
	}
	ADDQ(Imm(64), i)
	CMPQ(i, wd)
	JLT(LabelRef("col"))
	ADDQ(wd, p)
	ADDQ(ps, q)
	DECQ(np)
	JNZ(LabelRef("panel"))
	ADDQ(ld, x)
	ADDQ(wd, dst)
	DECQ(k)
	JNZ(LabelRef("row"))
	done()
}

// packT16: dst[i][j] = x[j][i] for 16 rows j of x and k columns i, k a multiple of 8; ymm in both sets.
func packT16() {
	text("packT16", "func(k int, x *float32, ldx int, dst *float32, ldd int)")
	ldd := Load(Param("ldd"), GP64())
	SHLQ(U8(2), ldd)
	k := Load(Param("k"), GP64())
	x := Load(Param("x"), GP64())
	ld := Load(Param("ldx"), GP64())
	dst := Load(Param("dst"), GP64())
	SHLQ(U8(2), ld)
	xh, p, ph, q := GP64(), GP64(), GP64(), GP64()
	MOVQ(ld, xh)
	SHLQ(U8(3), xh)
	ADDQ(x, xh)
	Label("col")
	for half, base := range []Register{x, xh} {
		// Rows i and i+4 share a register from the load on, so that only two stages of shuffles are left.
		low, high := p, ph
		MOVQ(base, low)
		LEAQ(Mem{Base: base, Index: ld, Scale: 4}, high)
		var r [2][4]VecVirtual
		for i := range 4 {
			for c := range r {
				r[c][i] = YMM()
				VBROADCASTF128(Mem{Base: low, Disp: c * 16}, r[c][i])
				VINSERTF128(U8(1), Mem{Base: high, Disp: c * 16}, r[c][i], r[c][i])
			}
			if i < 3 {
				ADDQ(ld, low)
				ADDQ(ld, high)
			}
		}
		MOVQ(dst, q)
		for _, c := range r {
			var t [4]VecVirtual
			for i := range t {
				t[i] = YMM()
			}
			VUNPCKLPS(c[1], c[0], t[0])
			VUNPCKHPS(c[1], c[0], t[1])
			VUNPCKLPS(c[3], c[2], t[2])
			VUNPCKHPS(c[3], c[2], t[3])
			for i := range 4 {
				z, s := YMM(), uint8(0x44)
				if i%2 == 1 {
					s = 0xee
				}
				VSHUFPS(U8(s), t[2+i/2], t[i/2], z)
				VMOVUPS(z, Mem{Base: q, Disp: half * 32})
				ADDQ(ldd, q)
			}
		}
	}
	ADDQ(Imm(32), x)
	ADDQ(Imm(32), xh)
	MOVQ(q, dst)
	SUBQ(Imm(8), k)
	JNZ(LabelRef("col"))
	done()
}

// packRows12: cut k rows of np*12 floats, stride ldx, into panels: panel p, row i goes to dst[p*pstride + i*12].
func packRows12() {
	text("packRows12", "func(k, np int, x *float32, ldx int, dst *float32, pstride int)")
	k := Load(Param("k"), GP64())
	x := Load(Param("x"), GP64())
	ld := Load(Param("ldx"), GP64())
	dst := Load(Param("dst"), GP64())
	ps := Load(Param("pstride"), GP64())
	SHLQ(U8(2), ld)
	SHLQ(U8(2), ps)
	p, q, np := GP64(), GP64(), GP64()
	Label("row")
	MOVQ(dst, q)
	MOVQ(x, p)
	Load(Param("np"), np)
	Label("panel")
	a, b := YMM(), XMM()
	VMOVUPS(Mem{Base: p}, a)
	VMOVUPS(Mem{Base: p, Disp: 32}, b)
	VMOVUPS(a, Mem{Base: q})
	VMOVUPS(b, Mem{Base: q, Disp: 32})
	ADDQ(Imm(48), p)
	ADDQ(ps, q)
	DECQ(np)
	JNZ(LabelRef("panel"))
	ADDQ(ld, x)
	ADDQ(Imm(48), dst)
	DECQ(k)
	JNZ(LabelRef("row"))
	done()
}
