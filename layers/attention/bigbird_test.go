package attention

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// bigBirdBlocks is the definition, by block of queries, with draws that are given.
func bigBirdBlocks(form string, i, nb int, drawn []int) []int {
	set := map[int]bool{}
	for j := range nb {
		switch {
		case form == "itc" && (i == 0 || i == nb-1 || j == 0 || j == nb-1),
			form == "past" && j == 0,
			j >= i-1 && j <= i+1,
			slices.Contains(drawn, j):
			set[j] = true
		}
	}
	var all []int
	for j := range nb {
		if set[j] && (form != "past" || j <= i) {
			all = append(all, j)
		}
	}
	return all
}

func bigBirdOf(form string, size, r, seed, stream int) Pattern {
	p := NewBigBird(size, r, seed, stream)
	switch form {
	case "etc":
		p.Free = true
	case "past":
		return Causal(p)
	}
	return p
}

func atomOf(p Pattern) BigBird {
	if c, ok := p.(causal); ok {
		p = c.of
	}
	return p.(BigBird)
}

// The set is that of the definition at every length; rows, columns and counts agree with it, and what is drawn is new.
func TestBigBirdIsItsDefinition(t *testing.T) {
	for _, form := range []string{"itc", "etc", "past"} {
		for _, size := range []int{1, 3, 4} {
			for _, r := range []int{0, 1, 2, 5} {
				for n := range 47 {
					p := bigBirdOf(form, size, r, 7, 3)
					b := atomOf(p)
					nb := (n + size - 1) / size
					total := int64(0)
					for i := range n {
						k := i / size
						var drawn []int
						if n > 0 {
							for _, j := range b.plan(n).row(k) {
								drawn = append(drawn, int(j))
							}
						}
						bare := bigBirdBlocks(form, k, nb, nil)
						for _, j := range drawn {
							require.NotContains(t, bare, j, "%s, block %d of %d draws what it reads anyway", p, k, nb)
						}
						free := nb - len(bare)
						if form == "past" {
							free = k + 1 - len(bare)
						}
						require.Len(t, drawn, min(r, free), "%s, block %d of %d", p, k, nb)
						var want []int
						for _, j := range bigBirdBlocks(form, k, nb, drawn) {
							for x := j * size; x < min(n, (j+1)*size); x++ {
								if form != "past" || x <= i {
									want = append(want, x)
								}
							}
						}
						require.Equal(t, want, Keys(p, 0, i, n), "%s, query %d of %d", p, i, n)
						for j := range n {
							require.Equal(t, slices.Contains(want, j), p.Sees(0, i, j, n), "%s: %d reads %d of %d", p, i, j, n)
							require.Equal(t, slices.Contains(want, j), slices.Contains(positions(p.Col(0, j, n, nil)), i), "%s: %d is read by %d of %d", p, j, i, n)
						}
						total += int64(len(want))
					}
					require.Equal(t, total, p.NNZ(0, n), "%s of %d", p, n)
					if form == "itc" && nb <= 4+r {
						require.Equal(t, int64(n)*int64(n), total, "%s of %d is not full", p, n)
					}
				}
			}
		}
	}
}

// The closed form and the count of the specification.
func TestBigBirdCount(t *testing.T) {
	require.Equal(t, int64(2816), NewBigBird(8, 0, 0, 0).NNZ(0, 64))
	for _, r := range []int{0, 1, 3} {
		for nb := 5 + r; nb < 40; nb++ { // enough blocks to draw from
			b := 3
			want := b * b * (2*nb + 2*(4+r) + (nb-4)*(5+r))
			require.Equal(t, int64(want), NewBigBird(b, r, 5, 0).NNZ(0, nb*b))
		}
	}
	s := Measure(NewBigBird(8, 0, 0, 0), 64)
	require.Equal(t, 32, s.MinRow)
	require.Equal(t, 64, s.MaxRow)
	require.Equal(t, 2, *s.MaxPath)
	require.InDelta(t, 0.5100, s.SpectralGap, 1e-4)
}

// Draws depend on seed, stream and block alone: not on other rows, nor on the length but through the blocks there are.
func TestBigBirdDraws(t *testing.T) {
	row := func(p BigBird, i, nb int) []int32 { return p.plan(nb * p.Size).row(i) }
	p := NewBigBird(2, 2, 11, 5)
	require.Equal(t, row(p, 7, 31), row(NewBigBird(2, 2, 11, 5), 7, 31))
	different := func(q BigBird) bool {
		for i := 1; i < 30; i++ {
			if !slices.Equal(row(p, i, 31), row(q, i, 31)) {
				return true
			}
		}
		return false
	}
	require.True(t, different(NewBigBird(2, 2, 12, 5)), "another seed")
	require.True(t, different(NewBigBird(2, 2, 11, 6)), "another stream")

	changed := 0
	for nb := 12; nb < 90; nb++ { // a longer sequence changes a row only by what it has more
		was, is := row(p, 7, nb), row(p, 7, nb+1)
		for _, j := range is {
			if !slices.Contains(was, j) {
				changed++
				require.Equal(t, int32(nb-1), j)
			}
		}
	}
	require.Less(t, changed, 30)
	require.NotZero(t, changed)

	// Over many seeds every candidate is drawn equally often: block 5 of 13 has 8 of them.
	seen := map[int32]int{}
	const seeds = 4000
	for seed := range seeds {
		for _, j := range row(NewBigBird(1, 2, seed, 1), 5, 13) {
			seen[j]++
		}
	}
	require.Len(t, seen, 8)
	for j, k := range seen {
		require.InDelta(t, seeds*2/8, k, 5*31, "block %d", j)
	}
}

// Heads and layers draw for themselves; in a decoder nothing depends on what comes later.
func TestBigBirdEntry(t *testing.T) {
	entry := func(s string) Entry {
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(s), &e))
		return e
	}
	e := entry(`{"type":"big_bird","block_size":4,"num_random_blocks":2,"seed":9}`)
	p, err := e.In(Layer{Index: 1, Heads: 2})
	require.NoError(t, err)
	require.Equal(t, "heads(big-bird(4,2,9,4096); big-bird(4,2,9,4097))", p.String())
	require.True(t, p.FromEnd())
	require.Equal(t, p.String(), parse(t, p.String()).String())

	p, err = e.In(Layer{Index: 0, Heads: 3, Decoder: true})
	require.NoError(t, err)
	require.False(t, p.FromEnd())
	for h := range 3 {
		for i := range 61 {
			require.Equal(t, Keys(p, h, i, 61), Keys(p, h, i, 97), "what query %d reads depends on what comes after it", i)
		}
	}
	p, err = entry(`{"type":"big_bird","block_size":4}`).In(Layer{Heads: 1})
	require.NoError(t, err)
	require.Equal(t, "big-bird(4,3,0)", p.String())

	etc := entry(`{"type":"big_bird","block_size":4,"num_random_blocks":1,"form":"etc","num_globals":3}`)
	p, err = etc.fields.pattern(Layer{Heads: 1})
	require.NoError(t, err)
	require.Equal(t, "external(3) + big-bird-window(4,1,0)", p.String())
	require.Equal(t, 3+29, NodeCount(p, 29))
	for v := range 32 {
		require.True(t, p.Sees(0, 2, v, 32) && p.Sees(0, v, 1, 32))
	}
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, Keys(parse(t, "external(3) + big-bird-window(4,0,0)"), 0, 4, 32)) // no global block
	_, err = etc.In(Layer{Heads: 1, Decoder: true})
	require.ErrorContains(t, err, "cannot be causal")

	for in, want := range map[string][]string{
		`{"type":"big_bird"}`: {`attention[0].block_size: missing`},
		`{"type":"big_bird","block_size":0,"num_random_blocks":-1,"seed":-2}`: {
			`attention[0].block_size is 0: give a whole number from 1 on`, `attention[0].num_random_blocks is -1: negative`, `attention[0].seed is -2`},
		`{"type":"big_bird","block_size":4,"form":"full"}`:                  {`attention[0].form is "full": give itc`},
		`{"type":"big_bird","block_size":4,"form":"etc"}`:                   {`attention[0].num_globals: missing`},
		`{"type":"big_bird","block_size":4,"form":"etc","num_globals":0}`:   {`attention[0].num_globals is 0`},
		`{"type":"big_bird","block_size":4,"form":"etc","num_globals":1e9}`: {`attention[0].num_globals is 1000000000: give 1 to 65536`},
		`{"type":"big_bird","block_size":4,"num_globals":2}`:                {`attention[0].num_globals is 2: is of form etc`},
		`{"type":"big_bird","block_size":4,"num_random_block":2}`:           {`did you mean "attention[0].num_random_blocks"`},
	} {
		var got holder
		err := config.Decode([]byte(`{"attention":[`+in+`]}`), &got)
		require.Error(t, err, in)
		require.Len(t, config.Faults(err), len(want), "%s: %v", in, err)
		for _, w := range want {
			require.ErrorContains(t, err, w, in)
		}
	}
}

// One table is the plan of every length, in every form.
func TestBigBirdPlanIsStored(t *testing.T) {
	const longest = 83
	for _, form := range []string{"itc", "etc", "past"} {
		for _, r := range []int{1, 2, 6} {
			p := atomOf(bigBirdOf(form, 2, r, 3, 8))
			stored, err := p.WithPlan(p.planRows(p.blocks(longest)))
			require.NoError(t, err)
			require.NotEqual(t, p.String(), stored.String())
			entries := 0
			for _, row := range stored.stored.rows {
				entries += len(row)
			}
			require.Less(t, entries, 42*r*5)
			for n := 1; n <= longest; n++ {
				require.Equal(t, p.plan(n), stored.plan(n), "%s of %d", p, n)
			}
		}
	}
	p := NewBigBird(2, 2, 0, 0)
	_, err := p.WithPlan([][]int32{nil, {3, -1}})
	require.ErrorContains(t, err, "lets block 1 draw block -1")
	// Of a plan that is given, what does not exist or is read anyway is passed over.
	q, err := p.WithPlan([][]int32{{5}, {0, 1, 4, 4, 5, 6}, nil, {1, 9}})
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 14, 15}, Keys(q, 0, 2, 16))
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 14, 15}, Keys(q, 0, 4, 16))
}

// bigBirdLayer is a compiled layer of the entry.
type bigBirdLayer struct {
	params  *layers.Params
	program *engine.Program
	o       *Node
}

const bigBirdJSON = `{"type":"big_bird","block_size":4,"num_random_blocks":1,"seed":9}`

func newBigBirdLayer(t *testing.T, params *layers.Params, n int) (bigBirdLayer, error) {
	var e Entry
	require.NoError(t, json.Unmarshal([]byte(bigBirdJSON), &e))
	m, err := e.Mixer(Layer{Index: 1, Heads: 2, Positions: 50})
	require.NoError(t, err)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	in := b.Input("qkv", tensor.Float32, 1, n, 3*2*5)
	fillFrom(layers.InputValue(in), "qkv")
	o := m.Mix(b.Scope("layer.1.attn"), Stream{QKV: Nodes{in}, Heads: 2})
	if b.Err() != nil {
		return bigBirdLayer{}, b.Err()
	}
	program, err := engine.Compile(b.Graph(), Nodes{o}, engine.Options{})
	require.NoError(t, err)
	return bigBirdLayer{params, program, o}, nil
}

func (l bigBirdLayer) run(t *testing.T) []float32 {
	require.NoError(t, l.program.Run())
	return slices.Clone(engine.Floats[float32](l.program.Value(l.o)))
}

// What is stored counts, not the seed; without a stored plan there is that of the seed.
func TestBigBirdReadsTheStoredPlan(t *testing.T) {
	const n, name = 41, "layer.1.attn.random_blocks"
	fresh, err := newBigBirdLayer(t, layers.NewParams(tensor.Float32), n)
	require.NoError(t, err)
	table, ok := fresh.params.Ints(name)
	require.True(t, ok)
	require.Equal(t, []int{2, 13}, table.Shape[:2]) // 50 positions are 13 blocks
	require.Empty(t, fresh.params.All(), "a plan is not trained")
	first := fresh.run(t)

	again, err := newBigBirdLayer(t, fresh.params, n)
	require.NoError(t, err)
	require.Equal(t, first, again.run(t))

	// Block 5 of head 1 reads block 8 alone.
	other := slices.Clone(table.Values)
	width := table.Shape[2]
	row := other[(13+5)*width:][:width]
	for k := range row {
		row[k] = -1
	}
	row[0] = 8
	params := layers.NewParams(tensor.Float32)
	require.NoError(t, params.SetInts(name, table.Shape, other))
	changed, err := newBigBirdLayer(t, params, n)
	require.NoError(t, err)
	second := changed.run(t)
	for i := range n {
		for h := range 2 {
			a, b := first[(i*2+h)*5:][:5], second[(i*2+h)*5:][:5]
			if h == 1 && i/4 == 5 {
				require.NotEqual(t, a, b, "query %d", i)
			} else {
				require.Equal(t, a, b, "query %d of head %d", i, h)
			}
		}
	}

	for _, bad := range []struct {
		shape  []int
		values []int32
		want   string
	}{
		{[]int{3, 1, 1}, []int32{0, 0, 0}, "layer.1.attn.random_blocks has shape [3 1 1], want [heads, blocks, choices] with 2 heads"},
		{[]int{2, 2, 1}, []int32{-1, 1, 0, 7}, fmt.Sprint(name, "[1][1][0] is 7, want a block from 0 to 1")},
	} {
		params := layers.NewParams(tensor.Float32)
		require.NoError(t, params.SetInts(name, bad.shape, bad.values))
		_, err := newBigBirdLayer(t, params, n)
		require.ErrorContains(t, err, bad.want)
	}
	require.Error(t, params.SetInts(name, []int{2, 2}, []int32{1}))
}

// Heads without draws have empty rows; heads of other blocks have rows of their own; two draws in one head are left to the seed.
func TestBigBirdPlanOfSomeHeads(t *testing.T) {
	read := func(s string, at Layer) Mixer {
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(s), &e))
		m, err := e.Mixer(at)
		require.NoError(t, err)
		return m
	}
	const mixed = `{"type":"heads","parts":[{"heads":1,"attention":{"type":"band","window_left":3}},
		{"heads":1,"attention":{"type":"big_bird","block_size":3,"num_random_blocks":1}},{"heads":1,"attention":{"type":"big_bird","block_size":5,"num_random_blocks":2}}]}`
	m := read(mixed, Layer{Heads: 3, Positions: 50}).(Drawn)
	table := m.table()
	require.Equal(t, []int{3, 17}, table.shape[:2])
	blocks, width := table.shape[1], table.shape[2]
	for e, j := range table.values {
		switch h, i := e/width/blocks, e/width%blocks; {
		case h == 0 || h == 2 && i >= 10:
			require.Equal(t, int32(-1), j)
		case h == 2:
			require.Less(t, j, int32(10))
		}
	}
	params := layers.NewParams(tensor.Float32)
	require.NoError(t, params.SetInts("s.random_blocks", table.shape, table.values))
	p, err := Stored(m, params, "s")
	require.NoError(t, err)
	require.Equal(t, m.Pattern().String(), p.String())
	other := slices.Clone(table.values)
	other[(blocks+4)*width] ^= 1 // another block for block 4 of head 1
	require.NoError(t, params.SetInts("s.random_blocks", table.shape, other))
	p, err = Stored(m, params, "s")
	require.NoError(t, err)
	require.NotEqual(t, m.Pattern().String(), p.String())
	require.Equal(t, Keys(m.Pattern(), 2, 20, 50), Keys(p, 2, 20, 50))
	require.NotEqual(t, Keys(m.Pattern(), 1, 13, 50), Keys(p, 1, 13, 50))

	for _, s := range []string{`{"type":"pattern","pattern":"big-bird(3,1,0) + big-bird(5,1,0)"}`, `{"type":"big_bird","block_size":20}`, `{"type":"big_bird","block_size":3,"num_random_blocks":0}`} {
		require.IsType(t, Plain{}, read(s, Layer{Heads: 2, Positions: 50}), s)
	}
	require.IsType(t, Plain{}, read(mixed, Layer{Heads: 3}), "no longest length")
}
