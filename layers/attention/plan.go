package attention

import (
	"slices"
	"sync"
)

// plan lists keys by query and queries by key.
type plan struct {
	rowPtr, rows []int32
	colPtr, cols []int32
	labels       []int32 // of the pairs in the order of rows, of patterns that have any
}

func (p *plan) row(i int) []int32 { return p.rows[p.rowPtr[i]:p.rowPtr[i+1]] }
func (p *plan) col(j int) []int32 { return p.cols[p.colPtr[j]:p.colPtr[j+1]] }
func (p *plan) has(i, j int) bool {
	_, ok := slices.BinarySearch(p.row(i), int32(j))
	return ok
}

// newPlan lists n rows, whose keys are below n and sorted.
func newPlan(n int, row func(i int) []int) *plan {
	p := &plan{rowPtr: make([]int32, n+1)}
	for i := range n {
		for _, j := range row(i) {
			p.rows = append(p.rows, int32(j))
		}
		p.rowPtr[i+1] = int32(len(p.rows))
	}
	p.transpose()
	return p
}

// transpose lists queries by key.
func (p *plan) transpose() {
	n := len(p.rowPtr) - 1
	p.colPtr = make([]int32, n+1)
	for _, j := range p.rows {
		p.colPtr[j+1]++
	}
	for j := range n {
		p.colPtr[j+1] += p.colPtr[j]
	}
	p.cols = make([]int32, len(p.rows))
	next := slices.Clone(p.colPtr)
	for i := range n {
		for _, j := range p.row(i) {
			p.cols[next[j]] = int32(i)
			next[j]++
		}
	}
}

// plans keeps the plans of one atom by length.
type plans struct {
	mu sync.Mutex
	of map[int]*plan
}

// maxPlans bounds how many lengths are kept.
const maxPlans = 32

func newPlans() *plans { return &plans{of: map[int]*plan{}} }

// get returns the plan for a length, made if there is none.
func (c *plans) get(length int, build func() *plan) *plan {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.of[length]
	if p == nil {
		if len(c.of) >= maxPlans {
			clear(c.of)
		}
		p = build()
		c.of[length] = p
	}
	return p
}
