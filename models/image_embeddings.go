package models

import (
	"fmt"
	"math"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// imageOf are images of one size that a stack reads level by level, or, where a mixture tells them, pixel by pixel.
type imageOf struct {
	height, width int // the latter in positions of the stack
	channels      int
	levels        int
	classes       int
	each          int                  // levels of a position: 1, or the channels
	mixture       layers.MixtureConfig // where each is the levels of a pixel
	mixed         bool
	order         []int  // the place of each position in the order of rows
	blocks        [2]int // height and width in positions of the blocks in whose order it is; 0: that of the rows
	classNames    string

	encoder *stack // of the smaller image; nil: none
	read    bool   // this is the encoder's: levels are read where they stand, and none is predicted
}

// tableRows is the number of rows of the token table.
func (s *stack) tableRows() int {
	switch {
	case s.image == nil:
		return s.Vocab
	case s.image.mixed: // a table for each channel, its last row for what stands before the first pixel
		return s.image.channels * (s.image.levels + 1)
	}
	return s.image.channels*s.image.levels + 1 // a table for each channel, then the start; of what is only read, before them a row for none (-1)
}

// smooth gives the tables of levels vectors that change little from a level to the next, mostly along one direction, as a map of their values would:
// a mixture tells levels by their order, which tables of independent rows must first learn. Rows of no level are independent.
func (i *imageOf) smooth(std float64) layers.Init {
	first, each := 0, i.levels+1 // the row of level 0 of the first channel, rows of a channel
	if i.read {
		first, each = 1, i.levels
	}
	weights := [...]float64{0.8, 0.4, 0.32, 0.24, 0.2} // of polynomials of rising degree; their squares add up to about 1
	return func(name string, shape []int, seed uint64) func(int) float64 {
		normal, c := layers.Normal(std)(name, shape, seed), shape[1]
		along := layers.Normal(std)(name+".values", shape, seed)
		return func(at int) float64 {
			row, column := at/c-first, at%c
			if row < 0 || row%each >= i.levels {
				return normal(at)
			}
			x := 2*float64(row%each)/float64(i.levels-1) - 1
			before, now, sum := 1.0, x, 0.0 // Chebyshev's polynomials; each product is rounded, so that all machines agree
			for k, w := range weights {
				sum += float64(float64(w*now) * along((row/each*len(weights)+k)*c+column))
				before, now = now, float64(2*float64(x*now))-before
			}
			return float64(math.Sqrt2 * sum)
		}
	}
}

// offset is what is added to the level that is read as number t, so that it is the row of its channel in the table. Number 0 is the start
// level, which is behind the others; where there is no mixture number t is the level of position t-1.
func (i *imageOf) offset(t int) int {
	switch {
	case i.mixed:
		return t % i.channels * (i.levels + 1)
	case i.read:
		return 1 + i.order[t]%i.channels*i.levels
	case t == 0:
		return i.channels*i.levels - i.levels
	}
	return i.order[t-1] % i.channels * i.levels
}

// readLevels are the vectors [B,T,C] of the levels that each position reads, and T.
func (s *stack) readLevels(b *layers.Builder, in Inputs) (*Node, int) {
	i, ids := s.image, in.IDs
	n := ids.Shape()[1]
	switch {
	case n%i.each != 0:
		return b.Failf("%d levels, a pixel has %d: give whole pixels", n, i.each), 0
	case in.First+n/i.each > s.Positions:
		return b.Fail(&LengthError{Length: in.First*i.each + n, Max: s.Positions * i.each}), 0
	}
	for range i.each {
		if !in.Begun && !i.read {
			ids = layers.ShiftIDs(b, ids, s.Vocab-1)
		}
	}
	offsets := make([]int32, n)
	for t := range offsets {
		offsets[t] = int32(i.offset(in.First*i.each + t))
	}
	name := fmt.Sprint("images.offsets.", in.First, ".", n)
	ids = layers.PlusEach(b, ids, b.Const(name, tensor.New(tensor.WithShape(n), tensor.WithBacking(offsets))))
	x := layers.Lookup(b.Scope(s.names.tokens), s.table(b), ids)
	if i.each == 1 || b.Err() != nil {
		return x, n
	}
	c := s.Hidden
	x = layers.Reshape(b, x, ids.Shape()[0], n/i.each, i.each*c)
	sum := layers.Slice(b, x, 2, 0, c)
	for k := 1; k < i.each; k++ {
		sum = layers.Add(b, sum, layers.Slice(b, x, 2, k*c, (k+1)*c))
	}
	return sum, n / i.each
}

// addPlaces adds the vector of the place that each of t positions is about: of its row, and beside it of its column and channel.
func (s *stack) addPlaces(b *layers.Builder, x *Node, first, t int) *Node {
	if b.Err() != nil {
		return nil
	}
	half := func(name string, size int, of func(place int) int) *Node {
		at := make([]int32, t)
		for k := range at {
			at[k] = int32(of(s.image.order[first+k]))
		}
		hb := b.Scope(s.names.positions + "." + name)
		ids := b.Const(fmt.Sprint("images.", name, ".", first, ".", t), tensor.New(tensor.WithShape(t), tensor.WithBacking(at)))
		return layers.Lookup(hb, hb.Param("weight", s.ofTables(), size, s.Hidden/2), ids)
	}
	w := s.image.width
	rows := half("rows", s.image.height, func(place int) int { return place / w })
	columns := half("columns", w, func(place int) int { return place % w })
	return layers.AddPositions(b.Scope(s.names.positions), x, layers.Concat(b, 1, rows, columns), layers.PositionConfig{})
}

// addClass adds the vector of each example's class, int32 [B], to all its positions; a negative class has none.
func (s *stack) addClass(b *layers.Builder, x, labels *Node) *Node {
	if s.image.classes == 0 || b.Err() != nil {
		return x
	}
	table := b.Scope(s.image.classNames).Param("weight", s.ofTables(), s.image.classes, s.Hidden)
	if labels == nil {
		return x
	}
	return layers.Add(b, x, ofClasses(b, table, labels, x.Shape()[1]))
}

// ofClasses are the vectors [B,T,C] of classes, int32 [B], at T positions each; those of a negative class are 0.
func ofClasses(b *layers.Builder, table, labels *Node, t int) *Node {
	if b.Err() != nil {
		return nil
	}
	batch, classes, c := labels.Shape()[0], table.Shape()[0], table.Shape()[1]
	own := layers.Gather(b, layers.Reshape(b, table, 1, classes, c), layers.Reshape(b, labels, 1, batch))
	same := b.Const(fmt.Sprint("images.class.", t), tensor.New(tensor.WithShape(t), tensor.WithBacking(make([]int32, t))))
	return layers.Gather(b, layers.Reshape(b, own, batch, 1, c), same)
}
