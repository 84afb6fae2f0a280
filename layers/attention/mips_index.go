package attention

import (
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/internal/splitmix"
)

// mipsIndex finds candidates for the greatest inner products of one head: a table of keys by what a map, and a clustering or hashes,
// make of them. It is made anew in each run and reuses its memory.
type mipsIndex[F kernels.Float] struct {
	c      MIPS
	n, d   int
	mapped []F // [n][width] keys
	query  []F // mapped

	// inverted lists: the keys of cell c are lists[ptr[c]:ptr[c+1]], rising
	centers    []F
	cells      int
	cell       []int32
	ptr, lists []int32
	scores     []F
	order      []int32
	sums       []F // of move
	counts     []int

	// hashes: of table t and key j code[t·n+j]; planes are what they are made by, [tables·bits][width], offsets of l2
	planes, offsets, dots []F
	code                  []uint32
	byCode                [][]int32 // of each table the keys by code, then by place
}

// width is how many channels the map makes, and zeros up to what the kernels like.
func (x *mipsIndex[F]) width() int { return (x.d + x.c.normMap().Extra() + 7) &^ 7 }

// normal is a number of a stream of normal ones (Box and Muller).
func normal(key, i uint64) float64 {
	u := splitmix.Unit(splitmix.Mix(key + (2*i+1)*splitmix.Increment))
	v := splitmix.Unit(splitmix.Mix(key + (2*i+2)*splitmix.Increment))
	return math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*v)
}

// build makes the index of n keys of d channels, row apart; key is of random draws.
func (x *mipsIndex[F]) build(c MIPS, keys []F, row, n, d int, key uint64) {
	x.c, x.n, x.d = c, n, d
	w := x.width()
	x.mapped, x.query = sized(x.mapped, n*w), sized(x.query, w)
	bound := 0.0
	for j := range n {
		bound = max(bound, length(keys[j*row:][:d]))
	}
	clear(x.mapped)
	clear(x.query)
	for j := range n {
		MapKey(c.normMap(), keys[j*row:][:d], bound, x.mapped[j*w:][:w])
	}
	if c.Index == IVF {
		x.cluster(key)
	} else {
		x.hash(key)
	}
}

// lloydSteps of spherical k-means.
const lloydSteps = 10

// cluster makes the inverted lists: spherical k-means that begins at keys drawn without replacement; an empty cell keeps its center.
func (x *mipsIndex[F]) cluster(key uint64) {
	n, w := x.n, x.width()
	x.cells = x.c.Cells
	if x.cells == 0 {
		x.cells = int(math.Ceil(math.Sqrt(float64(n))))
	}
	x.cells = min(x.cells, n)
	x.order = sized(x.order, max(n, x.cells))
	for j := range n {
		x.order[j] = int32(j)
	}
	x.centers, x.cell = sized(x.centers, x.cells*w), sized(x.cell, n)
	for c := range x.cells { // Fisher and Yates
		j := c + int(splitmix.Unit(splitmix.Mix(key+uint64(c+1)*splitmix.Increment))*float64(n-c))
		x.order[c], x.order[j] = x.order[j], x.order[c]
		copy(x.centers[c*w:][:w], x.mapped[int(x.order[c])*w:])
	}
	for range lloydSteps {
		x.assign()
		x.move()
	}
	x.assign()
	x.ptr, x.lists = sized(x.ptr, x.cells+1), sized(x.lists, n)
	clear(x.ptr)
	for _, c := range x.cell {
		x.ptr[c+1]++
	}
	for c := range x.cells {
		x.ptr[c+1] += x.ptr[c]
	}
	copy(x.order, x.ptr[:x.cells])
	for j, c := range x.cell {
		x.lists[x.order[c]] = int32(j)
		x.order[c]++
	}
}

// assign finds the cell of every key: that of the greatest product, of equal ones the first.
func (x *mipsIndex[F]) assign() {
	const block = 64
	w := x.width()
	x.scores = sized(x.scores, block*x.cells)
	for from := 0; from < x.n; from += block {
		m := min(block, x.n-from)
		kernels.Products(m, x.cells, w, x.mapped[from*w:], w, x.centers, w, x.scores, x.cells)
		for r := range m {
			s := x.scores[r*x.cells:][:x.cells]
			best := 0
			for c, v := range s {
				if v > s[best] {
					best = c
				}
			}
			x.cell[from+r] = int32(best)
		}
	}
}

// move puts every center in the direction of the sum of its keys.
func (x *mipsIndex[F]) move() {
	w := x.width()
	x.sums, x.counts = sized(x.sums, x.cells*w), sized(x.counts, x.cells)
	sums, counts := x.sums, x.counts
	clear(sums)
	clear(counts)
	for j, c := range x.cell {
		kernels.Axpy(1, x.mapped[j*w:][:w], sums[int(c)*w:][:w])
		counts[c]++
	}
	for c, m := range counts {
		if l := length(sums[c*w:][:w]); m > 0 && l > 0 {
			scaled(sums[c*w:][:w], 1/l, x.centers[c*w:][:w])
		}
	}
}

// hash codes all keys in every table.
func (x *mipsIndex[F]) hash(key uint64) {
	w, hashes := x.width(), x.c.Tables*x.c.Bits
	x.planes, x.offsets, x.dots = sized(x.planes, hashes*w), sized(x.offsets, hashes), sized(x.dots, hashes)
	for i := range x.planes {
		x.planes[i] = F(normal(key, uint64(i)))
	}
	for i := range x.offsets {
		x.offsets[i] = F(splitmix.Unit(splitmix.Mix(^key + uint64(i+1)*splitmix.Increment)))
	}
	x.code = sized(x.code, x.c.Tables*x.n)
	for len(x.byCode) < x.c.Tables {
		x.byCode = append(x.byCode, nil)
	}
	for j := range x.n {
		x.products(x.mapped[j*w:][:w])
		for t := range x.c.Tables {
			x.code[t*x.n+j] = x.codeOf(t)
		}
	}
	for t := range x.c.Tables {
		list := sized(x.byCode[t], x.n)
		for j := range list {
			list[j] = int32(j)
		}
		code := x.code[t*x.n:][:x.n]
		slices.SortFunc(list, func(a, b int32) int {
			if code[a] != code[b] {
				return int(int64(code[a]) - int64(code[b]))
			}
			return int(a - b)
		})
		x.byCode[t] = list
	}
}

// products fills dots with those of a mapped vector.
func (x *mipsIndex[F]) products(z []F) {
	w := x.width()
	kernels.Products(1, len(x.dots), w, z, w, x.planes, w, x.dots, len(x.dots))
}

// l2Width is r of the hash for distances, ⌊(a·z + b)/r⌋ with b in [0, r).
const l2Width = 2.5

// codeOf is the code in table t of the vector whose products are in dots: the signs, or the steps, of its bits.
func (x *mipsIndex[F]) codeOf(t int) (code uint32) {
	for e := t * x.c.Bits; e < (t+1)*x.c.Bits; e++ {
		if x.c.Index == HashL2ALSH {
			step := int64(math.Floor(float64(x.dots[e])/l2Width + float64(x.offsets[e])))
			code = uint32(splitmix.Mix(uint64(code)*splitmix.Increment + uint64(step)))
			continue
		}
		code <<= 1
		if x.dots[e] > 0 {
			code |= 1
		}
	}
	return code
}

// candidates calls take for keys below end that may have a great product with q, for some of them several times: from the most promising cell,
// or table by table.
func (x *mipsIndex[F]) candidates(q []F, end int, take func(key int32)) {
	w := x.width()
	MapQuery(x.c.normMap(), q, x.query)
	if x.c.Index == IVF {
		kernels.Products(1, x.cells, w, x.query, w, x.centers, w, x.scores, x.cells)
		for range min(x.c.Probes, x.cells) {
			best := 0
			for c := range x.cells {
				if x.scores[c] > x.scores[best] {
					best = c
				}
			}
			x.scores[best] = F(math.Inf(-1))
			for _, j := range x.lists[x.ptr[best]:x.ptr[best+1]] {
				if int(j) >= end {
					break
				}
				take(j)
			}
		}
		return
	}
	x.products(x.query)
	for t := range x.c.Tables {
		code, list, own := x.codeOf(t), x.byCode[t], x.code[t*x.n:][:x.n]
		at, _ := slices.BinarySearchFunc(list, code, func(j int32, c uint32) int { return int(int64(own[j]) - int64(c)) })
		for _, j := range list[at:] {
			if own[j] != code || int(j) >= end {
				break
			}
			take(j)
		}
	}
}
