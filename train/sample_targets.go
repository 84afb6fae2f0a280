package train

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train/metrics"
)

// Written is what an encoder-decoder wrote for an example, beside what belongs to it.
type Written struct{ Source, Text, Wanted string }

// TextScore is how well texts were written.
type TextScore struct {
	Texts int
	ChrF  float64 // chrF2 of all of them, 0 to 100
	Copy  float64 // what the sources would get in their place
}

// WriteTargets lets an encoder-decoder write the targets of the first windows of pairs, at most limit of them, with the end tokens of the
// model and as many tokens as the batches have room for; Decoding says the rest. each, if not nil, is told of every text.
//
// Cost: the encoder once and a step of the decoder for each token that is written.
// Errors: those of ctx and of the model; windows that are no pairs.
func WriteTargets(ctx context.Context, m models.Seq2Seq, params *layers.Params, w *data.Windows, shape data.Shape, tok data.Tokenizer, limit int, d Decoding, each func(Written)) (TextScore, error) {
	var score TextScore
	if shape.Targets == 0 {
		return score, fmt.Errorf("the data have no targets to write: give pairs")
	}
	s, err := models.NewSeq2SeqSession(m, params, shape.Targets)
	if err != nil {
		return score, err
	}
	d.EOS, d.MaxNewTokens = m.Special().End, min(shape.Targets, s.Limit())
	b := shape.NewBatch(1, w.T())
	var written, copied metrics.ChrF
	for i := range min(limit, w.Len()) {
		w.Fill(i, b)
		source := b.IDs[:b.Lens[0]]
		if err := s.Read(source); err != nil {
			return score, err
		}
		logits, err := s.Step(b.TargetIDs[0])
		if err != nil {
			return score, err
		}
		text, err := Write(ctx, s, logits, d, nil)
		if err != nil {
			return score, err
		}
		t := Written{Source: tok.Decode(source), Text: tok.Decode(text.IDs), Wanted: tok.Decode(wanted(b.TargetTargets))}
		written.Add(t.Text, t.Wanted)
		copied.Add(t.Source, t.Wanted)
		score = TextScore{i + 1, written.Score(), copied.Score()}
		if each != nil {
			each(t)
		}
	}
	return score, nil
}

// wanted is the target of an example; decoders of tokens leave its end token out.
func wanted(targets []int32) []int32 {
	if i := slices.IndexFunc(targets, func(id int32) bool { return id < 0 }); i >= 0 {
		return targets[:i]
	}
	return targets
}

// fitsTargets reports whether an encoder-decoder starts and ends its targets with the tokens that the data have for it: else it would learn
// one thing and write by another.
//
// Errors: *config.FieldError, joined.
func fitsTargets(m models.Model, part *data.Part, t int) error {
	s, ok := m.(models.Seq2Seq)
	shape := part.Shape(t)
	if !ok || shape.Targets == 0 {
		return nil
	}
	w, b := part.PlainWindows(t), shape.NewBatch(1, t)
	if w.Len() == 0 {
		return nil
	}
	w.Fill(0, b)
	var faults []error
	if start := b.TargetIDs[0]; start != s.Special().Start {
		faults = append(faults, &config.FieldError{Path: "model.decoder_start_token_id", Value: s.Special().Start, Want: fmt.Sprintf("want %d, with which the targets of the data start", start)})
	}
	for i := range min(w.Len(), 8) {
		w.Fill(i, b)
		says := wanted(b.TargetTargets)
		if n := len(says); n > 0 && n < shape.Targets && !slices.Contains(s.Special().End, says[n-1]) { // the end of a longer one is cut off
			faults = append(faults, &config.FieldError{Path: "model.eos_token_id", Value: s.Special().End, Want: fmt.Sprintf("want %d, with which the targets of the data end", says[n-1])})
			break
		}
	}
	return errors.Join(faults...)
}
