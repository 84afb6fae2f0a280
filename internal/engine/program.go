package engine

import (
	"fmt"
	"math"
	"runtime/debug"
	"time"
	"unsafe"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// Options of Compile.
type Options struct {
	// Scope, if set, returns the scope path of a node ("decoder.h.3.attn.q"), "" if it has none. Gradients and rebuilt nodes
	// are traced back to the node they belong to.
	Scope func(*Node) string
	// CheckFinite makes Run stop at the first node whose result holds a NaN or an infinity, with an error that names it.
	CheckFinite bool
	// Poison fills memory with NaN before it is written and after its last use. A plan that is right gives the same results.
	Poison bool

	private bool // every node its own memory: the plan that cannot be wrong, for tests
}

// Program runs what some outputs of a graph need, on memory planned beforehand. It is a gorgonia.VM.
// It may not run concurrently with itself.
type Program struct {
	steps  []step
	bufs   []buffer
	values map[*Node]Value
	opts   Options
	plan   *Plan
	arena  []byte
	at     int
	dying  [][]int // with Poison: buffers whose last use is the step
	timing []time.Duration
	runs   int
	timed  bool
}

var _ gorgonia.VM = (*Program)(nil)

// Compile plans the nodes that outputs need, in the order of their creation. Values of graph inputs are those bound now: fill
// their memory before each Run, do not bind others.
func Compile(g *gorgonia.ExprGraph, outputs Nodes, o Options) (*Program, error) {
	if len(outputs) == 0 {
		return nil, fmt.Errorf("compile: no outputs")
	}
	for i, n := range outputs {
		if n == nil || n.Graph() != g {
			return nil, fmt.Errorf("compile: output %d is not a node of the graph", i)
		}
	}
	steps, bufs, err := lay(outputs, o, !o.private)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	p := &Program{steps: steps, bufs: bufs, opts: o, values: make(map[*Node]Value, len(outputs))}
	bytes := offsets(bufs)
	p.arena = newArena(bytes + align) // an empty value may lie at the end
	for i := range steps {
		p.bind(i)
	}
	p.plan = newPlan(steps, bufs, bytes)
	index := make(map[*Node]int, len(steps))
	for i, s := range steps {
		index[s.node] = i
	}
	for _, n := range outputs {
		p.values[n] = steps[index[n]].out
	}
	p.timing = make([]time.Duration, len(steps))
	if o.Poison {
		p.dying = make([][]int, len(steps))
		for i, b := range bufs {
			if b.bound == nil && b.into < 0 && b.last != forever {
				p.dying[b.last] = append(p.dying[b.last], i)
			}
		}
	}
	return p, nil
}

// bind makes the values of a step.
func (p *Program) bind(i int) {
	s := &p.steps[i]
	if s.out == nil {
		s.out = valueAt(s.typ, p.pointer(s.buf, s.off))
	}
	s.in = make([]Value, len(s.kids))
	for k, c := range s.kids {
		if c >= 0 {
			s.in[k] = p.steps[c].out
		}
	}
}

func (p *Program) pointer(buf, off int) unsafe.Pointer {
	r, at := root(p.bufs, buf)
	if b := p.bufs[r].bound; b != nil {
		return unsafe.Add(b, off)
	}
	return unsafe.Pointer(&p.arena[p.bufs[r].offset+at+off])
}

// Value returns the value of an output or a graph input, nil for other nodes. What an output holds is valid until the next Run.
func (p *Program) Value(n *Node) Value {
	if n.Op() == nil {
		return n.Value()
	}
	return p.values[n]
}

// Plan describes the program.
func (p *Program) Plan() *Plan { return p.plan }

// RunAll is Run, for gorgonia.VM.
func (p *Program) RunAll() error { return p.Run() }

// Reset does nothing: a Program is always ready to run.
func (p *Program) Reset() {}

// Close releases the memory. The program and its values must not be used afterwards.
func (p *Program) Close() error {
	*p = Program{plan: p.plan}
	return nil
}

// Run computes the outputs. In a steady state it allocates nothing (as far as operations do not). An error names the scope
// and kind of the node; a panic in an operation becomes an error.
func (p *Program) Run() (err error) {
	if p.arena == nil {
		return fmt.Errorf("run: the program is closed")
	}
	defer func() {
		if r := recover(); r != nil {
			s := &p.steps[p.at]
			err = &PanicError{Scope: s.scope, Op: s.name, Value: r, Stack: debug.Stack()}
		}
	}()
	if p.timed {
		p.runs++
	}
	for i := range p.steps {
		s := &p.steps[i]
		if s.alias {
			if p.opts.Poison {
				p.bury(i)
			}
			continue
		}
		p.at = i
		if p.opts.Poison {
			p.poison(s)
		}
		var start time.Time
		if p.timed {
			start = time.Now()
		}
		if s.op != nil {
			err = s.op.Run(s.out, s.in)
		} else {
			err = runStock(s)
		}
		if p.timed {
			p.timing[i] += time.Since(start)
		}
		if err != nil {
			return fmt.Errorf("%s%s: %w", s.prefix(), s.name, err)
		}
		if p.opts.CheckFinite {
			if err = s.finite(); err != nil {
				return err
			}
		}
		if p.opts.Poison {
			p.bury(i)
		}
	}
	return nil
}

// PanicError is a panic of an operation.
type PanicError struct {
	Scope, Op string
	Value     any
	Stack     []byte
}

func (e *PanicError) Error() string {
	s := step{scope: e.Scope}
	return fmt.Sprintf("%s%s: panic: %v", s.prefix(), e.Op, e.Value)
}

// NonFiniteError tells where the first NaN or infinity came from.
type NonFiniteError struct {
	Scope, Op string
	Index     int // of the element
	Value     float64
}

func (e *NonFiniteError) Error() string {
	s := step{scope: e.Scope}
	return fmt.Sprintf("%s%s: element %d of the result is %v", s.prefix(), e.Op, e.Index, e.Value)
}

// runStock runs an operation of Gorgonia itself.
func runStock(s *step) error {
	v, err := s.stock.Do(s.in...)
	if err != nil {
		return err
	}
	if !v.Shape().Eq(s.typ.Shape) && v.Shape().TotalSize() != s.typ.Size() {
		return fmt.Errorf("the result has shape %v instead of %v", v.Shape(), s.typ.Shape)
	}
	if d, ok := v.(*tensor.Dense); ok && d.RequiresIterator() {
		v = d.Materialize().(*tensor.Dense)
	}
	switch s.typ.Dtype {
	case tensor.Float32:
		copy(Floats[float32](s.out), Floats[float32](v))
	case tensor.Float64:
		copy(Floats[float64](s.out), Floats[float64](v))
	default:
		copy(Ints(s.out), Ints(v))
	}
	return nil
}

func (s *step) finite() error {
	_, nanOnly := s.op.(NonFinite)
	i, v := -1, 0.0
	switch s.typ.Dtype {
	case tensor.Float32:
		i, v = firstBad(Floats[float32](s.out), nanOnly)
	case tensor.Float64:
		i, v = firstBad(Floats[float64](s.out), nanOnly)
	}
	if i < 0 {
		return nil
	}
	return &NonFiniteError{Scope: s.scope, Op: s.name, Index: i, Value: v}
}

// firstBad finds the first NaN or infinity, -1 if there is none.
func firstBad[F kernels.Float](x []F, nanOnly bool) (int, float64) {
	if kernels.AllFinite(x) {
		return -1, 0
	}
	for i, v := range x {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) && !nanOnly {
			return i, f
		}
	}
	return -1, 0
}
