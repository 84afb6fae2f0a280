package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
)

// examples are the examples of a task in one part.
type examples struct {
	task *task
	hash uint64 // of the task's bare name
	part int    // 0 train, 1 val, 2 test
	n    int
}

// loadTask makes the corpus of a task.
func (c Config) loadTask() (*Corpus, error) {
	t, err := c.readTask()
	if err != nil {
		return nil, err
	}
	kind, _, _ := taskKindOf(c.Task)
	digest := sha256.New()
	_, _ = io.WriteString(digest, t.name+"\n")
	if t.bind != nil {
		text, err := Load(Config{Path: c.Path, TextField: c.TextField})
		if err != nil {
			return nil, err
		}
		if err := t.bind([3]*Part{text.Train, text.Val, text.Test}); err != nil {
			return nil, err
		}
		_, _ = io.WriteString(digest, text.Digest+"\n")
	}
	corpus := &Corpus{Name: "task:" + t.name, Tokenizer: t.tokenizer()}
	var s stream
	for i, to := range []**Part{&corpus.Train, &corpus.Val, &corpus.Test} {
		e := &examples{task: t, hash: taskHash(kind.name), part: i, n: t.sizes[i]}
		*to = &Part{Name: PartNames[i], source: corpus.Name, task: e, bounds: []int{0}}
		b := NewBatch(1, t.length)
		e.fill(b, 0, 0, &s) // a change of the rule is a change of the data
		_ = binary.Write(digest, binary.LittleEndian, b.IDs)
		_ = binary.Write(digest, binary.LittleEndian, b.Targets)
	}
	corpus.Digest = hex.EncodeToString(digest.Sum(nil))
	return corpus, nil
}

// readTask reads the task's name and refuses what does not go with one.
func (c Config) readTask() (*task, error) {
	t, err := parseTask(c.Task)
	if err != nil {
		return nil, err
	}
	if t.bind == nil && c.Path != "" {
		return nil, &Error{Kind: ErrTask, Path: "task:" + c.Task, What: fmt.Sprintf("data.path is %q, but this task is not made from text", c.Path), Fix: "leave data.path or data.task out"}
	}
	if tok := t.tokenizer().Name(); c.Tokenizer != "" && c.Tokenizer != tok {
		return nil, &Error{Kind: ErrTask, Path: "task:" + c.Task, What: fmt.Sprintf("data.tokenizer is %q, but this task has its own tokens", c.Tokenizer), Fix: "leave data.tokenizer out"}
	}
	return t, nil
}

func (t *task) tokenizer() Tokenizer {
	if t.words == nil {
		return Bytes{}
	}
	return t.words
}

// fill writes example i as row r, which has at least as many columns as the example; the others are padding.
func (e *examples) fill(b *Batch, r, i int, s *stream) {
	ids, targets := b.IDs[r*b.T:(r+1)*b.T], b.Targets[r*b.T:(r+1)*b.T]
	clear(ids)
	for k := range targets {
		targets[k] = -1
	}
	s.start(e.hash, e.part, i)
	n, tenth := e.task.draw(s, e.part, ids[:e.task.length], targets[:e.task.length])
	b.Lens[r] = int32(n)
	if b.Tenths == nil {
		b.Tenths = make([]int8, b.B)
	}
	b.Tenths[r] = int8(tenth)
}

// checkLength refuses a sequence length that is not the task's.
func (e *examples) checkLength(source string, t int) error {
	if t == e.task.length {
		return nil
	}
	return &Error{Kind: ErrTask, Path: source, What: fmt.Sprintf("sequence_length is %d, but the examples of this task have %d tokens", t, e.task.length),
		Fix: fmt.Sprintf("set train.sequence_length=%d, or give the task other parameters", e.task.length)}
}
