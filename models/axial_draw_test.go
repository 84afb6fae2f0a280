package models

import (
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
)

// noise draws levels by fixed noise: number i of an image is the largest of logits - log(-log u), u of (image, i, level).
type noise struct {
	drawn  []uint64
	logits []float32
}

func (n *noise) next(image int, logits []float32) int32 {
	n.logits = append(n.logits, logits...)
	best, largest := 0, math.Inf(-1)
	for level, x := range logits {
		u := (float64(splitmix.Mix(uint64(image)<<40+n.drawn[image]<<20+uint64(level))>>11) + 0.5) / (1 << 53)
		if g := float64(x) - math.Log(-math.Log(u)); g > largest {
			best, largest = level, g
		}
	}
	n.drawn[image]++
	return int32(best)
}

func loud32(t *testing.T, m Model) *layers.Params {
	params, err := NewParams(m, tensor.Float32, 3)
	require.NoError(t, err)
	for _, p := range params.All() {
		draw, x := layers.Normal(0.4)(p.Name, p.Value.Shape(), 7), p.Value.Float32s()
		for i := range x {
			x[i] += float32(draw(i))
		}
	}
	return params
}

// replayed is the fast painter with nothing kept: all that is drawn is read again for each level.
type replayed struct {
	painter
	slice int
}

func (r *replayed) begin(slice int) error {
	r.slice = slice
	return nil
}

func (r *replayed) logits(pixel int) (logits []float32, err error) {
	if err := r.painter.begin(r.slice); err != nil {
		return nil, err
	}
	for p := range pixel + 1 {
		if logits, err = r.painter.logits(p); err != nil {
			return nil, err
		}
	}
	return logits, nil
}

// TestAxialTransformerPaints: row by row the same images come as by a pass of the whole network for each level, and they are what their logits say; and
// bit for bit the same logits as when nothing is kept from level to level.
func TestAxialTransformerPaints(t *testing.T) {
	for _, text := range []string{
		axialText(4, 5, 1, 7, `,"encoder_layers":2,"outer_layers":4,"inner_layers":2`),
		axialText(5, 3, 3, 7, `,"encoder_layers":4,"outer_layers":2,"inner_layers":1`),
		axialText(2, 3, 2, 5, `,"channels_as":"rows","encoder_layers":0,"outer_layers":2,"inner_layers":3`),
		axialText(3, 1, 1, 5, `,"encoder_layers":2,"outer_layers":0,"inner_layers":1`),
		axialText(3, 4, 2, 5, `,"encoder_layers":2,"outer_layers":2,"inner_layers":3,"residual":"reversible"`),
		axialText(1, 4, 7, 5, `,"encoder_layers":2,"outer_layers":2,"inner_layers":1`),
		axialText(3, 4, 2, 5, `,"num_classes":3,"encoder_layers":2,"outer_layers":2,"inner_layers":1`),
	} {
		model, err := New([]byte(text))
		require.NoError(t, err)
		m := model.(*AxialTransformer)
		params := loud32(t, m)
		var classes []int
		if m.cfg.NumClasses > 0 {
			classes = []int{2, -1, 0}
		}
		for _, given := range [][]int32{nil, {3, 0, 1}} {
			fast, slow := &noise{drawn: make([]uint64, 3)}, &noise{drawn: make([]uint64, 3)}
			last := 0
			a, err := m.Paint(params, Painting{Images: 3, Given: given, Classes: classes, Next: fast.next, Done: func(done int) error {
				require.Equal(t, last+1, done)
				last = done
				return nil
			}})
			require.NoError(t, err)
			b, err := m.PaintSlowly(params, Painting{Images: 3, Given: given, Classes: classes, Next: slow.next})
			require.NoError(t, err)
			require.Equal(t, b, a, text)
			require.Equal(t, m.levels(), last)
			if m.levels() > 10 {
				require.NotEqual(t, a[0], a[1])
			}
			require.InDeltaSlice(t, slow.logits, fast.logits, 2e-4, text)
			if classes != nil && given == nil {
				other := &noise{drawn: make([]uint64, 3)}
				_, err := m.Paint(params, Painting{Images: 3, Classes: []int{2, -1, 1}, Next: other.next})
				require.NoError(t, err)
				k := m.cfg.VocabSize
				require.Equal(t, fast.logits[:2*k], other.logits[:2*k])
				require.NotEqual(t, fast.logits[2*k:3*k], other.logits[2*k:3*k])
				_, err = m.Paint(params, Painting{Images: 1, Classes: []int{3}, Next: other.next})
				require.ErrorContains(t, err, "class 3, the model has 0 to 2")
			}
			again := &noise{drawn: make([]uint64, 3)}
			c, err := m.paint(params, Painting{Images: 3, Given: given, Classes: classes, Next: again.next}, func(params *layers.Params, classes, ids []int32) (painter, error) {
				d, err := m.brush(params, classes, ids)
				return &replayed{painter: d}, err
			})
			require.NoError(t, err)
			require.Equal(t, a, c)
			require.Equal(t, fast.logits, again.logits)
			for _, ids := range a {
				require.Equal(t, given, append([]int32(nil), ids[:len(given)]...))
			}
		}
		own, err := m.Paint(params, Painting{Images: 1, Next: (&noise{drawn: make([]uint64, 1)}).next})
		require.NoError(t, err)
		all, err := m.Paint(params, Painting{Images: 2, Next: (&noise{drawn: make([]uint64, 2)}).next})
		require.NoError(t, err)
		require.Equal(t, own[0], all[0], "an image depends on those beside it")
	}
}

func TestAxialTransformerPaintingFaults(t *testing.T) {
	model, err := New([]byte(axialText(2, 3, 1, 5, "")))
	require.NoError(t, err)
	m := model.(*AxialTransformer)
	params := loud32(t, m)
	next := func(int, []float32) int32 { return 0 }
	for _, p := range []Painting{{Images: 0}, {Images: 1, Given: make([]int32, 7)}, {Images: 1, Given: []int32{5}}} {
		p.Next = next
		_, err := m.Paint(params, p)
		require.Error(t, err)
	}
	enough := errors.New("enough")
	_, err = m.Paint(params, Painting{Images: 1, Next: next, Done: func(done int) error {
		if done == 4 {
			return enough
		}
		return nil
	}})
	require.ErrorIs(t, err, enough)
	_, err = m.Paint(loud(t, m), Painting{Images: 1, Next: next})
	require.ErrorContains(t, err, "float32")
	_, err = m.Paint(layers.NewParams(tensor.Float32), Painting{Images: 1, Next: next})
	require.ErrorContains(t, err, "tokens.weight is missing")
}

// TestAxialTransformerFaults tells of all that is wrong at once.
func TestAxialTransformerFaults(t *testing.T) {
	_, err := New([]byte(axialText(0, 3, 2, 1, `,"preset":"huge","encoder_layers":3,"outer_layers":1,"inner_layers":0,"channels_as":"planes","hidden_act":"soft","hidden_dropout_prob":1,"layer_norm_eps":0,"heigth":3`)))
	for _, want := range []string{"height is 0", "vocab_size is 1", `preset is "huge"`, "encoder_layers is 3", "outer_layers is 1", "inner_layers is 0", `channels_as is "planes"`,
		`hidden_act is "soft"`, "hidden_dropout_prob is 1", "layer_norm_eps is 0", "heigth"} {
		require.ErrorContains(t, err, want)
	}
	_, err = New([]byte(axialText(1<<20, 1<<20, 1<<20, 7, "")))
	require.ErrorContains(t, err, "height")
}
