package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// localArguments are those of local-attention's LocalAttention that change what it computes outside of training.
type localArguments struct {
	WindowSize       int       `json:"window_size"`
	Causal           bool      `json:"causal"`
	LookBackward     *int      `json:"look_backward"`
	LookForward      *int      `json:"look_forward"`
	Dropout          float64   `json:"dropout"`
	SharedQK         bool      `json:"shared_qk"`
	RelPosEmbConfig  []float64 `json:"rel_pos_emb_config"`
	Dim              *int      `json:"dim"`
	Autopad          bool      `json:"autopad"`
	ExactWindowsize  bool      `json:"exact_windowsize"`
	Scale            *float64  `json:"scale"`
	UseRotaryPosEmb  *bool     `json:"use_rotary_pos_emb"`
	UseXpos          bool      `json:"use_xpos"`
	XposScaleBase    *float64  `json:"xpos_scale_base"`
	backward, ahead  int       // of the windows that are looked at
	n, t, length, d  int       // sequences, tokens, tokens with those of autopad, head size
	batch            int       // of the mask
	mask             []bool    // [batch,t]
	base             attention.Pattern
	rotates, hasMask bool
}

// runLocalAttention is LocalAttention through the pattern algebra and Attend. Sequences are heads of one example, since each can
// have a mask of its own. What the package does otherwise than its description is done here.
func runLocalAttention(c *Case, p Precision) ([]Result, error) {
	if c.Class != "LocalAttention" {
		return nil, fmt.Errorf("no adapter for class %q", c.Class)
	}
	a, err := localArgumentsOf(c)
	if err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("q", "k", "v", "mask", "input_mask")
	order := tokensFirst(a.n, a.t, a.d, a.length)
	node := func(name string) *Node { return r.inAs(name, order, 1, a.length, a.n, a.d) }
	q, k, v := node("q"), node("k"), node("v")
	if a.SharedQK { // keys of unit length
		k = layers.Scale(r.b, layers.RMSNorm(r.b, k, layers.NormConfig{Eps: 1e-30, NoWeight: true}), 1/math.Sqrt(float64(a.d)))
	}
	if a.rotates {
		// The queries of a span count as its last window, so they are ahead by the windows that follow.
		q = a.rotate(r, "q", q, a.ahead*a.WindowSize, 1)
		k = a.rotate(r, "k", k, 0, -1)
	}
	cfg := attention.Config{Heads: a.n, Pattern: explicit{c.ID() + p.String(), a.n, a.sees}}
	if a.Scale != nil {
		cfg.Scale = *a.Scale
	}
	o, _ := attention.Attend(r.b, cfg, q, k, v)
	r.outAs("out", a.addUnread(r, o, v), order)
	return r.compare()
}

func localArgumentsOf(c *Case) (*localArguments, error) {
	a := &localArguments{}
	d := json.NewDecoder(bytes.NewReader(c.Kwargs))
	d.DisallowUnknownFields()
	if err := d.Decode(a); err != nil {
		return nil, fmt.Errorf("kwargs: %w", err)
	}
	a.backward, a.ahead = 1, 1
	if a.Causal {
		a.ahead = 0
	}
	if a.LookBackward != nil {
		a.backward = *a.LookBackward
	}
	if a.LookForward != nil {
		a.ahead = *a.LookForward
	}
	q, v := c.In("q"), c.In("v")
	if q == nil || v == nil || len(q.Shape) < 3 || a.WindowSize < 1 {
		return nil, errors.New("want in/q and in/v [..,T,D] and a window_size")
	}
	axes := len(q.Shape)
	a.t, a.d = q.Shape[axes-2], q.Shape[axes-1]
	a.n = q.Size() / (a.t * a.d)
	if v.Size() != q.Size() {
		return nil, fmt.Errorf("in/v has shape %v, in/q has %v", v.Shape, q.Shape)
	}
	a.length = (a.t + a.WindowSize - 1) / a.WindowSize * a.WindowSize
	if a.length != a.t && !a.Autopad {
		return nil, fmt.Errorf("%d tokens are no multiple of the window %d", a.t, a.WindowSize)
	}
	a.rotates = (a.Dim != nil || len(a.RelPosEmbConfig) > 0) && (a.UseRotaryPosEmb == nil || *a.UseRotaryPosEmb)
	for _, name := range []string{"input_mask", "mask"} {
		if m := c.In(name); m != nil {
			a.hasMask, a.mask, a.batch = true, m.Bools(), m.Size()/a.t
		}
	}
	a.base = attention.Blocks{Size: a.WindowSize, Left: a.backward * a.WindowSize, Right: a.ahead * a.WindowSize}
	if a.ExactWindowsize {
		right := a.ahead * a.WindowSize
		if a.Causal {
			right = 0
		}
		exact, err := attention.Intersection(a.base, attention.Band{Left: a.backward * a.WindowSize, Right: right})
		if err != nil {
			return nil, err
		}
		a.base = exact
	}
	if a.Causal {
		a.base = attention.Causal(a.base)
	}
	return a, nil
}

// counts tells whether a key of a sequence is no padding. Tokens that autopad adds count if there is no mask.
func (a *localArguments) counts(h, j int) bool {
	if !a.hasMask {
		return true
	}
	return j < a.t && a.mask[h/(a.n/a.batch)*a.t+j]
}

func (a *localArguments) reads(h, i, j int) bool {
	return a.base.Sees(0, i, j, a.length) && a.counts(h, j)
}

// sees adds that with shared queries and keys a token has -5e4 as the score with itself: it reads itself only if nothing else.
func (a *localArguments) sees(h, i, j int) bool {
	if !a.reads(h, i, j) {
		return false
	}
	if a.SharedQK && i == j {
		for k := range a.length {
			if k != i && a.reads(h, i, k) {
				return false
			}
		}
	}
	return true
}

// addUnread adds the rows of queries whose keys are all hidden: the mean of all values of their windows, in which places outside
// of the sequence have the value -1.
func (a *localArguments) addUnread(r *rig, o, v *Node) *Node {
	w := make([]float64, a.n*a.length*a.length)
	outside := make([]float64, a.length*a.n*a.d)
	any := false
	span := float64((a.backward + 1 + a.ahead) * a.WindowSize)
	windows := attention.Blocks{Size: a.WindowSize, Left: a.backward * a.WindowSize, Right: a.ahead * a.WindowSize}
	for h := range a.n {
		for i := range a.length {
			reads, inside := false, 0.0
			for j := range a.length {
				reads = reads || a.reads(h, i, j)
				if windows.Sees(0, i, j, a.length) {
					inside++
				}
			}
			if reads {
				continue
			}
			any = true
			for j := range a.length {
				if windows.Sees(0, i, j, a.length) {
					w[(h*a.length+i)*a.length+j] = 1 / span
				}
			}
			for k := range a.d {
				outside[(i*a.n+h)*a.d+k] = -(span - inside) / span
			}
		}
	}
	if !any || r.b.Err() != nil {
		return o
	}
	rows := a.n * a.length
	first, back := make([]int32, rows), make([]int32, rows) // [T,N] <-> [N,T]
	for e := range rows {
		h, i := e/a.length, e%a.length
		first[e], back[i*a.n+h] = int32(i*a.n+h), int32(e)
	}
	byHead := layers.Lookup(r.b, layers.Reshape(r.b, v, rows, a.d), r.ints("by head", first, a.n, a.length))
	mean := r.b.Op(mix{0, a.d}, r.floats("shares", w, a.n, a.length, a.length), byHead)
	mean = layers.Lookup(r.b, layers.Reshape(r.b, mean, rows, a.d), r.ints("by token", back, 1, a.length, a.n))
	return layers.Add(r.b, o, layers.Add(r.b, mean, r.floats("outside", outside, 1, a.length, a.n, a.d)))
}

// rotate turns the pairs (c, c+D/2) by the position times the package's own frequencies, which are rounded to float32; with xpos
// it also scales them, keys by the inverse. Positions count from the start of the sequence: only distances matter.
func (a *localArguments) rotate(r *rig, name string, x *Node, ahead int, sign float64) *Node {
	half := a.d / 2
	freq := make([]float64, half)
	for i := range freq {
		freq[i] = float64(1 / float32(math.Pow(10000, float64(float32(2*i)/float32(a.d)))))
	}
	for _, name := range []string{"rel_pos.inv_freq", "local_attn.rel_pos.inv_freq"} {
		if t := r.c.StateBefore(name); t != nil {
			freq = t.Float64s()
		}
	}
	base := float64(a.WindowSize / 2)
	if a.XposScaleBase != nil {
		base = *a.XposScaleBase
	}
	size := a.length * a.n * a.d
	cos, sin := make([]float64, size), make([]float64, size)
	for e := range cos {
		position, i := e/(a.n*a.d)+ahead, e%a.d%half
		factor := 1.0
		if a.UseXpos {
			s := float64((float32(2*i) + float32(0.4*float64(a.d))) / float32(1.4*float64(a.d)))
			factor = math.Pow(s, sign*float64(position)/base)
		}
		s, c := math.Sincos(float64(position) * freq[i])
		cos[e], sin[e] = factor*c, factor*s
	}
	turned := make([]float64, a.d*a.d) // (x1, x2) -> (-x2, x1), [out,in]
	for c := range half {
		turned[c*a.d+half+c], turned[(half+c)*a.d+c] = -1, 1
	}
	y := layers.Linear(r.b, x, layers.LinearConfig{Weight: r.floats("turned", turned, a.d, a.d), NoBias: true})
	shape := []int{1, a.length, a.n, a.d}
	return layers.Add(r.b, layers.Mul(r.b, x, r.floats(name+".cos", cos, shape...)), layers.Mul(r.b, y, r.floats(name+".sin", sin, shape...)))
}
