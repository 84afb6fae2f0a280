package tokenizers

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// maxVocabulary bounds the ids of a vocabulary.
const maxVocabulary = 1 << 21

// modelPart is the model of a tokenizer.json.
type modelPart struct {
	Type     string            `json:"type"`
	Vocab    json.RawMessage   `json:"vocab"`
	Merges   []json.RawMessage `json:"merges"`
	Unknown  *string           `json:"unk_token"`
	UnkID    *int32            `json:"unk_id"`
	Prefix   *string           `json:"continuing_subword_prefix"`
	Suffix   *string           `json:"end_of_word_suffix"`
	Most     *int              `json:"max_input_chars_per_word"`
	Dropout  *float64          `json:"dropout"`
	Fallback bool              `json:"byte_fallback"`
	Fuse     bool              `json:"fuse_unk"`
	Ignore   bool              `json:"ignore_merges"`
}

func (m modelPart) model(byByte bool) (model, error) {
	kind := m.Type
	if kind == "" { // old files do not say
		switch {
		case len(m.Merges) > 0:
			kind = "BPE"
		case m.Most != nil:
			kind = "WordPiece"
		}
	}
	if kind == "Unigram" {
		return m.unigram()
	}
	var vocab map[string]int32
	if err := json.Unmarshal(m.Vocab, &vocab); err != nil {
		return nil, fmt.Errorf("the vocabulary: %w", err)
	}
	names, err := namesOf(vocab)
	if err != nil {
		return nil, err
	}
	unknown := int32(-1)
	if m.Unknown != nil {
		if id, ok := vocab[*m.Unknown]; ok {
			unknown = id
		}
	}
	prefix, suffix := "", ""
	if m.Prefix != nil {
		prefix = *m.Prefix
	}
	if m.Suffix != nil {
		suffix = *m.Suffix
	}
	switch kind {
	case "WordPiece":
		if unknown < 0 {
			return nil, fmt.Errorf("the vocabulary lacks the token for what is unknown")
		}
		most := 100
		if m.Most != nil {
			most = *m.Most
		}
		return newWordPiece(names, prefix, unknown, most), nil
	case "WordLevel":
		return &wordLevel{names, vocab, unknown}, nil
	case "BPE":
		if m.Dropout != nil && *m.Dropout != 0 {
			return nil, Unsupported("dropout of merges")
		}
		merges := make([][2]string, len(m.Merges))
		for i, raw := range m.Merges {
			if merges[i], err = merge(raw); err != nil {
				return nil, fmt.Errorf("merge %d: %w", i, err)
			}
		}
		b, err := newBPE(names, merges, byByte, prefix)
		if err != nil {
			return nil, err
		}
		b.unknown, b.bytes, b.fuse, b.whole, b.suffix = unknown, m.Fallback, m.Fuse, m.Ignore, suffix
		return b, nil
	}
	return nil, Unsupported(fmt.Sprintf("a model of type %q", m.Type))
}

// namesOf orders a vocabulary by id.
func namesOf(vocab map[string]int32) ([]string, error) {
	size := int32(0)
	for name, id := range vocab {
		if id < 0 || id >= maxVocabulary {
			return nil, fmt.Errorf("the token %q has the id %d", name, id)
		}
		size = max(size, id+1)
	}
	names := make([]string, size)
	for name, id := range vocab {
		if names[id] != "" {
			return nil, fmt.Errorf("%q and %q have the id %d", names[id], name, id)
		}
		names[id] = name
	}
	return names, nil
}

// merge reads "a b" or ["a", "b"].
func merge(raw json.RawMessage) (pair [2]string, err error) {
	var line string
	if json.Unmarshal(raw, &line) == nil {
		return mergeLine(line)
	}
	var two []string
	if json.Unmarshal(raw, &two) != nil || len(two) != 2 {
		return pair, fmt.Errorf("is neither \"a b\" nor [\"a\", \"b\"]")
	}
	return [2]string{two[0], two[1]}, nil
}

func mergeLine(line string) (pair [2]string, err error) {
	left, right, ok := strings.Cut(line, " ")
	if !ok || left == "" || right == "" {
		return pair, fmt.Errorf("%q is not of two tokens", line)
	}
	return [2]string{left, right}, nil
}

func (m modelPart) unigram() (model, error) {
	var pairs [][2]json.RawMessage
	if err := json.Unmarshal(m.Vocab, &pairs); err != nil {
		return nil, fmt.Errorf("the vocabulary: %w", err)
	}
	names, scores := make([]string, len(pairs)), make([]float64, len(pairs))
	for i, p := range pairs {
		if json.Unmarshal(p[0], &names[i]) != nil || json.Unmarshal(p[1], &scores[i]) != nil {
			return nil, fmt.Errorf("token %d is not a text and a number", i)
		}
	}
	unknown := int32(-1)
	if m.UnkID != nil {
		if unknown = *m.UnkID; unknown < 0 || int(unknown) >= len(names) {
			return nil, fmt.Errorf("unk_id is %d of %d tokens", unknown, len(names))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the vocabulary is empty")
	}
	u := newUnigram(names, scores, unknown, nil)
	u.bytes = m.Fallback
	return u, nil
}

// finder finds a text or a regular expression.
func (p *pattern) finder() (func(s string) (int, int), error) {
	switch {
	case p == nil || p.String == nil && p.Regex == nil:
		return nil, fmt.Errorf("a pattern is missing")
	case p.String != nil:
		return findText(*p.String), nil
	}
	re, err := regexp.Compile(*p.Regex)
	if err != nil {
		return nil, Unsupported(fmt.Sprintf("the expression %q", *p.Regex))
	}
	return func(s string) (int, int) {
		at := re.FindStringIndex(s)
		if at == nil {
			return -1, -1
		}
		return at[0], at[1]
	}, nil
}
