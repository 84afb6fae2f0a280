package tokenizers

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The kinds of pieces of a SentencePiece model.
const (
	pieceNormal  = 1
	pieceUnknown = 2
	pieceControl = 3
	pieceUser    = 4
	pieceByte    = 6
)

// spModel is what of a SentencePiece model is used.
// Source: sentencepiece_model.proto of SentencePiece 0.2.
type spModel struct {
	names  []string
	scores []float64
	kinds  []int

	kind         uint64 // 1: unigram
	byteFallback bool
	suffix       bool // blanks belong to the word before
	unknown      string
	prefix       bool // a blank is put before the text
	squeeze      bool // blanks in a row become one, those at the ends go
	escape       bool // blanks become marks
	charsmap     []byte
}

// ParseSentencePiece reads a SentencePiece model file (unigram).
//
// Errors: Unsupported names what is not known; others say what is damaged.
func ParseSentencePiece(raw []byte) (*Tokenizer, error) {
	m := spModel{kind: 1, prefix: true, squeeze: true, escape: true, unknown: " \u2047 "}
	if err := m.read(raw); err != nil {
		return nil, err
	}
	switch {
	case m.kind != 1:
		return nil, Unsupported([]string{"", "", "a BPE model of SentencePiece", "a word model of SentencePiece", "a character model of SentencePiece"}[min(m.kind, 4)])
	case m.suffix:
		return nil, Unsupported("treat_whitespace_as_suffix")
	case len(m.names) == 0:
		return nil, fmt.Errorf("it has no pieces")
	}
	n := &spNormalizer{prefix: m.prefix, squeeze: m.squeeze, mark: " "}
	if m.escape {
		n.mark = spMark
	}
	if len(m.charsmap) > 0 {
		var err error
		if n.chars, err = newCharsMap(m.charsmap); err != nil {
			return nil, err
		}
	}
	unknown := int32(-1)
	best, worst := math.Inf(-1), math.Inf(1)
	for id, kind := range m.kinds {
		switch kind {
		case pieceUnknown:
			unknown = int32(id)
		case pieceNormal:
			best, worst = max(best, m.scores[id]), min(worst, m.scores[id])
		case pieceUser:
			n.user.add(m.names[id], int32(id))
		}
	}
	if unknown < 0 {
		return nil, fmt.Errorf("no piece stands for what is unknown")
	}
	n.user.ready()
	for id, kind := range m.kinds {
		if kind == pieceUser {
			m.scores[id] = float64(len(m.names[id]))*best - 0.1
		}
	}
	u := newUnigram(m.names, m.scores, unknown, func(id int) bool { return m.kinds[id] == pieceNormal || m.kinds[id] == pieceUser })
	u.single, u.worst = true, float64(float32(worst)-unknownPenalty)
	d := spDecoder{unknown: m.names[unknown], surface: m.unknown, control: map[string]bool{}, lead: m.prefix || m.squeeze, all: m.squeeze}
	t := &Tokenizer{normalizer: n, model: u, post: plain{}, decoder: d, pad: -1}
	if m.byteFallback {
		u.bytes = true
		for id, kind := range m.kinds {
			if kind == pieceByte {
				u.ids[m.names[id]] = int32(id)
			}
		}
	}
	t.finish()
	for id, kind := range m.kinds {
		if kind == pieceControl {
			d.control[m.names[id]] = true
			t.special[int32(id)] = true
			if m.names[id] == "<pad>" {
				t.pad = int32(id)
			}
		}
	}
	return t, nil
}

// fields calls f for each field of a message.
func fields(raw []byte, f func(n protowire.Number, kind protowire.Type, v []byte, x uint64) error) error {
	for len(raw) > 0 {
		n, kind, size := protowire.ConsumeTag(raw)
		if size < 0 {
			return fmt.Errorf("it is no SentencePiece model: %w", protowire.ParseError(size))
		}
		raw = raw[size:]
		var v []byte
		var x uint64
		switch kind {
		case protowire.BytesType:
			v, size = protowire.ConsumeBytes(raw)
		case protowire.VarintType:
			x, size = protowire.ConsumeVarint(raw)
		case protowire.Fixed32Type:
			var y uint32
			y, size = protowire.ConsumeFixed32(raw)
			x = uint64(y)
		default:
			size = protowire.ConsumeFieldValue(n, kind, raw)
		}
		if size < 0 {
			return fmt.Errorf("it is no SentencePiece model: %w", protowire.ParseError(size))
		}
		raw = raw[size:]
		if err := f(n, kind, v, x); err != nil {
			return err
		}
	}
	return nil
}

func (m *spModel) read(raw []byte) error {
	return fields(raw, func(n protowire.Number, _ protowire.Type, v []byte, _ uint64) error {
		switch n {
		case 1:
			if len(m.names) == maxVocabulary {
				return fmt.Errorf("it has more than %d pieces", maxVocabulary)
			}
			name, score, kind := "", 0.0, pieceNormal
			err := fields(v, func(n protowire.Number, _ protowire.Type, v []byte, x uint64) error {
				switch n {
				case 1:
					name = string(v)
				case 2:
					score = float64(math.Float32frombits(uint32(x)))
				case 3:
					kind = int(x)
				}
				return nil
			})
			m.names, m.scores, m.kinds = append(m.names, name), append(m.scores, score), append(m.kinds, kind)
			return err
		case 2:
			return fields(v, func(n protowire.Number, _ protowire.Type, v []byte, x uint64) error {
				switch n {
				case 3:
					m.kind = x
				case 24:
					m.suffix = x != 0
				case 35:
					m.byteFallback = x != 0
				case 44:
					m.unknown = string(v)
				}
				return nil
			})
		case 3:
			return fields(v, func(n protowire.Number, _ protowire.Type, v []byte, x uint64) error {
				switch n {
				case 2:
					m.charsmap = v
				case 3:
					m.prefix = x != 0
				case 4:
					m.squeeze = x != 0
				case 5:
					m.escape = x != 0
				}
				return nil
			})
		}
		return nil
	})
}

// spMark stands for a blank.
const spMark = "▁"

// spNormalizer is SentencePiece's own: the longest entry of the table counts, blanks in a row become one mark.
type spNormalizer struct {
	chars           *charsMap // nil: none
	user            trie      // pieces that are left as they are
	prefix, squeeze bool
	mark            string
}

// next is what the text begins with, and what stands for it.
func (n *spNormalizer) next(s string) (size int, with string) {
	if size, _ = n.user.longest(s); size > 0 {
		return size, s[:size]
	}
	if n.chars != nil {
		if size, with = n.chars.longest(s); size > 0 {
			return size, with
		}
	}
	if !validRune(s) {
		return 1, "\ufffd"
	}
	_, size = utf8.DecodeRuneInString(s)
	return size, s[:size]
}

func (n *spNormalizer) normalize(t text) text {
	w := newRewriter(t)
	at := 0
	for n.squeeze && at < len(t.s) {
		size, with := n.next(t.s[at:])
		if with != " " {
			break
		}
		at += size
	}
	if at == len(t.s) {
		return w.text(t)
	}
	if n.prefix {
		w.puts(n.mark, t.span(at, at))
	}
	blank := n.squeeze // what came last was a blank
	for at < len(t.s) {
		size, with := n.next(t.s[at:])
		for blank && strings.HasPrefix(with, " ") {
			with = with[1:]
		}
		if with != "" {
			w.puts(strings.ReplaceAll(with, " ", n.mark), t.span(at, at+size))
			blank = strings.HasSuffix(with, " ")
		}
		at += size
		blank = blank && n.squeeze
	}
	end := len(w.b)
	for n.squeeze && strings.HasSuffix(string(w.b[:end]), n.mark) {
		end -= len(n.mark)
	}
	to := t.span(at, at).from
	for i := len(w.at) - 1; i >= 0; i-- { // a piece goes on to where the next begins
		w.at[i].to, to = to, w.at[i].from
	}
	w.b, w.at = w.b[:end], w.at[:end]
	return w.text(t)
}

// spDecoder is SentencePiece's: control pieces stand for nothing, and blanks at the beginning go.
type spDecoder struct {
	unknown, surface string
	control          map[string]bool
	lead, all        bool // the first blank goes; all of them
}

func (d spDecoder) decode(pieces []string) []string {
	var out strings.Builder
	seen := false
	for _, p := range (byteFallback{}).decode(pieces) {
		if d.control[p] {
			continue
		}
		if p == d.unknown {
			out.WriteString(d.surface)
			continue
		}
		if d.lead && !seen && out.Len() == 0 && strings.HasPrefix(p, spMark) {
			p, seen = p[len(spMark):], !d.all
		}
		out.WriteString(strings.ReplaceAll(p, spMark, " "))
	}
	return []string{out.String()}
}
