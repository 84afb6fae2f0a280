package models

import (
	"encoding/json"
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// Session runs a causal model on one sequence, token by token, without a graph: the weights are read once a token, and of keys and
// values only those are kept that the pattern of their layer can still read. A model with attention that cannot be kept that way
// (see Recomputes) reads the whole sequence anew for each token, through a graph.
//
// There may be several candidates for the sequence, of one length, which share all work but attention; see Select.
//
// Cost of a token: the weights once from memory, plus attention on the keys that are held.
type Session struct {
	decoding[float32]
	why string
}

// decoding is a decoder that is run token by token, in either precision.
type decoding[F kernels.Float] interface {
	// step reads the next token of each candidate and returns the logits [N,V] of those after them.
	step(ids []int32) ([]F, error)
	// choose makes candidates out of those there are.
	choose(parents []int)
	// size is the number of tokens read, of candidates, how many tokens fit, and the bytes of what is kept.
	size() (length, candidates, limit, bytes int)
}

// NewSession starts a sequence of at most limit tokens; 0: as many as the model has positions. Weights are single precision.
//
// Errors: weights in another precision, or of another model; no limit where the model has none.
func NewSession(m Causal, params *layers.Params, limit int) (*Session, error) {
	if err := checkSingle(params); err != nil {
		return nil, err
	}
	d, why, err := newDecoding[float32](m, params.Merged(), limit)
	if err != nil {
		return nil, err
	}
	return &Session{d, why}, nil
}

func checkSingle(params *layers.Params) error {
	if params.Dtype() != tensor.Float32 {
		return fmt.Errorf("generation works in float32, the weights are %v: load them as float32", params.Dtype())
	}
	return nil
}

// newDecoding chooses between a cache and reading anew, and says why the latter.
func newDecoding[F kernels.Float](m Causal, params *layers.Params, limit int) (decoding[F], string, error) {
	limit, err := limitOf(limit, m.Dims().Positions)
	if err != nil {
		return nil, "", err
	}
	s := m.causal()
	why, each := s.uncached(), 1
	if s != nil && s.image != nil {
		each = s.image.each
	}
	limit = (limit + each - 1) / each
	if why != "" && s != nil && s.image != nil && (each > 1 || s.image.encoder != nil) {
		return nil, "", fmt.Errorf("images cannot be written, as pixels are read at once, or a smaller image beside them, and %s: use a pattern as attention", why)
	}
	if why != "" {
		forward := func(b *layers.Builder, ids, lens *Node) *Node {
			return m.Forward(b, Inputs{IDs: ids, Lens: lens, Begun: true}, 0).Logits
		}
		return newAgain[F](params, forward, m.causal().Vocab, limit), why, nil
	}
	r, err := newRun[F](s, params, limit)
	if err != nil || s.image == nil || s.image.encoder == nil {
		return r, "", err
	}
	c, err := reading(r, &encoderOf[F]{m: &seq2seq{encoder: *s.image.encoder}, params: params, programs: map[int]*encoderProgram{}})
	return c, "", err
}

func limitOf(limit, positions int) (int, error) {
	switch {
	case positions > 0 && (limit <= 0 || limit > positions):
		return positions, nil
	case limit <= 0:
		return 0, fmt.Errorf("the model has no greatest length: say how many tokens there will be at most")
	}
	return limit, nil
}

// Step reads the next token of each candidate and returns the logits [N,V] of the ones after them, valid until the next call. Where a model
// tells the pixels of images by a Mixture a token is a pixel, whose channels follow each other in ids.
//
// Errors: *LengthError; an id outside the vocabulary; another number of ids than of candidates.
func (s *Session) Step(ids ...int32) ([]float32, error) { return s.step(ids) }

// Select makes candidates out of those there are, which is one at first: the new candidate k goes on from what parents[k] has read.
func (s *Session) Select(parents []int) { s.choose(parents) }

// SetClasses says of what class the image of each candidate is, before its first level; a negative class is none.
//
// Errors: a model without classes, or one that recomputes; a class that there is not; another number than of candidates.
func (s *Session) SetClasses(classes []int) error {
	r, ok := s.decoding.(*run[float32])
	if c, reads := s.decoding.(*cachedOf[float32]); reads {
		r, ok = c.run, true
	}
	if !ok || r.image == nil || r.image.classes == 0 {
		return fmt.Errorf("classes are for models of images that have some (num_classes), with a pattern as attention")
	}
	return r.setClasses(classes)
}

// ReadLow takes the smaller image of super-resolution, before anything is drawn, and goes back to the start, with one candidate.
//
// Errors: a model that reads none; another number of levels than its smaller image has; a level that there is not.
func (s *Session) ReadLow(levels []int32) error {
	c, ok := s.decoding.(*cachedOf[float32])
	if !ok || c.image == nil || c.image.encoder == nil {
		return fmt.Errorf("a smaller image is given, but the model reads none: train one with an encoder")
	}
	if n := c.image.encoder.Positions; len(levels) != n {
		return fmt.Errorf("a smaller image of %d levels, the model reads one of %d: give one of its size", len(levels), n)
	}
	return c.read(levels)
}

// Len is the number of tokens read.
func (s *Session) Len() int {
	n, _, _, _ := s.size()
	return n
}

// Limit is the number of tokens that fit.
func (s *Session) Limit() int {
	_, _, n, _ := s.size()
	return n
}

// CacheBytes is the memory of the keys and values that are held.
func (s *Session) CacheBytes() int {
	_, _, _, n := s.size()
	return n
}

// Recomputes says why every token costs a pass over all before it; empty: it does not.
func (s *Session) Recomputes() string { return s.why }

// EndTokens are the tokens that end a text of the model: eos_token_id of its config.json, a number or a list; none if it has none.
func EndTokens(m Model) []int32 {
	if s, ok := m.(Seq2Seq); ok {
		return s.Special().End
	}
	text, err := m.Config()
	if err != nil {
		return nil
	}
	var c struct {
		End tokenIDs `json:"eos_token_id"`
	}
	if json.Unmarshal(text, &c) != nil {
		return nil
	}
	return c.End
}

// checkStep refuses ids that cannot be read, of so many candidates.
func checkStep[F kernels.Float](d decoding[F], given int, ids []int32, vocab int) error {
	length, candidates, limit, _ := d.size()
	if given != candidates {
		return fmt.Errorf("%d tokens for %d candidates: give one for each", given, candidates)
	}
	if length >= limit {
		return &LengthError{Length: length + 1, Max: limit}
	}
	return checkIDs(ids, vocab)
}

func checkIDs(ids []int32, vocab int) error {
	for _, id := range ids {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("token id %d is outside the vocabulary of %d", id, vocab)
		}
	}
	return nil
}
