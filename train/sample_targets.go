package train

import (
	"context"
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train/metrics"
)

// Written is what an encoder-decoder wrote for an example, beside what belongs to it.
type Written struct {
	Source, Wanted string
	Text           string
	Exact          bool // token by token, and it ended in time
}

// WriteTargets lets an encoder-decoder write the targets of the first windows of pairs, at most limit of them, with the end tokens of the
// model and as many tokens as the batches have room for; Decoding says the rest. each, if not nil, is told of every text.
// It returns how many were written, how many of them are exact, and the chrF2 of all.
//
// Cost: the encoder once and a step of the decoder for each token that is written.
// Errors: those of ctx and of the model; windows that are no pairs.
func WriteTargets(ctx context.Context, m models.Seq2Seq, params *layers.Params, w *data.Windows, shape data.Shape, tok data.Tokenizer, limit int, d Decoding, each func(Written)) (n, exact int, chrf float64, err error) {
	if shape.Targets == 0 {
		return 0, 0, 0, fmt.Errorf("the data have no targets to write: give pairs")
	}
	b := shape.NewBatch(1, w.T())
	d.EOS, d.MaxNewTokens = m.Special().End, shape.Targets
	s, err := models.NewSeq2SeqSession(m, params, d.MaxNewTokens)
	if err != nil {
		return 0, 0, 0, err
	}
	d.MaxNewTokens = min(d.MaxNewTokens, s.Limit())
	var f metrics.ChrF
	for ; n < min(limit, w.Len()); n++ {
		w.Fill(n, b)
		if err := s.Read(b.IDs[:b.Lens[0]]); err != nil {
			return n, exact, f.Score(), err
		}
		logits, err := s.Step(b.TargetIDs[0])
		if err != nil {
			return n, exact, f.Score(), err
		}
		text, err := Write(ctx, s, logits, d, nil)
		if err != nil {
			return n, exact, f.Score(), err
		}
		wanted, ended := wantedOf(b.TargetTargets, d.EOS)
		t := Written{Source: tok.Decode(b.IDs[:b.Lens[0]]), Wanted: tok.Decode(wanted), Text: tok.Decode(text.IDs)}
		t.Exact = slices.Equal(text.IDs, wanted) && text.Ended == ended
		if t.Exact {
			exact++
		}
		f.Add(t.Text, t.Wanted)
		if each != nil {
			each(t)
		}
	}
	return n, exact, f.Score(), nil
}

// wantedOf is the target of an example without its end token, and whether it has one.
func wantedOf(targets, end []int32) (ids []int32, ended bool) {
	for i, id := range targets {
		if id < 0 {
			return targets[:i], false
		}
		if slices.Contains(end, id) {
			return targets[:i], true
		}
	}
	return targets, false
}
