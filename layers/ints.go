package layers

import (
	"fmt"
	"slices"
)

// Ints is a table of whole numbers that is part of a model and stored with its weights, but not trained: the plan of a random graph.
type Ints struct {
	Name   string // scope path and name, as of a Param
	Shape  []int
	Values []int32
}

// Ints looks a table up.
func (p *Params) Ints(name string) (*Ints, bool) {
	at := slices.IndexFunc(p.ints, func(q *Ints) bool { return q.Name == name })
	if at < 0 {
		return nil, false
	}
	return p.ints[at], true
}

// AllInts returns the tables in the order in which they were added. The slice must not be changed.
func (p *Params) AllInts() []*Ints { return p.ints }

// SetInts puts a table in the place of one of its name, or adds it. Graphs that are built already keep what they were built with.
// Errors: the values are not of the shape; the name is that of a weight.
func (p *Params) SetInts(name string, shape []int, values []int32) error {
	size := 1
	for _, d := range shape {
		size *= d
	}
	if size != len(values) {
		return fmt.Errorf("table %s: %d values for shape %v", name, len(values), shape)
	}
	if p.names[name] != nil {
		return fmt.Errorf("table %s: there is a weight of that name", name)
	}
	t := &Ints{name, slices.Clone(shape), slices.Clone(values)}
	if at := slices.IndexFunc(p.ints, func(q *Ints) bool { return q.Name == name }); at >= 0 {
		p.ints[at] = t
	} else {
		p.ints = append(p.ints, t)
	}
	return nil
}
