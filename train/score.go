package train

import (
	"math"

	"github.com/euryale-ml/euryale/data"
)

// Score is the result of an evaluation.
type Score struct {
	Task     string
	Loss     float64 // mean nats a token, example, end of an answer or dimension; of regression the mean squared error of a value
	Bytes    float64 // what the tokens stand for; 0: nothing that is measured in bytes
	Tokens   int64   // scored: tokens, examples, ends of answers, values, dimensions (of mixtures pixels)
	Correct  int64   // those that the model held most likely
	Position []PositionScore
	Examples int64 // rows with something to predict
	Exact    int64 // those of them in which everything was held most likely
	Depth    []DepthScore
	Offset   []PositionScore // by place modulo Evaluator.Period, in eighths

	Confusion Confusion // of classifiers; nil: no classes of texts or tokens, or too many

	Answers *AnswerScore // to questions about texts; nil: none were asked

	FirstLoss float64 // of the batches of Evaluator.First; 0: there are fewer

	mixed bool // what is predicted are mixtures, of which nothing is the most likely
}

// PositionScore is the mean loss of the tokens at some places of their window.
type PositionScore struct {
	From   int     `json:"from"` // inputs before the scored one, at least
	To     int     `json:"to"`   // and less than
	Loss   float64 `json:"loss"`
	Tokens int64   `json:"tokens"`
}

// DepthScore is how well a task's examples are answered that have what is to be found in one tenth of their length.
type DepthScore struct {
	From     float64 `json:"from"` // as a part of the length
	To       float64 `json:"to"`
	Accuracy float64 `json:"accuracy"`    // of the answers
	Exact    float64 `json:"exact_match"` // of the examples
	Examples int64   `json:"examples"`
}

// Classes tells whether what is predicted is one of several: only then there are nats, an accuracy and an exact match.
func (s Score) Classes() bool { return s.Task != "regression" }

// Unit is what is scored, for people, several of them.
func (s Score) Unit() string {
	if s.mixed {
		return "pixels"
	}
	return objectives[s.Task].unit + "s"
}

// BitsPerByte is the loss in bits for each byte of text; NaN if it is not text that is predicted.
func (s Score) BitsPerByte() float64 {
	if s.Bytes == 0 {
		return math.NaN()
	}
	return s.Loss * float64(s.Tokens) / math.Ln2 / s.Bytes
}

// BitsPerDim is the loss in bits for each dimension of an image, a channel of a pixel; NaN if it is not images that are predicted.
func (s Score) BitsPerDim() float64 {
	if !objectives[s.Task].dims {
		return math.NaN()
	}
	return s.Loss / math.Ln2
}

// BitsPerToken is the loss in bits for each token; NaN if it is none in nats.
func (s Score) BitsPerToken() float64 { return s.ofClasses(s.Loss / math.Ln2) }

// Perplexity is exp(loss); NaN if that is none in nats.
func (s Score) Perplexity() float64 { return s.ofClasses(math.Exp(s.Loss)) }

// Accuracy is the part of the tokens that the model held most likely; NaN where there is no such thing.
func (s Score) Accuracy() float64 { return s.graded(float64(s.Correct) / float64(s.Tokens)) }

// ExactMatch is the part of the examples in which every answer was held most likely; NaN where there is no such thing.
func (s Score) ExactMatch() float64 { return s.graded(float64(s.Exact) / float64(s.Examples)) }

// MSE is the mean squared error of a value; NaN if no values are predicted.
func (s Score) MSE() float64 {
	if s.Classes() {
		return math.NaN()
	}
	return s.Loss
}

func (s Score) ofClasses(x float64) float64 {
	if !s.Classes() {
		return math.NaN()
	}
	return x
}

func (s Score) graded(x float64) float64 {
	if s.mixed {
		return math.NaN()
	}
	return s.ofClasses(x)
}

// Number is x for JSON, which has no NaN: nil then.
func Number(x float64) *float64 {
	if math.IsNaN(x) {
		return nil
	}
	return &x
}

// tallies are the counts of an evaluation.
type tallies struct {
	goal   objective
	bins   *bins // nil: rows have no order
	period int   // 0: none
	offset [eighths]struct {
		loss  float64
		count int64
	}
	all    tally
	tenths [10]tally
	kept   int64
}

// eighths are the parts of a period that are told apart.
const eighths = 8

// tally counts whole examples.
type tally struct{ examples, exact, right, scored int64 }

func (t *tally) add(right, scored int64) {
	t.examples++
	t.right += right
	t.scored += scored
	if right == scored {
		t.exact++
	}
}

func newTallies(goal objective, like *data.Batch) *tallies {
	c := &tallies{goal: goal}
	if goal.places != nil {
		c.bins = newBins(goal.places(like))
	}
	return c
}

// add counts a batch: the loss of each row, and whether it is right. It returns the sum of the losses.
func (c *tallies) add(batch *data.Batch, loss func(i int) float64, right func(i int) bool) (total float64) {
	rows, _ := c.goal.count(batch)
	kept, n := c.goal.kept(batch), rows/batch.B
	for r := range batch.B {
		var good, scored int64
		for i := r * n; i < (r+1)*n; i++ {
			if !kept(i) {
				continue
			}
			scored++
			total += loss(i)
			if c.bins != nil {
				c.bins.add(i%n, loss(i))
				c.addOffset(i%n, loss(i))
			}
			if right != nil && right(i) {
				good++
			}
		}
		if scored == 0 {
			continue
		}
		c.kept += scored
		c.all.add(good, scored)
		if batch.Tenths != nil && batch.Tenths[r] >= 0 {
			c.tenths[batch.Tenths[r]].add(good, scored)
		}
	}
	return total
}

func (c *tallies) addOffset(place int, loss float64) {
	if c.period > 0 {
		o := &c.offset[place%c.period*eighths/c.period]
		o.loss += loss
		o.count++
	}
}

// offsets are the eighths of the period.
func (c *tallies) offsets() []PositionScore {
	var all []PositionScore
	for k, o := range c.offset {
		if o.count > 0 {
			from, to := (k*c.period+eighths-1)/eighths, ((k+1)*c.period+eighths-1)/eighths
			all = append(all, PositionScore{From: from, To: to, Loss: o.loss / float64(o.count), Tokens: o.count})
		}
	}
	return all
}

// depths are the tenths in which a task has put what is to be found.
func (c *tallies) depths() []DepthScore {
	var all []DepthScore
	for i, t := range c.tenths {
		if t.examples > 0 {
			all = append(all, DepthScore{float64(i) / 10, float64(i+1) / 10, float64(t.right) / float64(t.scored), float64(t.exact) / float64(t.examples), t.examples})
		}
	}
	return all
}

// bins are places in a window in ranges that double: 0, 1, 2-3, 4-7, ...
type bins struct {
	t     int
	loss  []float64
	count []int64
}

func newBins(t int) *bins {
	n := binOf(t-1) + 1
	return &bins{t, make([]float64, n), make([]int64, n)}
}

func binOf(place int) int {
	b := 0
	for ; place > 0; place /= 2 {
		b++
	}
	return b
}

func (b *bins) add(place int, loss float64) {
	k := binOf(place)
	b.loss[k] += loss
	b.count[k]++
}

func (b *bins) scores() []PositionScore {
	if b == nil {
		return nil
	}
	var all []PositionScore
	for k, n := range b.count {
		if n == 0 {
			continue
		}
		all = append(all, PositionScore{From: 1 << k >> 1, To: min(1<<k, b.t), Loss: b.loss[k] / float64(n), Tokens: n})
	}
	return all
}
