package bigbird_theory

import (
	"fmt"
	"math"
	"strings"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// Machine is a Turing machine: states are letters, symbols are characters, the first symbol is the blank. A state without rules halts.
type Machine struct {
	States  string
	Symbols string
	Rules   map[[2]byte]Rule // by state and symbol
}

// Rule says what is written, where the head goes (-1 left, +1 right), and the next state.
type Rule struct {
	Write byte
	Move  int
	Next  byte
}

// BusyBeaver is the machine of two states and two symbols that writes most: four ones in six steps.
var BusyBeaver = Machine{States: "ABH", Symbols: "01", Rules: map[[2]byte]Rule{
	{'A', '0'}: {'1', +1, 'B'}, {'A', '1'}: {'1', -1, 'B'},
	{'B', '0'}: {'1', -1, 'A'}, {'B', '1'}: {'1', +1, 'H'},
}}

// Counter adds one to a binary number again and again: R runs to the blank behind the last digit, C carries to the left.
var Counter = Machine{States: "RC", Symbols: "_01", Rules: map[[2]byte]Rule{
	{'R', '0'}: {'0', +1, 'R'}, {'R', '1'}: {'1', +1, 'R'}, {'R', '_'}: {'_', -1, 'C'},
	{'C', '1'}: {'0', -1, 'C'}, {'C', '0'}: {'1', +1, 'R'}, {'C', '_'}: {'1', +1, 'R'},
}}

// Cell is a square of the tape: its symbol, and the state of the head if it is there, else 0.
type Cell struct{ Symbol, State byte }

// Tape is a machine at one time.
type Tape []Cell

// String writes the symbols, and the state before that of the head: 01A1.
func (t Tape) String() string {
	var s strings.Builder
	for _, c := range t {
		if c.State != 0 {
			s.WriteByte(c.State)
		}
		s.WriteByte(c.Symbol)
	}
	return s.String()
}

// NewTape is a tape with a text on it, the head at a square, in the first state.
func (m Machine) NewTape(text string, head int) Tape {
	t := make(Tape, len(text))
	for i := range t {
		t[i].Symbol = text[i]
	}
	t[head].State = m.States[0]
	return t
}

// Simulate is the machine itself: the tape at the start and after every step. A machine that has halted stays as it is.
func (m Machine) Simulate(t Tape, steps int) []Tape {
	trace := []Tape{append(Tape(nil), t...)}
	for range steps {
		t = append(Tape(nil), t...)
		for i, c := range t {
			if r, ok := m.Rules[[2]byte{c.State, c.Symbol}]; ok {
				t[i] = Cell{Symbol: r.Write}
				t[i+r.Move].State = r.Next
				break
			}
		}
		trace = append(trace, t)
	}
	return trace
}

// Decoder is a one-layer decoder whose weights are set by hand so that it simulates a machine. It writes the tape of every time one
// after another, a token a square. Square c of a time follows from squares c-1, c and c+1 of the time before, which stand W+1, W and
// W-1 tokens back on a tape of W squares: three heads read one of them each, and the feed-forward part is the table of rules.
//
//	x = [what is on the square | (cos 2πp/n, sin 2πp/n)]
//	head δ: q = β · the angle turned back to p+δ-W, k = the angle, v = what is on the square: for large β the softmax is that one key
//	hidden unit: ReLU(left + here + right - 2), one for every three squares that can stand side by side
//
// The pattern is BigBird's in a decoder, with blocks of W: the three keys lie in the block before or in its own; the global and the
// random keys are there, and weigh nothing. Every token reads at most W (3 + r) others, however long the trace.
//
// What this is not: a proof. The theorem has a network of fixed size for every number of steps, with numbers of unbounded precision.
// Here the tape is W squares, and β has to grow with the square of the length to tell neighbouring angles apart.
type Decoder struct {
	machine Machine
	width   int // W
	tokens  []Cell
	ids     map[Cell]int32
	n       int

	program *engine.Program
	input   []int32
	logits  *layers.Node
}

// NewDecoder builds the decoder for a tape of width squares and so many steps.
func NewDecoder(m Machine, width, steps int) (*Decoder, error) {
	d := &Decoder{machine: m, width: width, ids: map[Cell]int32{}, n: 1 + width*(steps+1)}
	for _, state := range append([]byte{0}, m.States...) {
		for _, symbol := range []byte(m.Symbols) {
			c := Cell{symbol, state}
			d.ids[c] = int32(len(d.tokens))
			d.tokens = append(d.tokens, c)
		}
	}
	params := layers.NewParams(tensor.Float64)
	units, err := d.setWeights(params)
	if err != nil {
		return nil, err
	}
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	v := len(d.tokens)
	ids := b.Input("ids", tensor.Int32, 1, d.n)
	x := layers.Lookup(b, b.Param("squares.weight", nil, v, v), ids)                                  // [1,n,V]
	p := b.Param("angles.weight", nil, 1, d.n, 2)                                                     // [1,n,2]
	q := layers.Linear(b.Scope("q"), p, layers.LinearConfig{Out: 3 * 2, NoBias: true})                // [1,n,3·2]
	k := layers.Linear(b.Scope("k"), p, layers.LinearConfig{Out: 3 * 2, NoBias: true})                //
	values := layers.Linear(b.Scope("v"), x, layers.LinearConfig{Out: 3 * v, NoBias: true})           // [1,n,3·V]
	pattern := attention.Causal(attention.NewBigBird(width, 1, 7, 0))                                 // r = 1
	o, _ := attention.Attend(b, attention.Config{Pattern: pattern, Heads: 3, Scale: 1}, q, k, values) // left | here | right
	h := layers.Linear(b.Scope("rules"), o, layers.LinearConfig{Out: units, Act: kernels.ReLU})       // [1,n,units]
	d.logits = layers.Linear(b.Scope("write"), h, layers.LinearConfig{Out: v, NoBias: true})          // [1,n,V]
	if b.Err() != nil {
		return nil, b.Err()
	}
	d.input = layers.InputValue(ids).Int32s()
	d.program, err = engine.Compile(b.Graph(), layers.Nodes{d.logits}, engine.Options{})
	return d, err
}

// setWeights is all that the decoder knows. It returns how many hidden units there are.
func (d *Decoder) setWeights(params *layers.Params) (units int, err error) {
	v := len(d.tokens)
	squares := make([]float64, v*v) // a square is a unit vector
	copies := make([]float64, 3*v*v)
	for i := range v {
		squares[i*v+i] = 1
		for h := range 3 {
			copies[(h*v+i)*v+i] = 1
		}
	}
	angles := make([]float64, d.n*2)
	turn := 2 * math.Pi / float64(d.n)
	for p := range d.n {
		angles[2*p], angles[2*p+1] = math.Cos(turn*float64(p)), math.Sin(turn*float64(p))
	}
	// Of neighbouring angles the scores differ by β (1 - cos turn), here 50: the other keys weigh e^-50.
	beta := 50 / (1 - math.Cos(turn))
	var q, k []float64
	for h := range 3 { // what the next token follows from stands W, W-1 and W-2 before this one
		back := turn * float64(d.width-h)
		q = append(q, beta*math.Cos(back), beta*math.Sin(back), -beta*math.Sin(back), beta*math.Cos(back))
		k = append(k, 1, 0, 0, 1)
	}
	var rules, write []float64
	var outcome []int
	for left := range v {
		for here := range v {
			for right := range v {
				next, ok := d.follows(d.tokens[left], d.tokens[here], d.tokens[right])
				if !ok {
					continue
				}
				unit := make([]float64, 3*v)
				unit[left], unit[v+here], unit[2*v+right] = 1, 1, 1
				rules = append(rules, unit...)
				outcome = append(outcome, int(d.ids[next]))
			}
		}
	}
	units = len(outcome)
	write = make([]float64, v*units)
	bias := make([]float64, units)
	for u, id := range outcome {
		write[id*units+u] = 1
		bias[u] = -2
	}
	for _, w := range []struct {
		name   string
		values []float64
		shape  []int
	}{
		{"squares.weight", squares, []int{v, v}}, {"angles.weight", angles, []int{1, d.n, 2}}, {"q.weight", q, []int{6, 2}},
		{"k.weight", k, []int{6, 2}}, {"v.weight", copies, []int{3 * v, v}}, {"rules.weight", rules, []int{units, 3 * v}},
		{"rules.bias", bias, []int{units}}, {"write.weight", write, []int{v, units}},
	} {
		if err := params.Load(w.name, tensor.New(tensor.WithShape(w.shape...), tensor.WithBacking(w.values))); err != nil {
			return 0, err
		}
	}
	return units, nil
}

// follows is what is on a square after three squares of the time before; false where the head would be in two places.
func (d *Decoder) follows(left, here, right Cell) (Cell, bool) {
	heads := 0
	for _, c := range [3]Cell{left, here, right} {
		if c.State != 0 {
			heads++
		}
	}
	if heads > 1 {
		return Cell{}, false
	}
	next := here
	if r, ok := d.machine.Rules[[2]byte{here.State, here.Symbol}]; ok {
		next = Cell{Symbol: r.Write}
	}
	if r, ok := d.machine.Rules[[2]byte{left.State, left.Symbol}]; ok && r.Move > 0 {
		next.State = r.Next
	}
	if r, ok := d.machine.Rules[[2]byte{right.State, right.Symbol}]; ok && r.Move < 0 {
		next.State = r.Next
	}
	return next, true
}

// Run gives the decoder the first tape and lets it write the others, token by token.
func (d *Decoder) Run(first Tape) ([]Tape, error) {
	if len(first) != d.width {
		return nil, fmt.Errorf("a tape of %d squares for a decoder of %d", len(first), d.width)
	}
	text := make([]int32, 1, d.n) // a blank square, so that every square has a left neighbour
	for _, c := range first {
		text = append(text, d.ids[c])
	}
	for len(text) < d.n {
		copy(d.input, text)
		clear(d.input[len(text):])
		if err := d.program.Run(); err != nil {
			return nil, err
		}
		v := len(d.tokens)
		logits := engine.Floats[float64](d.program.Value(d.logits))[(len(text)-1)*v:][:v]
		best := 0
		for id, x := range logits {
			if x > logits[best] {
				best = id
			}
		}
		text = append(text, int32(best))
	}
	var trace []Tape
	for at := 1; at < d.n; at += d.width {
		t := make(Tape, d.width)
		for c := range t {
			t[c] = d.tokens[text[at+c]]
		}
		trace = append(trace, t)
	}
	return trace, nil
}
