package train

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/splitmix"
)

// Decoding says how a text is written.
type Decoding struct {
	Sampling              // where there is one beam
	MaxNewTokens  int     // the text ends after so many tokens; >= 1
	EOS           []int32 // tokens that end it before, none of which is part of it
	Beams         int     // > 1: beam search with as many candidates, in place of sampling
	LengthPenalty float64 // of beam search: 0 compares log-probabilities, 1 those of a token in the mean; more favours long texts
	EarlyStopping bool    // beam search stops when as many texts as beams have ended
}

// maxBeams bounds beam search, whose work and memory grow with every beam.
const maxBeams = 1024

// Validate refuses what makes no sense.
func (d Decoding) Validate() error {
	switch {
	case d.MaxNewTokens < 1:
		return fmt.Errorf("max-new-tokens is %d: want 1 or more", d.MaxNewTokens)
	case d.Beams < 0 || d.Beams > maxBeams:
		return fmt.Errorf("beams is %d: want 1 (no beam search) to %d", d.Beams, maxBeams)
	case math.IsNaN(d.LengthPenalty) || math.IsInf(d.LengthPenalty, 0):
		return fmt.Errorf("length-penalty is %g: want a number", d.LengthPenalty)
	}
	return d.Sampling.Validate()
}

// Write writes a text. s has read what comes before it, with one candidate; logits [V] are those after it. token, if not nil, is
// called with each token: as it is drawn, or of beam search at the end.
//
// Errors: those of Validate; of ctx, with what was written so far; of s; logits that are no numbers.
func Write(ctx context.Context, s Stepper, logits []float32, d Decoding, token func(id int32)) (Text, error) {
	if token == nil {
		token = func(int32) {}
	}
	sampler, err := NewSampler(d.Sampling)
	if err == nil {
		err = d.Validate()
	}
	if err != nil {
		return Text{}, err
	}
	if err := numbers(logits); err != nil {
		return Text{}, err
	}
	if d.Beams > 1 {
		text, err := beamSearch(ctx, s, logits, d)
		for _, id := range text.IDs {
			token(id)
		}
		return text, err
	}
	var text Text
	for {
		if err := ctx.Err(); err != nil {
			return text, err
		}
		id := sampler.Next(logits)
		if slices.Contains(d.EOS, id) {
			text.Ended = true
			return text, nil
		}
		text.IDs = append(text.IDs, id)
		if token(id); len(text.IDs) == d.MaxNewTokens {
			return text, nil
		}
		if logits, err = s.Step(id); err == nil {
			err = numbers(logits)
		}
		if err != nil {
			return text, err
		}
	}
}

// numbers refuses logits of which none is the largest.
func numbers(logits []float32) error {
	for i, x := range logits {
		if x != x {
			return fmt.Errorf("the model gives no number for token %d: its weights are damaged, or it diverged; inspect --check tells, use an older checkpoint", i)
		}
	}
	return nil
}

// Sampling says how the next token is drawn from the logits.
type Sampling struct {
	Temperature float64 // 0: always the most likely token
	TopK        int     // only the k most likely tokens; 0: all
	TopP        float64 // only the most likely tokens that together have this probability; 0 or 1: all
	Class       *int    // of images, by a model that knows classes; nil: all classes in turn
	Low         []int32 // of images, the levels of the smaller one that a model for super-resolution reads
	Seed        uint64  // token number i is a function of (seed, i) and the logits
}

// Validate refuses what makes no sense.
func (s Sampling) Validate() error {
	switch {
	case s.Temperature < 0 || math.IsNaN(s.Temperature) || math.IsInf(s.Temperature, 0):
		return fmt.Errorf("temperature is %g: want 0 (the most likely token) or more", s.Temperature)
	case s.TopK < 0:
		return fmt.Errorf("top-k is %d: want 0 (all tokens) or more", s.TopK)
	case s.TopP < 0 || s.TopP > 1 || math.IsNaN(s.TopP):
		return fmt.Errorf("top-p is %g: want 0 to 1", s.TopP)
	}
	return nil
}

// Sampler draws tokens; it keeps its buffers between calls.
type Sampler struct {
	Sampling
	drawn uint64
	order []int
	p     []float64
}

// NewSampler starts at token number 0.
func NewSampler(s Sampling) (*Sampler, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return &Sampler{Sampling: s}, nil
}

// Next draws a token from logits [V]. Ties go to the lower id.
//
// Source: top-p, Holtzman et al. 2020, arXiv 1904.09751, section 3.1, after temperature and top-k, in the order of
// transformers' generate.
func (s *Sampler) Next(logits []float32) int32 {
	s.order = s.order[:0]
	for i := range logits {
		s.order = append(s.order, i)
	}
	slices.SortStableFunc(s.order, func(a, b int) int {
		switch x, y := logits[a], logits[b]; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	number := s.drawn
	s.drawn++
	if s.Temperature == 0 {
		return int32(s.order[0])
	}
	keep := len(s.order)
	if s.TopK > 0 {
		keep = min(keep, s.TopK)
	}
	s.p = s.p[:0]
	total := 0.0
	for _, i := range s.order[:keep] {
		x := math.Exp((float64(logits[i]) - float64(logits[s.order[0]])) / s.Temperature)
		s.p = append(s.p, x)
		total += x
	}
	if s.TopP > 0 && s.TopP < 1 {
		sum := 0.0
		for k, x := range s.p {
			if sum += x; sum >= s.TopP*total {
				s.p, total = s.p[:k+1], sum
				break
			}
		}
	}
	u := uniform(s.Seed, number) * total
	for k, x := range s.p {
		if u -= x; u < 0 {
			return int32(s.order[k])
		}
	}
	return int32(s.order[len(s.p)-1])
}

// uniform is a number in [0, 1) for draw i of a seed.
func uniform(seed, i uint64) float64 {
	return splitmix.Unit(splitmix.Mix(seed*0xd1342543de82ef95 + (i+1)*splitmix.Increment))
}
