package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// An idle worker looks for work for spinFor, then also lets other goroutines and threads run until parkAfter, then sleeps. Waking a
// sleeping worker costs a call 60 to 120 us on a virtual machine, as long as a whole phase of a small product.
const (
	spinFor   = 50 * time.Microsecond
	parkAfter = 200 * time.Microsecond
	spins     = 256 // looks between two readings of the clock
)

// pool runs one job at a time. A job is a list of phases; the tasks of a phase start when all of the phase before are done.
// seq is odd while a job is open to workers; active counts those inside, so that the fields are not reused under them.
type pool struct {
	mu      sync.Mutex // held by the caller whose job runs
	seq     atomic.Uint64
	_       [56]byte
	active  atomic.Int64
	_       [56]byte
	failed  atomic.Bool
	failure any
	limit   int // workers of this job, the caller among them
	phases  int
	tasks   func(phase int) int
	fn      func(worker, phase, task int)
	par     func(worker, i int) // of Par, which has one phase of parN tasks
	parN    int
	state   []phaseState
	workers []*worker
}

type phaseState struct {
	next, done atomic.Int64
	_          [48]byte
}

type worker struct {
	parked atomic.Bool
	wake   chan struct{}
	_      [48]byte
}

var (
	shared      pool
	workerLimit = runtime.NumCPU() // raised by tests
)

// Workers is the number of workers of the next call: min(GOMAXPROCS, CPUs). A worker index is below it.
func Workers() int { return min(runtime.GOMAXPROCS(0), workerLimit) }

// Par runs fn(worker, i) for every i in [0, n). Tasks are taken from a counter, so a result must not depend on which worker
// does which. A call from inside a task, or while another goroutine's call runs, is done by the caller alone, as worker 0:
// scratch indexed by worker must belong to the call. A panic in a task is raised again in the caller.
// Nothing is allocated here; a func literal that captures variables is (by its maker), so hot callers keep theirs.
func Par(n int, fn func(worker, i int)) {
	w := min(Workers(), n)
	if w <= 1 || !shared.mu.TryLock() {
		for i := range n {
			fn(0, i)
		}
		return
	}
	shared.par, shared.parN = fn, n
	shared.run(w, 1, parTasks, parTask)
}

var (
	parTasks = func(int) int { return shared.parN }
	parTask  = func(worker, _, task int) { shared.par(worker, task) }
)

// Phases runs fn(worker, phase, task) for the tasks(p) tasks of every phase p, all of one phase before any of the next.
// Otherwise it is as Par. tasks is called by every worker and must depend on p alone.
func Phases(phases int, tasks func(phase int) int, fn func(worker, phase, task int)) {
	w := Workers()
	if w <= 1 || !shared.mu.TryLock() {
		for p := range phases {
			for i := range tasks(p) {
				fn(0, p, i)
			}
		}
		return
	}
	shared.run(w, phases, tasks, fn)
}

// run is called with mu held and releases it.
func (p *pool) run(limit, phases int, tasks func(int) int, fn func(worker, phase, task int)) {
	if len(p.state) < phases {
		p.state = make([]phaseState, phases)
	}
	for i := range phases {
		p.state[i].next.Store(0)
		p.state[i].done.Store(0)
	}
	p.limit, p.phases, p.tasks, p.fn = limit, phases, tasks, fn
	for len(p.workers) < limit-1 {
		w := &worker{wake: make(chan struct{}, 1)}
		p.workers = append(p.workers, w)
		go w.loop(len(p.workers), p)
	}
	p.seq.Add(1)
	for _, w := range p.workers[:limit-1] {
		if w.parked.Load() {
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
	p.work(0)
	p.seq.Add(1)
	var wait spinner
	for p.active.Load() != 0 {
		wait.turn()
	}
	failed, failure := p.failed.Load(), p.failure
	p.failed.Store(false)
	p.failure, p.tasks, p.fn, p.par = nil, nil, nil, nil
	p.mu.Unlock()
	if failed {
		panic(failure)
	}
}

// work does tasks of all phases until none is left.
func (p *pool) work(worker int) {
	defer func() {
		if r := recover(); r != nil && p.failed.CompareAndSwap(false, true) {
			p.failure = r
		}
	}()
	for ph := range p.phases {
		s, n := &p.state[ph], int64(p.tasks(ph))
		for i := s.next.Add(1) - 1; i < n; i = s.next.Add(1) - 1 {
			p.fn(worker, ph, int(i))
			s.done.Add(1)
		}
		var wait spinner
		for s.done.Load() < n {
			if p.failed.Load() {
				return
			}
			wait.turn()
		}
	}
}

func (w *worker) loop(id int, p *pool) {
	var last uint64
	var idle spinner
	for {
		seq := p.seq.Load()
		if seq == last || seq%2 == 0 {
			if idle.turn() < parkAfter {
				continue
			}
			w.parked.Store(true)
			if p.seq.Load() == seq {
				<-w.wake
			}
			w.parked.Store(false)
			idle = spinner{}
			continue
		}
		last = seq
		p.active.Add(1)
		if p.seq.Load() == seq && id < p.limit {
			p.work(id)
		}
		p.active.Add(-1)
		idle = spinner{}
	}
}

// spinner waits: busily at first, then letting others have the core, within the process and without.
// Beside two other busy programs on two cores a step of band at T=256 took 0.35 s without the second and 0.09 with it, at T=4,096 2.2 and 1.5.
type spinner struct {
	turns int
	start time.Time
}

// turn is one look that found nothing. It returns for how long that has been so (0 while the clock is not read).
func (s *spinner) turn() time.Duration {
	if s.turns++; s.turns%spins != 0 {
		return 0
	}
	if s.start.IsZero() {
		s.start = time.Now()
	}
	d := time.Since(s.start)
	if d > spinFor { // on a loaded machine to go on burning the core keeps from it the very thread that is waited for
		runtime.Gosched()
		yield()
	}
	return d
}
