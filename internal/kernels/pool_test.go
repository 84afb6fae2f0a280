package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParDoesEveryTaskOnce(t *testing.T) {
	for _, w := range []int{1, 2, 3, 5} {
		withWorkers(w, func() {
			require.Equal(t, w, Workers())
			for n := range 67 {
				var done [67]atomic.Int32
				var outside atomic.Int32
				Par(n, func(worker, i int) {
					done[i].Add(1)
					if worker < 0 || worker >= w {
						outside.Add(1)
					}
				})
				require.Zero(t, outside.Load())
				for i := range done {
					require.EqualValues(t, flag(i < n), done[i].Load(), "%d workers, task %d of %d", w, i, n)
				}
			}
		})
	}
}

func TestPhasesAreInOrder(t *testing.T) {
	for _, w := range []int{1, 2, 3, 5} {
		withWorkers(w, func() {
			var done [7]atomic.Int32
			var early atomic.Int32
			tasks := func(p int) int { return (p * 5) % 11 } // one phase has none
			for range 50 {
				for p := range done {
					done[p].Store(0)
				}
				Phases(len(done), tasks, func(_, p, task int) {
					for q := range p {
						if done[q].Load() != int32(tasks(q)) {
							early.Add(1)
						}
					}
					done[p].Add(1)
				})
				for p := range done {
					require.EqualValues(t, tasks(p), done[p].Load())
				}
			}
			require.Zero(t, early.Load())
		})
	}
}

func TestParInsideParAndBesideIt(t *testing.T) {
	withWorkers(3, func() {
		var sum atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 20 {
					Par(7, func(_, i int) {
						Par(5, func(_, j int) { sum.Add(int64(i*5 + j)) })
					})
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 4*20*(35*34/2), sum.Load())
	})
}

func TestParRaisesThePanicOfATask(t *testing.T) {
	withWorkers(3, func() {
		for bad := range 29 {
			require.PanicsWithValue(t, bad, func() {
				Phases(3, func(int) int { return 29 }, func(_, p, i int) {
					if p == 1 && i == bad {
						panic(i)
					}
				})
			})
			n := atomic.Int32{} // and the pool still works
			Par(13, func(int, int) { n.Add(1) })
			require.EqualValues(t, 13, n.Load())
		}
	})
}

func TestSleepingWorkersWake(t *testing.T) {
	withWorkers(2, func() {
		for range 5 {
			Par(2, func(int, int) {})
			time.Sleep(3 * parkAfter)
			var both atomic.Int32
			Par(2, func(int, int) {
				both.Add(1)
				for start := time.Now(); both.Load() < 2 && time.Since(start) < 10*time.Second; {
					runtime.Gosched()
				}
			})
			require.EqualValues(t, 2, both.Load())
		}
	})
}

func TestParAllocatesNothing(t *testing.T) {
	withWorkers(3, func() {
		task := func(int, int) {}
		require.Zero(t, mallocs(50, func() { Par(5, task) }))
		tasks, phase := func(int) int { return 3 }, func(int, int, int) {}
		require.Zero(t, mallocs(50, func() { Phases(4, tasks, phase) }))
	})
}

func BenchmarkPar(b *testing.B) {
	task := func(int, int) {}
	for b.Loop() {
		Par(2, task)
	}
}
