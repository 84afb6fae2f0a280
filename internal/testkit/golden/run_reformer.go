package golden

import (
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// hashDraw is N and what of rand/lshN.WHAT: what the layer of hashing number N of a Reformer has drawn.
func hashDraw(name string) (layer int, what string, ok bool) {
	layerText, what, found := strings.Cut(name, ".")
	n, err := fmt.Sscanf(layerText, "lsh%d", &layer)
	ok = found && n == 1 && err == nil && layerText == fmt.Sprint("lsh", layer) && slices.Contains([]string{"rotations", "buckets", "num_buckets"}, what)
	return layer, what, ok
}

// reformerRows is the batch of a Reformer with padding to whole chunks, so that what is recorded of padding is compared, too. Others are left alone.
func (in Batch) reformerRows(m models.Model) (Batch, error) {
	r, ok := m.(interface{ Padded(t int) int })
	if !ok || r.Padded(in.T) == in.T || in.IDs == nil {
		return in, nil
	}
	pad, _, err := idsOf(m)
	if err != nil {
		return in, err
	}
	t, mask := r.Padded(in.T), in.Mask
	if mask == nil {
		mask = slices.Repeat([]bool{true}, in.B*in.T)
	}
	longer := in
	longer.IDs, longer.Mask, longer.T = widened(in, in.IDs, t, pad), widened(in, mask, t, false), t
	return longer, nil
}

// rotations gives the layers of hashing the rotations that were drawn, [H,D,R,C], as [H,R,C,D].
func (in Batch) rotations(b *layers.Builder, given *models.Inputs) error {
	for layer, t := range in.Rotations {
		if len(t.Shape) != 4 {
			return inputErrorf("rand/lsh%d.rotations has shape %v, want [heads,head size,hashes,columns]", layer, t.Shape)
		}
		h, d, r, c := t.Shape[0], t.Shape[1], t.Shape[2], t.Shape[3]
		x, y := t.Float64s(), make([]float64, 0, t.Size())
		for hrc := range h * r * c {
			for k := range d {
				y = append(y, x[(hrc/(r*c)*d+k)*r*c+hrc%(r*c)])
			}
		}
		if given.More == nil {
			given.More = map[string]*layers.Node{}
		}
		name := fmt.Sprint("rotations.", layer)
		given.More[name] = constant(b, name, y, []int{h, r, c, d})
	}
	return nil
}
