package data

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
)

// A synthetic task is a rule that makes examples: T tokens, and at some places of them the token that has to come next. It is written
//
//	needle                      with the defaults
//	needle(length=64,near=16)   with some parameters
//
// wherever data.task or "--data task:NAME" is read. Example number i of a part is a function of (task, part, i) alone: nothing is stored,
// the parts share no example's random numbers, and a run goes on from its position as with text.

// taskKinds is every task, in the order of the documentation.
var taskKinds = []taskKind{needleTask, copyTask, reverseTask, duplicateTask, mqarTask, twinTask, passkeyTask, sectionsTask,
	sumTask, parityTask, sortTask, shuffledTask, matchingTask, cpcTask, sectionOrderTask, typesTask, fetchTask, excerptTask, pointerTask, blocksTask}

// taskKind is a task before its parameters are known.
type taskKind struct {
	name    string
	summary string
	text    bool // is made from text: data.path, or the embedded book
	pairs   bool // is made from pairs or classes, which the book has not
	params  []taskParam
	later   []taskParam                          // that came when the task had been used already: a name without them means their defaults
	build   func(v taskValues) (*task, []string) // the task, and what is wrong with the values together
	// resize changes the values to those of examples of t tokens, or somewhat less, with the same ids; false if there are none.
	resize func(v taskValues, t int) bool
}

// taskParam is a whole number that a task depends on.
type taskParam struct {
	name              string
	value, least, max int
}

// taskValues are the parameters by name.
type taskValues map[string]int

// task makes examples.
type task struct {
	name     string // in full: with every parameter
	length   int    // T
	answers  int    // targets of an example
	words    *words // its vocabulary; nil: bytes
	special  bool   // its vocabulary is that of the text, with Specials
	sections bool   // the text has to have sections
	shape    Shape  // what its batches have besides ids and targets
	sizes    [3]int // examples of train, val, test
	kind     *taskKind
	values   taskValues

	// draw writes an example over what example says is there before.
	draw func(r *stream, part int, x *example)
	// finish, if not nil, completes a batch of examples with what depends on all of them.
	finish func(b *Batch)
	// bind gives it its text, if it is made from text.
	bind func(parts [3]*Part) error
	// text, if not nil, changes the configuration of that text.
	text func(c *Config)
}

// maxTaskLength bounds the length of an example.
const maxTaskLength = 1 << 20

// sizeParams are parameters of every task: how many examples the parts have.
var sizeParams = []taskParam{{"train", 50_000, 1, 1 << 30}, {"val", 1000, 1, 1 << 30}, {"test", 2000, 1, 1 << 30}}

// TaskInfo says what a task is, for people.
type TaskInfo struct {
	Name    string
	Usage   string // with all parameters and their defaults
	Summary string
	Text    bool // is made from text
	Pairs   bool // is made from pairs or classes: it needs data.path
}

// Tasks lists the synthetic tasks.
func Tasks() []TaskInfo {
	var all []TaskInfo
	for _, k := range taskKinds {
		all = append(all, TaskInfo{k.name, k.usage(), k.summary, k.text, k.pairs})
	}
	return all
}

func taskNames() []string {
	var all []string
	for _, k := range taskKinds {
		all = append(all, k.name)
	}
	return all
}

// all are the parameters, with those of every task.
func (k *taskKind) all() []taskParam { return slices.Concat(k.params, k.later, sizeParams) }

func (k *taskKind) defaults() taskValues {
	v := taskValues{}
	for _, p := range k.all() {
		v[p.name] = p.value
	}
	return v
}

// usage writes a task with all its parameters and their defaults.
func (k *taskKind) usage() string {
	return k.write(k.defaults(), func(taskParam) bool { return true })
}

// spec is the one name of a task with its parameters.
func (k *taskKind) spec(v taskValues) string {
	return k.write(v, func(p taskParam) bool { return v[p.name] != p.value || !slices.Contains(k.later, p) })
}

func (k *taskKind) write(v taskValues, shown func(taskParam) bool) string {
	var args []string
	for _, p := range k.all() {
		if shown(p) {
			args = append(args, p.name+"="+strconv.Itoa(v[p.name]))
		}
	}
	return k.name + "(" + strings.Join(args, ",") + ")"
}

// taskKindOf finds the kind that a task's name begins with.
func taskKindOf(spec string) (kind *taskKind, arguments string, found bool) {
	name, arguments, _ := strings.Cut(spec, "(")
	name = strings.TrimSpace(name)
	for i := range taskKinds {
		if taskKinds[i].name == name {
			return &taskKinds[i], arguments, true
		}
	}
	return nil, "", false
}

// parseTask reads NAME or NAME(PARAMETER=NUMBER,...) and reports every fault of it at once.
//
// Errors: ErrUnknownTask, ErrTask.
func parseTask(spec string) (*task, error) {
	k, arguments, ok := taskKindOf(spec)
	if !ok {
		return nil, unknownTask(spec)
	}
	fail := func(faults ...string) error {
		return &Error{Kind: ErrTask, Path: "task:" + spec, What: strings.Join(faults, ", and "), Fix: "the parameters and their defaults are " + k.usage()}
	}
	v := k.defaults()
	if strings.Contains(spec, "(") {
		inside, closed := strings.CutSuffix(strings.TrimSpace(arguments), ")")
		if !closed {
			return nil, fail(`the closing ")" is missing`)
		}
		if faults := k.set(v, inside); len(faults) > 0 {
			return nil, fail(faults...)
		}
	}
	t, faults := k.build(v)
	if t.length > maxTaskLength {
		faults = append(faults, fmt.Sprintf("the examples would have %d tokens, want at most %d", t.length, maxTaskLength))
	}
	if len(faults) > 0 {
		return nil, fail(faults...)
	}
	t.name, t.kind, t.values = k.spec(v), k, v
	t.sizes = [3]int{v["train"], v["val"], v["test"]}
	return t, nil
}

func unknownTask(spec string) error {
	name, _, _ := strings.Cut(spec, "(")
	names := taskNames()
	what := fmt.Sprintf("unknown task %q", name)
	if near := config.Nearest(name, names); near != "" {
		what += fmt.Sprintf(", did you mean %q?", near)
	}
	return &Error{Kind: ErrUnknownTask, Path: "task:" + spec, What: what, Fix: "the tasks are " + strings.Join(names, ", ")}
}

// set changes the values that arguments name and returns what is wrong with these.
func (k *taskKind) set(v taskValues, arguments string) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	params := k.all()
	var names, seen []string
	for _, p := range params {
		names = append(names, p.name)
	}
	if strings.TrimSpace(arguments) == "" {
		return nil
	}
	for arg := range strings.SplitSeq(arguments, ",") {
		name, text, ok := strings.Cut(arg, "=")
		name, text = strings.TrimSpace(name), strings.TrimSpace(text)
		at := slices.Index(names, name)
		switch {
		case at < 0:
			near := ""
			if n := config.Nearest(name, names); n != "" {
				near = fmt.Sprintf(", did you mean %q?", n)
			}
			fault("unknown parameter %q%s", name, near)
			continue
		case !ok:
			fault("%s has no value (want %s=NUMBER)", name, name)
			continue
		case slices.Contains(seen, name):
			fault("%s is given twice", name)
			continue
		}
		seen = append(seen, name)
		p := params[at]
		if n, err := strconv.Atoi(text); err != nil || n < p.least || n > p.max {
			fault("%s is %s, want a whole number from %d to %d", name, strconv.Quote(text), p.least, p.max)
		} else {
			v[name] = n
		}
	}
	return faults
}
