package attention

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// sortedCase is a call of AttendSorted with the orders and buckets that it reads.
type sortedCase struct {
	choiceCase
	Sorted
	groups, rounds  int
	orderQ, orderK  []int32 // [B,G,R,S]
	slotsQ, slotsK  int
	bucket          []int32 // [B,G,R,T]
	missing, padded bool

	found map[*int32]chunked // by the first slot of an order
}

// chunked is an order taken apart: the chunks of each token, and how many there are.
type chunked struct {
	of    map[int][]int
	count int
}

// shuffle is a permutation of n by name.
func shuffle(name string, n int) []int32 {
	p := make([]int32, n)
	for i := range p {
		j := int((noise(name, i) + 1) / 2 * float64(i+1))
		p[i] = p[min(j, i)]
		p[min(j, i)] = int32(i)
	}
	return p
}

// sort fills orders, slots of them: the tokens of each example by a random key, first those that are no padding, then nothing.
func (s *sortedCase) sort(name string, tokens, slots int, lens []int32) []int32 {
	var all []int32
	for x := range s.b * s.groups * s.rounds {
		n := tokens
		if b := x / s.rounds / s.groups; lens != nil && !s.padded {
			n = int(lens[b])
		}
		p := shuffle(fmt.Sprint(name, x), n)
		if s.missing { // tokens without a slot, and slots without a token
			for i := range p {
				if p[i]%7 == 3 {
					p[i] = -1
				}
			}
		}
		for len(p) < slots {
			p = append(p, -1)
		}
		all = append(all, p[:slots]...)
	}
	return all
}

// chunksIn is the chunk of each token in a round, as a list, and the number of chunks.
func (s *sortedCase) chunksIn(order []int32, m int) (of map[int][]int, count int) {
	if c, ok := s.found[&order[0]]; ok {
		return c.of, c.count
	}
	of = map[int][]int{}
	defer func() { s.found[&order[0]] = chunked{of, count} }()
	for x, t := range order {
		if t >= 0 {
			of[int(t)] = append(of[int(t)], x/m)
			count = x/m + 1
		}
	}
	return of, count
}

// wanted are the keys of a token, those of all rounds.
func (s *sortedCase) wanted(b, h, i int) []int {
	if n := s.lens; n != nil && !s.cross && i >= int(n[b]) {
		return nil
	}
	bg := b*s.groups + h%s.groups
	ordersK, slotsK, m := s.orderK, s.slotsK, s.ChunkK
	if ordersK == nil {
		ordersK, slotsK = s.orderQ, s.slotsQ
	}
	if m == 0 {
		m = s.ChunkQ
	}
	round := func(orders []int32, slots, r int) []int32 { return orders[(bg*s.rounds+r)*slots:][:slots] }
	total, first := 0, []int{}
	for r := range s.rounds {
		_, n := s.chunksIn(round(ordersK, slotsK, r), m)
		first = append(first, total)
		total += n
	}
	var keys []int
	seen := map[int]bool{}
	for r := range s.rounds {
		chunk, _ := s.chunksIn(round(s.orderQ, s.slotsQ, r), s.ChunkQ)
		if len(chunk[i]) == 0 {
			continue
		}
		c := chunk[i][0]
		var here []int
		for kr := range s.rounds {
			of, n := s.chunksIn(round(ordersK, slotsK, kr), m)
			for j := range s.tk {
				for _, kc := range of[j] {
					near := false
					for d := -s.Before; d <= s.After; d++ {
						switch s.Wrap {
						case WrapAcross:
							near = near || ((first[r]+c+d)%total+total)%total == first[kr]+kc
						case WrapRound:
							near = near || kr == r && ((c+d)%n+n)%n == kc
						default:
							near = near || kr == r && c+d == kc
						}
					}
					if !near || s.Causal && j > i || s.Others && j == i {
						continue
					}
					if s.bucket != nil {
						in := s.bucket[(bg*s.rounds+r)*s.tq:][:s.tq]
						if in[i] != in[j] || in[i] < 0 {
							continue
						}
					}
					here = append(here, j)
				}
			}
		}
		for _, j := range here {
			if !s.Once || !seen[j] {
				keys = append(keys, j)
			}
		}
		for _, j := range here {
			seen[j] = true
		}
	}
	return keys
}

// prepare fills in what the case leaves open.
func (s *sortedCase) prepare() {
	s.groups, s.rounds, s.found = max(s.groups, 1), max(s.rounds, 1), map[*int32]chunked{}
	if s.slotsQ == 0 {
		s.slotsQ = s.tq
	}
	lensQ := s.lens
	if s.cross {
		lensQ = s.lensQ
	}
	s.orderQ = s.sort("order q", s.tq, s.slotsQ, lensQ)
	if s.slotsK > 0 {
		s.orderK = s.sort("order k", s.tk, s.slotsK, s.lens)
	}
	s.reads = func(b, h, row int) (int, []int) { return row, s.wanted(b, h, row) }
	s.add = func(b *layers.Builder, c Chosen, q, k, v *Node) (*Node, *Node) {
		p := s.Sorted
		p.Chosen = c
		p.OrderQ = keysNode(b, "order q", s.orderQ, s.b, s.groups, s.rounds, s.slotsQ)
		if s.orderK != nil {
			p.OrderK = keysNode(b, "order k", s.orderK, s.b, s.groups, s.rounds, s.slotsK)
		}
		if s.bucket != nil {
			p.Buckets = keysNode(b, "buckets", s.bucket, s.b, s.groups, s.rounds, s.tq)
		}
		return AttendSorted(b, p, q, k, v)
	}
}

// drawBuckets gives every token a bucket in every round; some have none.
func (s *sortedCase) drawBuckets(n int) {
	s.bucket = make([]int32, s.b*max(s.groups, 1)*max(s.rounds, 1)*s.tq)
	for x := range s.bucket {
		s.bucket[x] = int32((noise("bucket", x)+1)/2*float64(n+1)) - 1
	}
}

func TestAttendSortedAgainstDefinition(t *testing.T) {
	self := func(b, n, heads, d, dv int) choiceCase {
		return choiceCase{b: b, tq: n, tk: n, heads: heads, d: d, dv: dv}
	}
	with := func(c choiceCase, f func(c *choiceCase)) choiceCase { f(&c); return c }
	lens := func(l ...int32) func(c *choiceCase) { return func(c *choiceCase) { c.lens = l; c.lastResort = true } }
	for name, s := range map[string]sortedCase{
		"one chunk":        {choiceCase: self(1, 13, 2, 3, 5), Sorted: Sorted{ChunkQ: 20}},
		"causal":           {choiceCase: self(2, 131, 2, 8, 8), Sorted: Sorted{ChunkQ: 64, Before: 1, Causal: true}, groups: 2},
		"causal, others":   {choiceCase: self(2, 131, 2, 8, 8), Sorted: Sorted{ChunkQ: 64, Before: 1, Causal: true, Others: true}},
		"others":           {choiceCase: self(2, 71, 2, 3, 5), Sorted: Sorted{ChunkQ: 16, Before: 1, After: 1, Others: true}, groups: 2},
		"small chunks":     {choiceCase: self(1, 101, 2, 3, 5), Sorted: Sorted{ChunkQ: 5, Before: 2, Causal: true, Others: true}},
		"chunks of one":    {choiceCase: self(1, 70, 1, 3, 5), Sorted: Sorted{ChunkQ: 1, Before: 3, After: 1}},
		"large chunks":     {choiceCase: self(1, 307, 1, 8, 8), Sorted: Sorted{ChunkQ: 100, Before: 1, Causal: true}},
		"round":            {choiceCase: self(1, 67, 2, 3, 5), Sorted: Sorted{ChunkQ: 7, Before: 1, After: 1, Wrap: WrapRound, Others: true}},
		"round, all":       {choiceCase: self(1, 29, 2, 3, 5), Sorted: Sorted{ChunkQ: 7, Before: 3, After: 2, Wrap: WrapRound}},
		"rounds":           {choiceCase: self(2, 97, 2, 8, 8), Sorted: Sorted{ChunkQ: 13, Before: 1, Causal: true, Others: true}, rounds: 3, groups: 2},
		"rounds, once":     {choiceCase: self(2, 97, 2, 8, 8), Sorted: Sorted{ChunkQ: 13, Before: 1, Causal: true, Others: true, Once: true}, rounds: 3, groups: 2},
		"once, both sides": {choiceCase: self(1, 139, 2, 3, 5), Sorted: Sorted{ChunkQ: 32, Before: 1, After: 1, Others: true, Once: true}, rounds: 2},
		"once, round":      {choiceCase: self(1, 83, 2, 3, 5), Sorted: Sorted{ChunkQ: 9, Before: 2, After: 1, Wrap: WrapRound, Once: true}, rounds: 4},
		"across":           {choiceCase: self(2, 61, 2, 3, 5), Sorted: Sorted{ChunkQ: 7, Before: 1, Wrap: WrapAcross, Causal: true, Others: true}, rounds: 3, groups: 2},
		"across, after":    {choiceCase: self(1, 61, 1, 3, 5), Sorted: Sorted{ChunkQ: 16, Before: 1, After: 1, Wrap: WrapAcross}, rounds: 2},
		"lengths": {choiceCase: with(self(4, 71, 2, 3, 5), lens(71, 40, 1, 0)), rounds: 2, groups: 2,
			Sorted: Sorted{ChunkQ: 16, Before: 1, Causal: true, Others: true, Once: true}},
		"lengths, round": {choiceCase: with(self(3, 71, 2, 3, 5), lens(71, 40, 0)), rounds: 2,
			Sorted: Sorted{ChunkQ: 16, Before: 1, Others: true, Wrap: WrapRound}},
		"lengths, across": {choiceCase: with(self(3, 71, 2, 3, 5), lens(71, 40, 0)), rounds: 2,
			Sorted: Sorted{ChunkQ: 16, Before: 1, Others: true, Wrap: WrapAcross}},
		"padding sorted with the others": {choiceCase: with(self(2, 71, 2, 3, 5), lens(71, 40)), rounds: 2, padded: true,
			Sorted: Sorted{ChunkQ: 16, Before: 1, Causal: true, Others: true, Once: true}},
		"missing": {choiceCase: with(self(2, 71, 2, 3, 5), func(c *choiceCase) { c.lastResort = true }), rounds: 2, missing: true,
			Sorted: Sorted{ChunkQ: 16, Before: 1, Causal: true, Once: true}},
		"cross": {choiceCase: choiceCase{b: 2, tq: 41, tk: 97, heads: 2, d: 3, dv: 5, cross: true, lens: []int32{97, 31}, lensQ: []int32{17, 41}},
			Sorted: Sorted{ChunkQ: 5, ChunkK: 12, Before: 1, After: 1}, slotsQ: 45, slotsK: 99, groups: 2},
		"apart":       {choiceCase: self(1, 97, 2, 3, 5), Sorted: Sorted{ChunkQ: 10, ChunkK: 10, Causal: true, Once: true}, slotsQ: 97, slotsK: 97, rounds: 3},
		"fewer slots": {choiceCase: self(1, 97, 2, 3, 5), Sorted: Sorted{ChunkQ: 10, ChunkK: 13, Causal: true}, slotsQ: 50, slotsK: 65},
	} {
		t.Run(name, func(t *testing.T) {
			s.prepare()
			s.check(t)
		})
		t.Run(name+", buckets", func(t *testing.T) {
			if s.cross {
				return
			}
			s.drawBuckets(5)
			s.prepare()
			s.check(t)
		})
	}
}

// Results by slot: a token may stand in several chunks.
func TestAttendSortedBySlots(t *testing.T) {
	for name, s := range map[string]sortedCase{
		"shared":         {choiceCase: choiceCase{b: 2, tq: 67, tk: 67, heads: 2, d: 3, dv: 5}, Sorted: Sorted{ChunkQ: 20, Causal: true, Slots: true}, groups: 2},
		"others":         {choiceCase: choiceCase{b: 2, tq: 67, tk: 67, heads: 2, d: 8, dv: 8, lens: []int32{67, 31}, lastResort: true}, Sorted: Sorted{ChunkQ: 64, Causal: true, Others: true, Slots: true}},
		"apart":          {choiceCase: choiceCase{b: 1, tq: 67, tk: 67, heads: 2, d: 3, dv: 5}, Sorted: Sorted{ChunkQ: 20, ChunkK: 30, Causal: true, Slots: true}, slotsK: 4 * 30},
		"neighbours too": {choiceCase: choiceCase{b: 1, tq: 67, tk: 67, heads: 2, d: 3, dv: 5}, Sorted: Sorted{ChunkQ: 33, Before: 1, Slots: true}},
	} {
		t.Run(name, func(t *testing.T) {
			const lists = 4
			s.prepare()
			// members are lists of rising tokens, ending in nothing where they are short.
			members := func(name string, m, tokens int) []int32 {
				var all []int32
				for x := range s.b * s.groups * lists {
					n := m - x%3
					list := slices.Sorted(slices.Values(shuffle(fmt.Sprint(name, x), tokens)[:min(n, tokens)]))
					for len(list) < m {
						list = append(list, -1)
					}
					all = append(all, list...)
				}
				return all
			}
			s.slotsQ = lists * s.ChunkQ
			s.orderQ = members("members q", s.ChunkQ, s.tq)
			if s.orderK != nil {
				s.orderK = members("members k", s.ChunkK, s.tk)
			}
			s.rows = s.slotsQ
			s.reads = func(b, h, row int) (int, []int) {
				bg := b*s.groups + h%s.groups
				orderK, m := s.orderK, s.ChunkK
				if orderK == nil {
					orderK, m = s.orderQ, s.ChunkQ
				}
				slotsK := lists * m
				i := int(s.orderQ[bg*s.slotsQ+row])
				var keys []int
				for x, j := range orderK[bg*slotsK:][:slotsK] {
					if d := x/m - row/s.ChunkQ; j >= 0 && d >= -s.Before && d <= s.After && (!s.Causal || int(j) <= i) && (!s.Others || int(j) != i) {
						keys = append(keys, int(j))
					}
				}
				return i, keys
			}
			s.check(t)
		})
	}
}

// What AttendSorted refuses when it runs.
func TestAttendSortedRefuses(t *testing.T) {
	for want, order := range map[string][]int32{
		"token 1 stands in two slots": {0, 1, 2, 1, 3, 4, 5},
		"holds token 7 of 7":          {0, 1, 2, 3, 4, 5, 7},
	} {
		s := sortedCase{choiceCase: choiceCase{b: 1, tq: 7, tk: 7, heads: 1, d: 3, dv: 3}, Sorted: Sorted{ChunkQ: 3}}
		s.prepare()
		s.orderQ = order
		g := s.build(t, tensor.Float64)
		p, err := engine.Compile(g.g.b.Graph(), Nodes{g.g.o}, engine.Options{})
		require.NoError(t, err)
		require.ErrorContains(t, p.Run(), want)
	}
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
	x, order := b.Input("x", tensor.Float64, 1, 7, 3), b.Input("order", tensor.Int32, 1, 1, 7)
	for want, s := range map[string]Sorted{
		"chunks of 0":                {},
		"-1 chunks before":           {ChunkQ: 1, Before: -1},
		"wrap \"never\"":             {ChunkQ: 1, Wrap: "never"},
		"pairs cannot count once":    {ChunkQ: 1, Wrap: WrapAcross, Once: true},
		"separate orders":            {ChunkQ: 1, Wrap: WrapRound, OrderK: b.Input("order k", tensor.Int32, 1, 1, 7)},
		"cross-attention knows":      {ChunkQ: 1, Chosen: Chosen{Cross: true}, Causal: true},
		"a last resort in cross":     {ChunkQ: 1, Chosen: Chosen{Cross: true, LastResort: true}},
		"buckets are":                {ChunkQ: 1, Buckets: b.Input("buckets", tensor.Int32, 1, 1, 6)},
		"of different heads or roun": {ChunkQ: 1, OrderK: b.Input("order rounds", tensor.Int32, 1, 1, 2, 7)},
	} {
		c := layers.New(b.Graph(), b.Params(), layers.Options{})
		s.Heads, s.OrderQ = 1, order
		AttendSorted(c, s, x, x, x)
		require.ErrorContains(t, c.Err(), want)
	}
}

func init() { // for Gorgonia's own machine
	for name, add := range map[string]func(b *layers.Builder, c Chosen, x *Node) (*Node, *Node){
		"chosen keys": func(b *layers.Builder, c Chosen, x *Node) (*Node, *Node) {
			return AttendChosen(b, c, keysNode(b, "keys", []int32{1, 2, 0, -1, 3, 4, 4, 4, 0, 1}, 1, 1, 5, 2), x, x, x)
		},
		"sorted": func(b *layers.Builder, c Chosen, x *Node) (*Node, *Node) {
			return AttendSorted(b, Sorted{Chosen: c, OrderQ: keysNode(b, "order", []int32{3, 1, 4, 0, 2, 0, 4, 2, 1, 3}, 1, 1, 2, 5), ChunkQ: 2, Before: 1, Once: true}, x, x, x)
		},
		"members of clusters": func(b *layers.Builder, c Chosen, x *Node) (*Node, *Node) { // as over a memory
			keys := MembersOf(b, keysNode(b, "clusters", []int32{1, 0, 0, 0, 1}, 1, 1, 5), keysNode(b, "members", []int32{0, 2, 1, 4}, 1, 1, 4), 2)
			return AttendChosen(b, c, keys, x, x, x)
		},
		"a last resort": func(b *layers.Builder, c Chosen, x *Node) (*Node, *Node) {
			c.LastResort, c.Lens = true, keysNode(b, "lens", []int32{3}, 1)
			o, _ := AttendChosen(b, c, keysNode(b, "keys", []int32{1, 2, -1, -1, 3, 4, -1, -1, 0, 1}, 1, 1, 5, 2), x, x, x)
			return o, nil // the lse of padding is -Inf
		},
	} {
		mixers[name] = func(t require.TestingT) (*Node, Nodes) {
			b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
			x := b.Input("x", tensor.Float64, 1, 5, 6)
			fillFrom(layers.InputValue(x), "x")
			o, lse := add(b, Chosen{Heads: 2}, x)
			cost := layers.Sum(b, layers.Mul(b, o, o))
			if lse != nil {
				cost = layers.Add(b, cost, layers.Sum(b, lse))
			}
			require.NoError(t, b.Err())
			return cost, Nodes{x}
		}
	}
}
