package data

// lowImages are the images of a part in small, row by row, whatever the order of the images is.
type lowImages struct {
	shape  ImageShape // of 0 pixels: there are none
	levels []byte     // [N,L]
}

// lowShape is the shape of the smaller images beside those of a shape.
func (c Config) lowShape(of ImageShape) ImageShape {
	h, w := sides(c.LowSize)
	return ImageShape{Height: h, Width: w, Channels: of.Channels, Levels: of.Levels}
}

// LowShape is the shape of the smaller images beside those of a shape; false if the data have none.
func (c Config) LowShape(of ImageShape) (ImageShape, bool) {
	low := c.lowShape(of)
	return low, low.Size() > 0
}

// add makes an image small.
func (l *lowImages) add(p picture, values int) {
	if l.shape.Size() > 0 {
		l.levels = append(l.levels, p.resized(l.shape.Height, l.shape.Width, values, l.shape.Levels)...)
	}
}

// of are the levels of image i.
func (l *lowImages) of(i int) []byte {
	n := l.shape.Size()
	return l.levels[i*n : (i+1)*n]
}

// Low is the shape of the smaller images of a part, and the levels of one of them; false if it has none.
func (p *Part) Low(i int) (ImageShape, []int32, bool) {
	if p.low.shape.Size() == 0 {
		return ImageShape{}, nil, false
	}
	var ids []int32
	for _, level := range p.low.of(i) {
		ids = append(ids, int32(level))
	}
	return p.low.shape, ids, true
}

// Enlarge makes an image of this shape of the levels of a smaller one, each pixel that which it lies in.
func (s ImageShape) Enlarge(low ImageShape, ids []int32) []int32 {
	large := make([]int32, 0, s.Size())
	for _, at := range s.Order() {
		y, x, c := at/s.Channels/s.Width, at/s.Channels%s.Width, at%s.Channels
		large = append(large, ids[(y*low.Height/s.Height*low.Width+x*low.Width/s.Width)*s.Channels+c])
	}
	return large
}
