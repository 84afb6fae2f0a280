package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// examples are the examples of a task in one part.
type examples struct {
	task *task
	hash uint64 // of the task's bare name
	part int    // 0 train, 1 val, 2 test
	n    int

	vocab *vocabulary // nil: an answer counts as a byte
	bound [3]*Part    // the text of a task that is made from text
}

// example is a row of a batch that a task writes. Before, ids are padding, targets and the other whole numbers -1, segments and all other numbers
// 0. What the batch does not have is nil.
type example struct {
	ids, targets, types []int32   // [T]
	globals             []int32   // [G]
	labels              []int32   // [1] or [2]
	vectors             []float32 // [T,D]
	values              []float32 // [K]
	more                map[string][]int32

	reads, says []int32 // [U], what the decoder reads and has to say, see say

	n     int // tokens that it uses; T before
	tenth int // in which tenth of them the thing to be found lies; -1: in no particular one
}

// ask says what the class of the row is and at which place it is asked for, as far as the batch has these.
func (x *example) ask(class int32, place int) {
	if len(x.labels) > 0 {
		x.labels[0] = class
	}
	if len(x.globals) > 0 {
		x.globals[0] = int32(place)
	}
}

// say makes the target of an encoder-decoder: ids, and after them an end token if it is not negative.
func (x *example) say(ids []int32, start, end int32) {
	n := copy(x.says, ids)
	if n < len(x.says) && end >= 0 {
		x.says[n] = end
		n++
	}
	if n > 0 {
		x.reads[0] = start
		copy(x.reads[1:n], x.says)
	}
}

// loadTask makes the corpus of a task.
func (c Config) loadTask() (*Corpus, error) {
	t, err := c.readTask()
	if err != nil {
		return nil, err
	}
	digest := sha256.New()
	_, _ = io.WriteString(digest, t.name+"\n")
	corpus := &Corpus{Name: "task:" + t.name}
	var bound [3]*Part
	if t.bind != nil {
		if _, err := c.NewTokenizer(); err != nil && !errors.As(err, new(*untrained)) {
			return nil, err
		}
		text := c.text(t)
		if t.text != nil {
			t.text(&text)
		}
		docs, err := Load(text)
		if err != nil {
			return nil, err
		}
		bound = [3]*Part{docs.Train, docs.Val, docs.Test}
		if err := t.bind(bound); err != nil {
			return nil, err
		}
		_, _ = io.WriteString(digest, docs.Digest+"\n")
		corpus.Tokenizer, corpus.Classes = docs.Tokenizer, docs.Classes
	} else if corpus.Tokenizer, err = c.NewTokenizer(); err != nil {
		return nil, err
	}
	var vocab *vocabulary
	if t.special {
		vocab = newVocabulary(corpus.Tokenizer)
	}
	var s stream
	for i, to := range []**Part{&corpus.Train, &corpus.Val, &corpus.Test} {
		e := &examples{task: t, hash: taskHash(t.kind.name), part: i, n: t.sizes[i], vocab: vocab, bound: bound}
		*to = &Part{Name: PartNames[i], source: corpus.Name, task: e, view: causalView{}, vocab: vocab, bounds: []int{0}}
		b := t.shape.NewBatch(1, t.length)
		e.fill(b, 0, 0, &s) // a change of the rule is a change of the data
		_ = binary.Write(digest, binary.LittleEndian, b.IDs)
		_ = binary.Write(digest, binary.LittleEndian, b.Targets)
		if b.Scored() == 0 {
			_ = binary.Write(digest, binary.LittleEndian, b.Labels)
			_ = binary.Write(digest, binary.LittleEndian, b.Vectors)
			_ = binary.Write(digest, binary.LittleEndian, b.Values)
			_ = binary.Write(digest, binary.LittleEndian, b.TargetTargets)
		}
	}
	corpus.Digest = hex.EncodeToString(digest.Sum(nil))
	return corpus, nil
}

// text is the configuration of the text that a task is made from.
func (c Config) text(t *task) Config {
	text := c
	text.Task, text.Objective, text.sections = "", "", t.sections
	switch {
	case !t.special:
		text.Tokenizer, text.trained = "", nil
	case c.Tokenizer == "bytes" || c.Tokenizer == "" && c.trained == nil:
		text.Tokenizer = BytesSpecial{}.Name()
	}
	return text
}

// readTask reads the task's name and refuses what does not go with one.
func (c Config) readTask() (*task, error) {
	if c.Task == graphTask {
		return readGraph(c.Path)
	}
	t, err := parseTask(c.Task)
	if err != nil {
		return nil, err
	}
	if t.bind == nil && c.Path != "" {
		return nil, &Error{Kind: ErrTask, Path: "task:" + c.Task, What: fmt.Sprintf("data.path is %q, but this task is not made from text", c.Path), Fix: "leave data.path or data.task out"}
	}
	if c.Tokenizer != "" && !t.special && (t.words != nil || c.Tokenizer != "bytes") {
		return nil, &Error{Kind: ErrTask, Path: "task:" + c.Task, What: fmt.Sprintf("data.tokenizer is %q, but this task has its own tokens", c.Tokenizer), Fix: "leave data.tokenizer out"}
	}
	return t, nil
}

// fill writes example i as row r, which has at least as many columns as the example; the others are padding.
func (e *examples) fill(b *Batch, r, i int, s *stream) {
	if b.Tenths == nil {
		b.Tenths = make([]int8, b.B)
	}
	b.clear(r, e.vocab.pad())
	t := e.task.length
	x := &s.example
	*x = example{ids: rowOf(b, b.IDs, r)[:t], targets: rowOf(b, b.Targets, r)[:t], globals: rowOf(b, b.Globals, r), labels: rowOf(b, b.Labels, r),
		values: rowOf(b, b.Values, r), reads: rowOf(b, b.TargetIDs, r), says: rowOf(b, b.TargetTargets, r), more: x.more, n: t, tenth: -1}
	if b.Types != nil {
		x.types = rowOf(b, b.Types, r)[:t]
	}
	if b.Vectors != nil {
		x.vectors = rowOf(b, b.Vectors, r)[:t*e.task.shape.Vectors]
	}
	if x.more == nil {
		x.more = map[string][]int32{}
	}
	clear(x.more)
	for name, field := range b.More {
		x.more[name] = rowOf(b, field, r)
	}
	s.start(e.hash, e.part, i)
	e.task.draw(s, e.part, x)
	b.Lens[r] = int32(x.n)
	b.Tenths[r] = int8(x.tenth)
	targets := x.targets
	if x.says != nil {
		targets = x.says
		b.TargetLens[r] = int32(CountScored(x.says))
	}
	for _, id := range targets {
		if id >= 0 {
			b.Bytes += float64(e.vocab.size(id))
		}
	}
}

// checkLength refuses a sequence length that is not the task's.
func (e *examples) checkLength(source string, t int) error {
	if t == e.task.length {
		return nil
	}
	return &Error{Kind: ErrTask, Path: source, What: fmt.Sprintf("sequence_length is %d, but the examples of this task have %d tokens", t, e.task.length),
		Fix: fmt.Sprintf("set train.sequence_length=%d, or give the task other parameters", e.task.length)}
}
