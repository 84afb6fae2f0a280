package data

import "fmt"

// WithLength is the part with sequences of another length: text is cut to any; of a task it is the part of the same task with another
// parameter length, in the same vocabulary. A distance near that no longer fits is shortened.
//
// Errors: ErrTask, if the task has no such parameter or is made from text, or refuses the length.
func (p *Part) WithLength(t int) (*Part, error) {
	if p.task == nil || t == p.task.task.length {
		return p, nil
	}
	fail := func(format string, args ...any) error {
		return &Error{Kind: ErrTask, Path: p.source, What: fmt.Sprintf(format, args...), Fix: "train without curriculum and stages of other lengths, or on another task"}
	}
	was := p.task.task
	kind, arguments, _ := taskKindOf(was.name)
	if was.bind != nil {
		return nil, fail("sequence_length %d is asked for, but this task is cut from text for one length", t)
	}
	v := kind.defaults()
	kind.set(v, arguments[:len(arguments)-1])
	if _, ok := v["length"]; !ok {
		return nil, fail("sequence_length %d is asked for, but this task has no parameter length", t)
	}
	v["length"] = t
	if near := v["near"]; near > t {
		v["near"] = t
	}
	is, faults := kind.build(v)
	if len(faults) > 0 {
		return nil, fail("%s", faults[0])
	}
	is.name, is.sizes = kind.spec(v), was.sizes
	q, e := *p, *p.task
	e.task = is
	q.task = &e
	return &q, nil
}
