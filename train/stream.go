package train

import (
	"errors"
	"fmt"
	"strings"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
)

// streamPrefix is before the names of the tensors of a stream, which lie beside the moments.
const streamPrefix = "stream/"

// oneLength reports what a stream does not go with: the examples that wait in its buffer are of one length.
func (c Config) oneLength() error {
	var faults []error
	if c.Curriculum != nil {
		faults = append(faults, &config.FieldError{Path: "train.curriculum", Value: c.Curriculum.Start, Want: "want none with data.streaming, whose buffer holds examples of one length"})
	}
	if c.LengthBuckets > 0 {
		faults = append(faults, &config.FieldError{Path: "train.length_buckets", Value: c.LengthBuckets, Want: "want 0 with data.streaming: the lengths of a stream are not known beforehand"})
	}
	for i, s := range c.Stages {
		if s.SequenceLength != 0 && s.SequenceLength != c.SequenceLength {
			faults = append(faults, &config.FieldError{Path: fmt.Sprintf("train.stages[%d].sequence_length", i), Value: s.SequenceLength,
				Want: fmt.Sprintf("want that of train (%d) with data.streaming, whose buffer holds examples of one length", c.SequenceLength)})
		}
	}
	return errors.Join(faults...)
}

// streamTensors are what a checkpoint keeps of a stream besides its place.
func streamTensors(s *data.StreamState) []checkpoints.Tensor {
	if s == nil {
		return nil
	}
	var all []checkpoints.Tensor
	for _, t := range s.Tensors {
		all = append(all, checkpoints.Tensor{Name: streamPrefix + t.Name, Shape: t.Shape, Data: t.Data})
	}
	return all
}

// sameStream refuses data that are not those of the checkpoint, as far as files tell.
//
// Errors: *data.Error, which names the file; *ChangedError if only one of both is a stream.
func (r *Run) sameStream() error {
	_, _, is := r.Corpus.Train.Stream()
	if was := r.state.Stream != nil; was != is {
		return &ChangedError{r.Dir, fmt.Sprintf("data.streaming was %t, it is %t: the place in the data would be another", was, is), "bring it back, or start a new run with fit --from"}
	}
	if !is {
		return nil
	}
	return r.state.Stream.Check(r.Corpus.Train)
}

// restoreStream goes to the place in a stream where the checkpoint was saved.
func (r *Run) restoreStream(snap *checkpoints.Snapshot) error {
	s := r.state.Stream
	if s == nil {
		return nil
	}
	for _, t := range snap.Optimizer {
		if name, ok := strings.CutPrefix(t.Name, streamPrefix); ok {
			s.Tensors = append(s.Tensors, data.StreamTensor{Name: name, Shape: t.Shape, Data: t.Data})
		}
	}
	if at := r.Trainer.Position(snap.Step); at == r.state.Position && at != s.Drawn {
		return fmt.Errorf("state.json: the stream has given %d examples, want %d", s.Drawn, at)
	}
	return r.Trainer.sampler.Restore(s)
}

// closeStream closes the file that is read, if there is one.
func (r *Run) closeStream() {
	if r.Trainer != nil && r.Trainer.sampler != nil {
		r.Trainer.sampler.Close()
	}
}
