package data

import (
	"fmt"
	"maps"
	"strings"
)

// WithLength is the part with sequences of another length: text is cut to any; of a task it is the part of the same task with examples of exactly t
// tokens, by the same rule, with the same ids and answers. What does not fit into shorter ones becomes less: the pairs of mqar, the
// sections, a distance near.
//
// Where positions are absolute, short examples belong at the right end of the long ones: what asks at their end then asks at the same position
// whatever the length.
//
// Errors: ErrTask, if the task has no examples of this length; ErrTooShort, if its text has none.
func (p *Part) WithLength(t int) (*Part, error) {
	if p.task == nil || t == p.task.task.length {
		return p, nil
	}
	was := p.task.task
	v := maps.Clone(was.values)
	is, faults := was, []string{fmt.Sprintf("it has no examples of %d tokens", t)}
	if was.kind.resize(v, t) {
		is, faults = was.kind.build(v)
		if len(faults) == 0 && (is.length != t || t > maxTaskLength) {
			faults = []string{fmt.Sprintf("the nearest length to %d that it has is %d", t, is.length)}
		}
	}
	if len(faults) > 0 {
		return nil, &Error{Kind: ErrTask, Path: p.source, What: fmt.Sprintf("sequences of %d tokens are asked for, but ", t) + strings.Join(faults, ", and "),
			Fix: "train with other lengths, or on another task"}
	}
	if is.bind != nil {
		if err := is.bind(p.task.bound); err != nil {
			return nil, err
		}
	}
	is.name, is.kind, is.values, is.sizes = was.kind.spec(v), was.kind, v, was.sizes
	q, e := *p, *p.task
	e.task, q.task = is, &e
	return &q, nil
}
