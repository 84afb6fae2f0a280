package data

// picture is an image as it was read: values of channels within pixels, row by row.
type picture struct {
	name                    string
	height, width, channels int
	values                  []byte
	label                   string
}

// crop is the part of an image with a corner and a size.
func (p picture) crop(top, left, h, w int) picture {
	part := p
	part.height, part.width, part.values = h, w, make([]byte, 0, h*w*p.channels)
	for y := top; y < top+h; y++ {
		row := p.values[y*p.width*p.channels:]
		part.values = append(part.values, row[left*p.channels:(left+w)*p.channels]...)
	}
	return part
}

// coloured has so many channels: grey is 0.299 red + 0.587 green + 0.114 blue, rounded; three channels of a grey image are alike.
func (p picture) coloured(channels int) picture {
	if p.channels == channels {
		return p
	}
	values := make([]byte, p.height*p.width*channels)
	for i := range p.height * p.width {
		if channels == 3 {
			v := p.values[i]
			values[3*i], values[3*i+1], values[3*i+2] = v, v, v
			continue
		}
		v := p.values[3*i:]
		values[i] = byte((299*int(v[0]) + 587*int(v[1]) + 114*int(v[2]) + 500) / 1000)
	}
	p.channels, p.values = channels, values
	return p
}

// resized are the levels 0 to levels-1 of an image of h x w pixels, each the mean of what it covers: level = floor(mean*levels/values), in whole
// numbers, so that no rounding depends on a machine. A pixel of the source that lies in several is shared among them by area.
//
// Cost: O(pixels of the source) where it is h x w at least in both directions.
func (p picture) resized(h, w, values, levels int) []byte {
	out := make([]byte, 0, h*w*p.channels)
	all := uint64(p.height) * uint64(p.width) * uint64(values) // of the weights of a pixel, and what a level is divided by
	for oy := range h {
		for ox := range w {
			for c := range p.channels {
				sum := uint64(0)
				for y := oy * p.height / h; y*h < (oy+1)*p.height; y++ {
					wy := overlap(y, h, oy, p.height)
					for x := ox * p.width / w; x*w < (ox+1)*p.width; x++ {
						sum += wy * overlap(x, w, ox, p.width) * uint64(p.values[(y*p.width+x)*p.channels+c])
					}
				}
				out = append(out, byte(sum*uint64(levels)/all))
			}
		}
	}
	return out
}

// overlap is the common length of the stretches [i*a, (i+1)*a) and [o*b, (o+1)*b).
func overlap(i, a, o, b int) uint64 {
	return uint64(min((i+1)*a, (o+1)*b) - max(i*a, o*b))
}
