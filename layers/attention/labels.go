package attention

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// Labels gives each pair of a query and a key a small number, such as their distance, clipped, or what kinds of tokens they are.
// The score of a pair takes up what Config.LabelKeys and LabelBias hold for its label.
// Source: Shaw et al. 2018, arXiv 1803.02155 (keys); Raffel et al. 2020, arXiv 1910.10683, section 2.1 (bias).
type Labels interface {
	// String tells labels apart: equal strings mean equal labels.
	String() string
	// Count is how many labels there are: 0 to Count-1.
	Count() int
	// Label is that of query i and key j of head h; i, j and n are those of Pattern, in coordinates of the pattern. It is asked for
	// pairs that the pattern shows. Heads are told apart only by labels that have a method Heads, as that of Pattern; else h is 0.
	Label(h, i, j, n int) int
}

// relative is Labels that depend on j-i alone, which makes their compilation fast. They are then asked for any i and j.
type relative interface{ Relative() bool }

func isRelative(l Labels) bool {
	r, ok := l.(relative)
	return ok && r.Relative()
}

// labelHeads is how many heads the labels tell apart.
func labelHeads(l Labels) int {
	if p, ok := l.(interface{ Heads() int }); ok {
		return p.Heads()
	}
	return 1
}

// Clipped labels a pair by the distance j-i, cut to at most Max on both sides: label max(-Max, min(Max, j-i)) + Max.
// Source: Shaw et al. 2018, arXiv 1803.02155, equation 5.
type Clipped struct{ Max int }

func (c Clipped) String() string { return fmt.Sprintf("clipped(%d)", c.Max) }

// Count is 2·Max+1.
func (c Clipped) Count() int { return 2*c.Max + 1 }

// Label is the clipped distance.
func (c Clipped) Label(_, i, j, _ int) int { return max(-c.Max, min(c.Max, j-i)) + c.Max }

// Relative is true.
func (Clipped) Relative() bool { return true }

// sizeLabels checks the tables of labels among the inputs.
func (o *attend) sizeLabels(in []engine.Type) error {
	if o.labels == nil {
		if o.labelKeys >= 0 || o.labelBias >= 0 {
			return fmt.Errorf("LabelKeys or LabelBias without Labels")
		}
		return nil
	}
	if o.labelKeys < 0 && o.labelBias < 0 {
		return fmt.Errorf("labels %s without LabelKeys and LabelBias; give one of them", o.labels)
	}
	if n := labelHeads(o.labels); n != 1 && n != o.heads {
		return fmt.Errorf("labels %s are of %d heads, the layer has %d", o.labels, n, o.heads)
	}
	v := o.labels.Count()
	fits := func(place int, shapes ...tensor.Shape) bool {
		return place < 0 || in[place].Dtype == in[0].Dtype &&
			slices.ContainsFunc(shapes, func(s tensor.Shape) bool { return slices.Equal(in[place].Shape, s) })
	}
	if !fits(o.labelKeys, tensor.Shape{v, o.d}, tensor.Shape{v, o.heads * o.d}) {
		return fmt.Errorf("the keys of labels are %v, want [V,D] or [V,H·D] with V = %d, H = %d, D = %d", in[o.labelKeys], v, o.heads, o.d)
	}
	if !fits(o.labelBias, tensor.Shape{v, o.heads}, tensor.Shape{v}) {
		return fmt.Errorf("the biases of labels are %v, want [V,H] or [V] with V = %d, H = %d", in[o.labelBias], v, o.heads)
	}
	return nil
}

// tableRows describes a table of labels with d numbers a head: [V,d] for all heads, or [V,H·d].
func tableRows[F kernels.Float](data []F, labels, heads, d int) kernels.Rows[F] {
	r := kernels.Rows[F]{Data: data, Row: len(data) / labels}
	if r.Row == heads*d {
		r.Head = d
	}
	return r
}

// setLabels gives a call the tables.
func setLabels[F kernels.Float](o *attend, a *kernels.Attention[F], in []engine.Value) {
	if o.labels == nil {
		return
	}
	a.Labels = o.labelled
	if o.labelKeys >= 0 {
		a.R = tableRows(engine.Floats[F](in[o.labelKeys]), o.labels.Count(), o.heads, o.d)
	}
	if o.labelBias >= 0 {
		a.Bias = tableRows(engine.Floats[F](in[o.labelBias]), o.labels.Count(), o.heads, 1)
	}
}

// setLabelGrads gives a call room for the gradients of the tables, which lie one after the other, and clears it.
func setLabelGrads[F kernels.Float](o *attend, a *kernels.Attention[F], d []F, in []engine.Value) {
	clear(d)
	if o.labelKeys >= 0 {
		n := in[o.labelKeys].Size()
		a.DR = tableRows(d[:n], o.labels.Count(), o.heads, o.d)
		d = d[n:]
	}
	if o.labelBias >= 0 {
		a.DBias = tableRows(d, o.labels.Count(), o.heads, 1)
	}
}

// tables are the places of the tables among the inputs, in the order of their gradients.
func (o *attend) tables() []int {
	return slices.DeleteFunc([]int{o.labelKeys, o.labelBias}, func(at int) bool { return at < 0 })
}

// compileLabels labels the layouts of a pattern: one entry if layouts and labels are alike for all heads, else one for each.
func compileLabels(labels Labels, layouts []*kernels.Layout, order func(h int) arrangement) ([]*kernels.Labels, error) {
	heads := max(len(layouts), labelHeads(labels))
	out := make([]*kernels.Labels, heads)
	for h := range out {
		l := layouts[min(h, len(layouts)-1)]
		if h > 0 && l == layouts[0] && labelHeads(labels) == 1 {
			out[h] = out[0]
			continue
		}
		head, n, perm := min(h, labelHeads(labels)-1), max(l.NQ, l.NK), order(h)
		var err error
		out[h], err = kernels.NewLabels(l, labels.Count(), perm.q == nil && perm.k == nil && isRelative(labels), func(i, j int) int {
			if perm.q != nil {
				i = int(perm.q[i])
			}
			if perm.k != nil {
				j = int(perm.k[j])
			}
			return labels.Label(head, i, j, n)
		})
		if err != nil {
			return nil, fmt.Errorf("labels %s: %w", labels, err)
		}
	}
	return out, nil
}
