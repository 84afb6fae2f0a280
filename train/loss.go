package train

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// objective is what a task makes of a model's logits: a loss for each of some rows. The sum over the rows that have something to
// predict, divided by how many that are in a step, is the loss of the step; so parts of a step may be of any size.
type objective struct {
	unit string // what a row is, for people
	axes int    // of the logits

	// targets are the classes of the rows, negative where there is nothing to predict; nil for values.
	targets func(b *data.Batch) []int32
	// rows adds the loss of each row to a graph.
	rows func(b *layers.Builder, logits *layers.Node, in taskInputs, smoothing float64) *layers.Node
	// places is how many rows an example has that follow each other in time; nil if none do.
	places  func(b *data.Batch) int
	bytes   bool // rows stand for bytes of text
	causal  bool // rows are predicted from what is before them alone, so that windows may overlap
	pointer bool // the classes are the tokens of the example, which are an axis of the logits before the last
	dims    bool // rows stand for dimensions of images
	mixed   int  // of a mixture of logistics: targets of a row, the levels of a pixel's channels; 0: rows are over classes
}

// taskInputs are the graph inputs that only the loss reads.
type taskInputs struct {
	targets *layers.Node // int32, of the shape that the task's rows have
	values  *layers.Node // [B,K]
	lens    *layers.Node // int32 [B]
}

// objectives are those of the tasks of config.json.
var objectives = map[string]objective{
	"causal_lm":               {unit: "token", axes: 3, targets: ofTokens, rows: classRows, places: inputPlaces, bytes: true, causal: true},
	"masked_lm":               {unit: "masked token", axes: 3, targets: ofTokens, rows: classRows, places: inputPlaces, bytes: true},
	"token_classification":    {unit: "token", axes: 3, targets: ofTokens, rows: classRows, places: inputPlaces},
	"seq2seq_lm":              {unit: "token", axes: 3, targets: func(b *data.Batch) []int32 { return b.TargetTargets }, rows: classRows, places: outputPlaces, bytes: true},
	"sequence_classification": {unit: "example", axes: 2, targets: ofExamples, rows: classRows},
	"question_answering":      {unit: "end", axes: 3, targets: ofExamples, rows: pointerRows, pointer: true},
	"contrastive":             {unit: "hidden section", axes: 2, targets: ofPairs, rows: candidateRows},
	"image_density":           {unit: "dimension", axes: 3, targets: ofTokens, rows: classRows, places: inputPlaces, dims: true},
	"regression":              {unit: "value", axes: 2, rows: squareRows},
}

func ofTokens(b *data.Batch) []int32   { return b.Targets }
func ofExamples(b *data.Batch) []int32 { return b.Labels }
func inputPlaces(b *data.Batch) int    { return b.T }
func outputPlaces(b *data.Batch) int   { return len(b.TargetTargets) / b.B }

// ofPairs are the right candidates for the hidden sections of a batch: each one's own encoding, where there is one.
func ofPairs(b *data.Batch) []int32 {
	own := slices.Clone(b.More["duplicate_group"])
	for i := range own {
		if own[i] >= 0 {
			own[i] = int32(i)
		}
	}
	return own
}

// objectiveOf finds the objective of a task.
func objectiveOf(task string) (objective, error) {
	o, ok := objectives[task]
	if !ok {
		return o, fmt.Errorf("train: there is no loss for the task %q", task)
	}
	return o, nil
}

// of is the objective for a model: one that tells levels by a mixture of logistics has a row for each pixel, whose loss is the mean of its channels.
func (o objective) of(m models.Model) objective {
	mix, ok := m.(models.Mixture)
	if !ok || !o.dims {
		return o
	}
	c, ok := mix.Mixture()
	if !ok {
		return o
	}
	o.mixed = c.Channels
	o.places = func(b *data.Batch) int { return b.T / c.Channels }
	o.rows = func(b *layers.Builder, logits *layers.Node, in taskInputs, _ float64) *layers.Node {
		return layers.Scale(b, layers.MixtureRows(b, logits, in.targets, c), 1/float64(c.Channels))
	}
	return o
}

// classRows is the cross entropy of each row, in nats.
func classRows(b *layers.Builder, logits *layers.Node, in taskInputs, smoothing float64) *layers.Node {
	return layers.CrossEntropyRows(b, logits, in.targets, smoothing)
}

// candidateRows is the cross entropy over candidates, of which some do not compete: they have no probability, so there is nothing to smooth.
func candidateRows(b *layers.Builder, logits *layers.Node, in taskInputs, _ float64) *layers.Node {
	return layers.CrossEntropyRows(b, logits, in.targets, 0)
}

// pointerRows is the cross entropy of both ends of each answer over the tokens of its example.
func pointerRows(b *layers.Builder, logits *layers.Node, in taskInputs, _ float64) *layers.Node {
	return layers.PointerRows(b, logits, in.targets, in.lens)
}

// squareRows is the squared error of each value.
func squareRows(b *layers.Builder, logits *layers.Node, in taskInputs, _ float64) *layers.Node {
	d := layers.Add(b, logits, layers.Scale(b, in.values, -1))
	return layers.Mul(b, d, d)
}

// kept tells of each row of a batch whether it has something to predict.
func (o objective) kept(b *data.Batch) func(r int) bool {
	if o.targets != nil {
		t, each := o.targets(b), max(1, o.mixed)
		return func(r int) bool { return t[r*each] >= 0 }
	}
	k := len(b.Values) / b.B
	return func(r int) bool { return b.Lens[r/k] > 0 }
}

// count is how many rows there are in a batch, and how many of them have something to predict.
func (o objective) count(b *data.Batch) (rows, kept int) {
	rows = len(b.Values)
	if o.targets != nil {
		rows = len(o.targets(b)) / max(1, o.mixed)
	}
	is := o.kept(b)
	for r := range rows {
		if is(r) {
			kept++
		}
	}
	return rows, kept
}

// check refuses batches that lack what the task is about, or what the model reads.
//
// Errors: *config.FieldError with a path of the job's file.
func (o objective) check(m models.Model, b *data.Batch) error {
	if rows, _ := o.count(b); rows == 0 {
		return &config.FieldError{Path: "model.task", Value: m.Task(), Want: fmt.Sprintf("the data have no %s to learn from: want the task that they are for, or other data", o.unit)}
	}
	have, want := len(b.Vectors)/(b.B*b.T), m.Dims().Vectors
	switch {
	case have == 0 && want > 0:
		return &config.FieldError{Path: "model.vector_size", Value: want, Want: "the data are tokens: want vocab_size in its place, or a task of vectors"}
	case have != want:
		return &config.FieldError{Path: "model.vector_size", Value: want, Want: fmt.Sprintf("want %d, the numbers in each vector of the data", have)}
	}
	return nil
}

// targetShape is the shape of what a task's logits are held against: they have an axis of classes more, or of tokens, or none; of a mixture they
// have a row for several.
func (o objective) targetShape(task string, logits *layers.Node) (tensor.Shape, error) {
	s := logits.Shape()
	if len(s) != o.axes {
		return nil, fmt.Errorf("train: the model gives logits of shape %v for %s, want %d axes", s, task, o.axes)
	}
	switch {
	case o.mixed > 0:
		return tensor.Shape{s[0], s[1] * o.mixed}, nil
	case o.pointer:
		return tensor.Shape{s[0], s[2]}, nil
	case o.targets == nil:
		return s.Clone(), nil
	}
	return s[:len(s)-1].Clone(), nil
}
