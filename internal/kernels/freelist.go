package kernels

import "sync"

// FreeList keeps what an operation works with, and its memory, for the next run. Unlike a sync.Pool it does not drop it when memory is collected.
type FreeList[T any] struct {
	mu   sync.Mutex
	free []*T
}

// Take returns one that is not in use, as its last user left it; where there is none, a new one made by fresh (nil: the zero value).
func (l *FreeList[T]) Take(fresh func() *T) *T {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		x := l.free[n-1]
		l.free = l.free[:n-1]
		return x
	}
	if fresh == nil {
		return new(T)
	}
	return fresh()
}

// Give puts one back. What it must not keep alive is cleared before.
func (l *FreeList[T]) Give(x *T) {
	l.mu.Lock()
	l.free = append(l.free, x)
	l.mu.Unlock()
}

// FreeListOf is the one of the lists of float32 and of float64 that holds T.
func FreeListOf[T any](l32, l64 any) *FreeList[T] {
	if l, ok := l32.(*FreeList[T]); ok {
		return l
	}
	return l64.(*FreeList[T])
}
