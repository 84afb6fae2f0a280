package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Plan describes the memory and the work of a Program.
type Plan struct {
	Nodes   int // operations that run
	Views   int // nodes that only show memory of others
	Arena   int // bytes of memory for all results
	Live    int // bytes that are in use at the peak: the least that an arena could have
	Outputs int // bytes of the arena that outputs hold to the end, such as gradients
	Inputs  int // bytes of graph inputs and parameters
	Passing int // the most bytes in use at once of floating-point results that are no outputs: what of a training step grows with its depth, or not
	Whole   int // the same of whole numbers, such as what was chosen by content
	PeakAt  string
	Holding []Holding // what is in use at the peak, largest first
	Flops   map[string]float64
}

// Holding is a buffer in use at the peak.
type Holding struct {
	Bytes     int
	Scope, Op string
}

// Fragmentation is the part of the arena that is not in use at the peak.
func (p *Plan) Fragmentation() float64 {
	if p.Arena == 0 {
		return 0
	}
	return 1 - float64(p.Live)/float64(p.Arena)
}

// TotalFlops is the number of floating-point operations of one run.
func (p *Plan) TotalFlops() float64 {
	t := 0.0
	for _, k := range keys(p.Flops) {
		t += p.Flops[k]
	}
	return t
}

func keys[V any](m map[string]V) []string {
	r := make([]string, 0, len(m))
	for k := range m {
		r = append(r, k)
	}
	slices.Sort(r)
	return r
}

func newPlan(steps []step, bufs []buffer, arena int) *Plan {
	p := &Plan{Arena: arena, Flops: map[string]float64{}}
	change := make([]int, len(steps)+1)
	passing := [2][]int{make([]int, len(steps)+1), make([]int, len(steps)+1)} // of floats, of whole numbers
	for i, b := range bufs {
		switch r, _ := root(bufs, i); {
		case b.bound != nil:
			p.Inputs += b.bytes
		case r == i:
			change[b.def] += roundUp(b.bytes)
			if b.last < len(steps) {
				change[b.last+1] -= roundUp(b.bytes)
				kind := 1
				if steps[b.def].typ.IsFloat() {
					kind = 0
				}
				passing[kind][b.def] += roundUp(b.bytes)
				passing[kind][b.last+1] -= roundUp(b.bytes)
			} else {
				p.Outputs += b.bytes
			}
		}
	}
	live, peak := 0, 0
	for i, s := range steps {
		if live += change[i]; live > p.Live {
			p.Live, peak = live, i
		}
		switch {
		case !s.alias:
			p.Nodes++
		case s.node.Op() != nil:
			p.Views++
		}
		if s.flops > 0 {
			p.Flops[s.name] += s.flops
		}
	}
	p.Passing, p.Whole = highest(passing[0]), highest(passing[1])
	p.PeakAt = steps[peak].prefix() + steps[peak].name
	p.Holding = holding(steps, bufs, peak)
	return p
}

// highest is the largest sum of the first changes.
func highest(change []int) (top int) {
	sum := 0
	for _, c := range change {
		sum += c
		top = max(top, sum)
	}
	return top
}

// holding lists the buffers in use at a step, each under the name of the last node that wrote it by then.
func holding(steps []step, bufs []buffer, at int) []Holding {
	by := map[int]int{}
	for i, s := range steps {
		if s.alias {
			continue
		}
		r, _ := root(bufs, s.buf)
		if _, ok := by[r]; i <= at || !ok {
			by[r] = i
		}
	}
	var hs []Holding
	for r, b := range bufs {
		if i, ok := by[r]; ok && b.bound == nil && b.into < 0 && b.def <= at && at <= b.last {
			hs = append(hs, Holding{b.bytes, steps[i].scope, steps[i].name})
		}
	}
	slices.SortStableFunc(hs, func(a, b Holding) int { return b.Bytes - a.Bytes })
	return hs
}

// String is the plan as text.
func (p *Plan) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "nodes      %d, views %d\n", p.Nodes, p.Views)
	fmt.Fprintf(&s, "memory     %s of results (%s of outputs; peak %s, %.1f %% lost to fragmentation), %s of inputs and parameters\n",
		Bytes(p.Arena), Bytes(p.Outputs), Bytes(p.Live), 100*p.Fragmentation(), Bytes(p.Inputs))
	fmt.Fprintf(&s, "passing    %s at most besides outputs", Bytes(p.Passing))
	if p.Whole > 0 {
		fmt.Fprintf(&s, ", and %s of whole numbers", Bytes(p.Whole))
	}
	fmt.Fprintf(&s, "\npeak at    %s\n", p.PeakAt)
	for i, h := range p.Holding {
		if i == 8 {
			rest := 0
			for _, h := range p.Holding[i:] {
				rest += h.Bytes
			}
			fmt.Fprintf(&s, "%12s  %d more\n", Bytes(rest), len(p.Holding)-i)
			break
		}
		fmt.Fprintf(&s, "%12s  %s\n", Bytes(h.Bytes), joinScope(h.Scope, h.Op))
	}
	fmt.Fprintf(&s, "work       %.4g GFLOP a run\n", p.TotalFlops()/1e9)
	kinds := keys(p.Flops)
	slices.SortStableFunc(kinds, func(a, b string) int { return cmp.Compare(p.Flops[b], p.Flops[a]) })
	for _, k := range kinds {
		fmt.Fprintf(&s, "%12.4g  %s\n", p.Flops[k]/1e9, k)
	}
	return s.String()
}

func joinScope(scope, op string) string {
	if scope == "" {
		return op
	}
	return scope + ": " + op
}

// Bytes formats a size.
func Bytes(n int) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// SetProfile switches the measurement of every node on (from zero) or off.
func (p *Program) SetProfile(on bool) {
	p.timed, p.runs = on, 0
	clear(p.timing)
}

// Profile is where the time of a run goes, by kind of operation and by scope, slowest first.
type Profile struct {
	Runs          int
	Total         time.Duration // of one run, mean
	ByOp, ByScope []ProfileRow
}

// ProfileRow is one line of a Profile; times are of one run.
type ProfileRow struct {
	Name  string
	Count int
	Time  time.Duration
	Flops float64
}

// Profile returns what was measured since SetProfile(true).
func (p *Program) Profile() *Profile {
	r := &Profile{Runs: p.runs}
	if p.runs == 0 {
		return r
	}
	ops, scopes := map[string]*ProfileRow{}, map[string]*ProfileRow{}
	for i, s := range p.steps {
		if s.alias {
			continue
		}
		t := p.timing[i] / time.Duration(p.runs)
		r.Total += t
		for _, e := range []struct {
			m map[string]*ProfileRow
			k string
		}{{ops, s.name}, {scopes, joinScope(s.scope, s.name)}} {
			row := e.m[e.k]
			if row == nil {
				row = &ProfileRow{Name: e.k}
				e.m[e.k] = row
			}
			row.Count++
			row.Time += t
			row.Flops += s.flops
		}
	}
	rows := func(m map[string]*ProfileRow) (r []ProfileRow) {
		for _, k := range keys(m) {
			r = append(r, *m[k])
		}
		slices.SortStableFunc(r, func(a, b ProfileRow) int { return cmp.Compare(b.Time, a.Time) })
		return r
	}
	r.ByOp, r.ByScope = rows(ops), rows(scopes)
	return r
}

// String is the profile as a table: all kinds, and the 20 slowest scopes.
func (r *Profile) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d runs, %v each\n", r.Runs, r.Total.Round(time.Microsecond))
	table := func(rows []ProfileRow) {
		for _, e := range rows {
			rate := ""
			if e.Flops > 0 && e.Time > 0 {
				rate = fmt.Sprintf("%7.1f GFLOP/s", e.Flops/float64(e.Time.Nanoseconds()))
			}
			fmt.Fprintf(&s, "%6.1f %% %12v %5d x  %-32s %s\n", 100*float64(e.Time)/float64(max(r.Total, 1)), e.Time.Round(time.Microsecond), e.Count, e.Name, rate)
		}
	}
	table(r.ByOp)
	s.WriteString("\n")
	table(r.ByScope[:min(20, len(r.ByScope))])
	return s.String()
}
