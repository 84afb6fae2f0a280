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
	Stored bool // read from a file or trained with; else it is what the config draws, and no file has to hold it
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

// StoreInts makes all tables part of what is stored: from now on they belong to the weights.
func (p *Params) StoreInts() {
	for _, t := range p.ints {
		t.Stored = true
	}
}

// SetInts puts a stored table in the place of one of its name, or adds it. Graphs that are built already keep what they were built with.
// Errors: the values are not of the shape; the name is that of a weight.
func (p *Params) SetInts(name string, shape []int, values []int32) error {
	return p.setInts(name, shape, values, true)
}

// DrawInts adds a table that the config draws. Errors: those of SetInts.
func (p *Params) DrawInts(name string, shape []int, values []int32) error {
	return p.setInts(name, shape, values, false)
}

func (p *Params) setInts(name string, shape []int, values []int32, stored bool) error {
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
	t := &Ints{name, slices.Clone(shape), slices.Clone(values), stored}
	if at := slices.IndexFunc(p.ints, func(q *Ints) bool { return q.Name == name }); at >= 0 {
		p.ints[at] = t
	} else {
		p.ints = append(p.ints, t)
	}
	return nil
}
