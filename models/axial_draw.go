package models

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// Painter is a model for image_density that generates images in an order of its own, which is not that of the ids.
type Painter interface {
	Model
	// Paint draws images side by side.
	Paint(params *layers.Params, p Painting) ([][]int32, error)
}

// Painting says how images are drawn.
type Painting struct {
	Images int
	// Given are levels that all images begin with, in the order of the ids. A level that is generated before some of them does not know these.
	Given []int32
	// Classes are those of the images, negative: none; nil: none has one.
	Classes []int
	// Next draws a level of an image from the logits [K]. It is called once for each level, given or not, image by image for each place.
	Next func(image int, logits []float32) int32
	// Done, if not nil, is told how many levels of each image there are; its error ends the painting.
	Done func(levels int) error
}

var _ Painter = (*AxialTransformer)(nil)

// Paint draws images with a row's worth of heavy work at a time: when a row is complete it alone goes through the outer decoder, whose columns
// keep the keys and values of the rows above; the inner decoder reads a pixel at a time and keeps those of its row.
//
// Cost of an image of H x W in each slice: the encoder once, the outer decoder once in H steps, O(HW (H+W)) pairs, and the inner one
// once in HW light steps, O(HW W) pairs.
// Errors: weights of another precision or model; images below 1; given levels that do not exist; that of Done.
// Source: Ho et al. 2019, arXiv 1912.12180, section 3.3 (semi-parallel sampling).
// Differs: the official code runs the whole outer decoder again for each row, and the whole row for each pixel.
func (m *AxialTransformer) Paint(params *layers.Params, p Painting) ([][]int32, error) {
	return m.paint(params, p, m.brush)
}

// PaintSlowly is Paint by its definition, a pass of the whole network for each level.
func (m *AxialTransformer) PaintSlowly(params *layers.Params, p Painting) ([][]int32, error) {
	return m.paint(params, p, m.roller)
}

// painter computes logits of n images whose ids [n,T], slices side by side in a pixel, are filled in as they are drawn.
type painter interface {
	// begin starts a slice.
	begin(slice int) error
	// logits are those [n,K] of a pixel of the slice; pixels are asked for in their order.
	logits(pixel int) ([]float32, error)
	close()
}

func (m *AxialTransformer) paint(params *layers.Params, p Painting, with func(params *layers.Params, classes, ids []int32) (painter, error)) ([][]int32, error) {
	if err := checkSingle(params); err != nil {
		return nil, err
	}
	t, k := m.levels(), m.cfg.VocabSize
	if p.Images < 1 || len(p.Given) > t {
		return nil, fmt.Errorf("%d images of %d levels, %d of them given: want at least 1, and no more given than there are", p.Images, t, len(p.Given))
	}
	if err := checkIDs(p.Given, k); err != nil {
		return nil, err
	}
	classes, err := m.classesOf(p)
	if err != nil {
		return nil, err
	}
	ids, images := make([]int32, p.Images*t), make([][]int32, p.Images)
	for i := range images {
		images[i] = make([]int32, t)
	}
	d, err := with(params, classes, ids)
	if err != nil {
		return nil, err
	}
	defer d.close()
	done := 0
	for slice := range m.slices {
		if err := d.begin(slice); err != nil {
			return nil, err
		}
		for pixel := range m.height * m.width {
			logits, err := d.logits(pixel)
			if err != nil {
				return nil, err
			}
			at := pixel*m.slices + slice
			place := at
			if m.order != nil {
				place = int(m.order[at])
			}
			for i := range images {
				level := p.Next(i, logits[i*k:][:k])
				if place < len(p.Given) {
					level = p.Given[place]
				}
				ids[i*t+at], images[i][place] = level, level
			}
			done++
			if p.Done != nil {
				if err := p.Done(done); err != nil {
					return nil, err
				}
			}
		}
	}
	return images, nil
}

// classesOf are the classes of the images, -1 where there is none.
func (m *AxialTransformer) classesOf(p Painting) ([]int32, error) {
	classes := make([]int32, p.Images)
	for i := range classes {
		classes[i] = -1
		if p.Classes != nil {
			classes[i] = int32(p.Classes[i])
		}
		if int(classes[i]) >= m.cfg.NumClasses {
			return nil, fmt.Errorf("class %d, the model has 0 to %d", classes[i], m.cfg.NumClasses-1)
		}
	}
	return classes, nil
}

// roller runs the whole network for each level.
type roller struct {
	program   *engine.Program
	from      []int32 // ids as they are drawn
	ids, each []int32 // inputs of the program
	out       *Node
	last      []float32
}

func (m *AxialTransformer) roller(params *layers.Params, classes, ids []int32) (painter, error) {
	return m.rolled(params, classes, ids, m.slice)
}

// rolled is a roller of a part of the network.
func (m *AxialTransformer) rolled(params *layers.Params, classes, ids []int32, part func(b *layers.Builder, ids, which, class *Node, layersPerBlock int) *Node) (*roller, error) {
	n := len(classes)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	in, which, labels := b.Input("ids", tensor.Int32, n, m.levels()), b.Input("slices", tensor.Int32, n), b.Input("class_labels", tensor.Int32, n)
	out := part(b, in, which, m.classVectors(b, labels, which), 0)
	p, err := compiled(b, out)
	if err != nil {
		return nil, err
	}
	copy(layers.InputValue(labels).Int32s(), classes)
	return &roller{program: p, from: ids, ids: layers.InputValue(in).Int32s(), each: layers.InputValue(which).Int32s(), out: out}, nil
}

func compiled(b *layers.Builder, out *Node) (*engine.Program, error) {
	if err := b.Err(); err != nil {
		return nil, err
	}
	return engine.Compile(b.Graph(), layers.Nodes{out}, engine.Options{Scope: b.ScopeOf})
}

func (r *roller) begin(slice int) error {
	for i := range r.each {
		r.each[i] = int32(slice)
	}
	return nil
}

func (r *roller) logits(pixel int) ([]float32, error) {
	copy(r.ids, r.from)
	if err := r.program.Run(); err != nil {
		return nil, err
	}
	s := r.out.Shape()
	k, all := s[2], engine.Floats[float32](r.program.Value(r.out))
	r.last = r.last[:0]
	for i := range s[0] {
		r.last = append(r.last, all[(i*s[1]+pixel)*k:][:k]...)
	}
	return r.last, nil
}

func (r *roller) close() { _ = r.program.Close() }

// brush is the network row by row and pixel by pixel. Rows of its buffers are [place][image].
type brush struct {
	m       *AxialTransformer
	n       int
	ids     []int32 // as they are drawn, [n,T]
	classes []int32 // [n], negative: none
	slice   int

	encoder *roller // u of a slice, [n,H·W,C]
	u       []float32
	table   []float32    // tokens
	places  [2][]float32 // of rows and columns
	kinds   []float32    // of classes
	outer   *run[float32]
	inner   *run[float32]
	norm    normWeights[float32]
	head    matrix[float32]

	above []float32 // v of the row [W,n,C]: what the outer decoder says of those above
	last  []float32 // logits [n,K]
}

func (m *AxialTransformer) brush(params *layers.Params, classes, ids []int32) (painter, error) {
	u, err := m.rolled(params, classes, ids, m.encode)
	if err != nil {
		return nil, err
	}
	n, c := len(classes), m.cfg.HiddenSize
	d := &brush{m: m, n: n, ids: ids, classes: classes, encoder: u, above: make([]float32, m.width*n*c), last: make([]float32, n*m.cfg.VocabSize)}
	s := &m.inner
	w := reader[float32]{stack: s, params: params}
	d.table = w.get("tokens.weight", m.cfg.VocabSize, c)
	d.places = [2][]float32{w.get(s.names.positions+".0.weight", m.height, c), w.get(s.names.positions+".1.weight", m.width, c)}
	if m.cfg.NumClasses > 0 {
		d.kinds = w.get("classes.weight", m.cfg.NumClasses, c)
	}
	d.norm, d.head = w.norm("ln_f"), w.matrix("head", c, m.cfg.VocabSize, false)
	size := s.headSize()
	d.outer = part[float32](&w, &m.outer, func(l int) (cache[float32], error) {
		if l%2 == 1 {
			return newStrips(m.width*n, s.Heads, size, m.height), nil
		}
		all, err := attention.NewMemory[float32](attention.Full{}, s.Heads, size, size, 0)
		return &wholeRow{Memory: all, images: n, width: m.width, inner: s.inner()}, err
	})
	d.inner = part[float32](&w, s, func(int) (cache[float32], error) { return newStrips(n, s.Heads, size, m.width), nil })
	if w.err != nil {
		d.close()
		return nil, w.err
	}
	return d, nil
}

// part reads the weights of a stack's layers and gives each a cache.
func part[F kernels.Float](w *reader[F], s *stack, cacheOf func(l int) (cache[F], error)) *run[F] {
	r, of := &run[F]{stack: s}, reader[F]{stack: s, params: w.params}
	for l := range s.Layers {
		layer := of.layer(fmt.Sprint(s.names.layer, l, "."), nil)
		var err error
		if layer.cache, err = cacheOf(l); err != nil && of.err == nil {
			of.err = err
		}
		r.layers = append(r.layers, layer)
	}
	if w.err == nil {
		w.err = of.err
	}
	return r
}

// stream makes room for rows of the stream, which are to be filled in.
func (r *run[F]) stream(rows int) []F {
	r.rows = rows
	for _, b := range []*[]F{&r.x, &r.h} {
		*b = room(*b, rows*r.Hidden)
	}
	for _, b := range []*[]F{&r.o, &r.q, &r.k, &r.v} {
		*b = room(*b, rows*r.inner())
	}
	r.u = room(r.u, rows*r.Inner)
	return r.x
}

func (d *brush) begin(slice int) error {
	d.slice = slice
	if err := d.encoder.begin(slice); err != nil {
		return err
	}
	copy(d.encoder.ids, d.ids)
	if err := d.encoder.program.Run(); err != nil {
		return err
	}
	d.u = engine.Floats[float32](d.encoder.program.Value(d.encoder.out))
	for _, r := range []*run[float32]{d.outer, d.inner} {
		for _, l := range r.layers {
			l.cache.Reset()
		}
	}
	clear(d.above)
	return nil
}

func (d *brush) logits(pixel int) ([]float32, error) {
	m, c := d.m, d.m.cfg.HiddenSize
	column := pixel % m.width
	if column == 0 && pixel > 0 {
		if err := d.complete(pixel - m.width); err != nil {
			return nil, err
		}
		for _, l := range d.inner.layers {
			l.cache.Reset()
		}
	}
	x := d.inner.stream(d.n)
	for i := range d.n {
		row := x[i*c:][:c]
		clear(row)
		if column > 0 {
			copy(row, d.level(i, pixel-1))
		}
		kernels.Add(row, d.above[(column*d.n+i)*c:][:c], row)
		d.place(row, i, pixel)
	}
	if err := d.inner.through(); err != nil {
		return nil, err
	}
	kernels.LayerNorm(d.n, c, d.inner.x, d.norm.weight, d.norm.bias, d.inner.h, float32(d.inner.eps))
	d.head.apply(d.n, d.inner.h, d.last, kernels.None, false)
	return d.last, nil
}

// complete takes the row of pixels from first on, which is drawn, through the outer decoder.
func (d *brush) complete(first int) error {
	c := d.m.cfg.HiddenSize
	x := d.outer.stream(d.m.width * d.n)
	for column := range d.m.width {
		for i := range d.n {
			row := x[(column*d.n+i)*c:][:c]
			copy(row, d.level(i, first+column))
			d.place(row, i, first+column)
		}
	}
	err := d.outer.through()
	copy(d.above, d.outer.x)
	return err
}

// level is the vector of a level that is drawn.
func (d *brush) level(image, pixel int) []float32 {
	c, s := d.m.cfg.HiddenSize, d.m.slices
	id := d.ids[(image*d.m.height*d.m.width+pixel)*s+d.slice]
	return d.table[int(id)*c:][:c]
}

// place adds what is known of a pixel without its level: row, column, the slices before, and the class.
func (d *brush) place(row []float32, image, pixel int) {
	m, c := d.m, d.m.cfg.HiddenSize
	kernels.Add(row, d.places[0][pixel/m.width*c:][:c], row)
	kernels.Add(row, d.places[1][pixel%m.width*c:][:c], row)
	kernels.Add(row, d.u[(image*m.height*m.width+pixel)*c:][:c], row)
	if class := int(d.classes[image]); class >= 0 {
		kernels.Add(row, d.kinds[class*c:][:c], row)
	}
}

func (d *brush) close() { d.encoder.close() }
