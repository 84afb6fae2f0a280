package tokenizers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Unsupported is a tokenizer that is whole but has a part that is not known here.
type Unsupported string

func (u Unsupported) Error() string { return string(u) + " is not supported" }

// document is a tokenizer.json.
type document struct {
	Truncation *struct {
		MaxLength int `json:"max_length"`
	} `json:"truncation"`
	Padding *struct {
		PadID    int32           `json:"pad_id"`
		Strategy json.RawMessage `json:"strategy"`
	} `json:"padding"`
	Added         []Added         `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         modelPart       `json:"model"`
}

// part is one link of a chain: the fields that any kind of it has.
type part struct {
	Type string `json:"type"`

	Normalizers, Pretokenizers, Processors, Decoders []json.RawMessage // of Sequence

	CleanText          *bool `json:"clean_text"`
	HandleChineseChars *bool `json:"handle_chinese_chars"`
	StripAccents       *bool `json:"strip_accents"`
	Lowercase          *bool `json:"lowercase"`

	StripLeft  bool            `json:"strip_left"`
	StripRight bool            `json:"strip_right"`
	Prepend    string          `json:"prepend"`
	Content    string          `json:"content"`
	Pattern    *pattern        `json:"pattern"`
	Charsmap   []byte          `json:"precompiled_charsmap"`
	Behavior   behaviour       `json:"behavior"`
	Invert     bool            `json:"invert"`
	Individual bool            `json:"individual_digits"`
	Delimiter  string          `json:"delimiter"`
	Start      int             `json:"start"`
	Stop       int             `json:"stop"`
	Suffix     string          `json:"suffix"`
	Prefix     *string         `json:"prefix"`
	Cleanup    *bool           `json:"cleanup"`
	Sep        json.RawMessage `json:"sep"`
	Cls        json.RawMessage `json:"cls"`

	AddPrefixSpace *bool  `json:"add_prefix_space"`
	TrimOffsets    *bool  `json:"trim_offsets"`
	UseRegex       *bool  `json:"use_regex"`
	Replacement    string `json:"replacement"`
	PrependScheme  string `json:"prepend_scheme"`
	Split          *bool  `json:"split"`

	Single  []slotPart `json:"single"`
	Pair    []slotPart `json:"pair"`
	Special map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
}

// UnmarshalJSON reads the parts of a sequence, whose key differs by kind.
func (p *part) UnmarshalJSON(raw []byte) error {
	type fields part
	var all struct {
		fields
		A []json.RawMessage `json:"normalizers"`
		B []json.RawMessage `json:"pretokenizers"`
		C []json.RawMessage `json:"processors"`
		D []json.RawMessage `json:"decoders"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	*p = part(all.fields)
	p.Normalizers, p.Pretokenizers, p.Processors, p.Decoders = all.A, all.B, all.C, all.D
	return nil
}

type pattern struct {
	String *string
	Regex  *string
}

type slotPart struct {
	Sequence *struct {
		ID     string `json:"id"`
		TypeID int32  `json:"type_id"`
	}
	SpecialToken *struct {
		ID     string `json:"id"`
		TypeID int32  `json:"type_id"`
	}
}

func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

func yes(b *bool) bool { return b == nil || *b }

// maxNesting bounds sequences within sequences.
const maxNesting = 8

// Parse reads a tokenizer.json.
//
// Errors: Unsupported names a part that is not known; others say what is damaged.
func Parse(raw []byte) (*Tokenizer, error) {
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	t := &Tokenizer{added: d.Added, pad: -1}
	if d.Truncation != nil {
		t.limit = d.Truncation.MaxLength
	}
	if d.Padding != nil {
		t.pad = d.Padding.PadID
		var fixed struct{ Fixed int }
		if json.Unmarshal(d.Padding.Strategy, &fixed) == nil {
			t.fixed = fixed.Fixed
		}
	}
	for _, a := range d.Added {
		if a.ID < 0 || a.ID >= maxVocabulary {
			return nil, fmt.Errorf("added token %q has the id %d", a.Content, a.ID)
		}
	}
	var err error
	if t.normalizer, err = parseNormalizer(d.Normalizer, 0); err != nil {
		return nil, err
	}
	bytesToo := false
	if t.splitter, err = parseSplitter(d.PreTokenizer, &bytesToo, 0); err != nil {
		return nil, err
	}
	if t.model, err = d.Model.model(bytesToo); err != nil {
		return nil, err
	}
	if t.decoder, err = parseDecoder(d.Decoder, 0); err != nil {
		return nil, err
	}
	t.finish()
	if t.post, err = parsePost(d.PostProcessor, t, 0); err != nil {
		return nil, err
	}
	return t, nil
}

func readPart(raw json.RawMessage, depth int) (p part, err error) {
	if depth > maxNesting {
		return p, fmt.Errorf("sequences are nested deeper than %d", maxNesting)
	}
	return p, json.Unmarshal(raw, &p)
}

// sequence reads the parts of a Sequence, one after the other. Those that are null are none.
func sequence[T any](parts []json.RawMessage, parse func(raw json.RawMessage) (T, error)) ([]T, error) {
	var all []T
	for _, raw := range parts {
		if isNull(raw) {
			continue
		}
		one, err := parse(raw)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func parseNormalizer(raw json.RawMessage, depth int) (normalizer, error) {
	if isNull(raw) {
		return nil, nil
	}
	p, err := readPart(raw, depth)
	if err != nil {
		return nil, err
	}
	switch p.Type {
	case "Sequence":
		all, err := sequence(p.Normalizers, func(raw json.RawMessage) (normalizer, error) { return parseNormalizer(raw, depth+1) })
		return normalizers(all), err
	case "BertNormalizer":
		low := yes(p.Lowercase)
		accents := low
		if p.StripAccents != nil {
			accents = *p.StripAccents
		}
		return bertNormalizer{clean: yes(p.CleanText), chinese: yes(p.HandleChineseChars), accents: accents, lower: low}, nil
	case "NFC":
		return unicodeForm{norm.NFC}, nil
	case "NFD":
		return unicodeForm{norm.NFD}, nil
	case "NFKC":
		return unicodeForm{norm.NFKC}, nil
	case "NFKD":
		return unicodeForm{norm.NFKD}, nil
	case "Lowercase":
		return lowercase{}, nil
	case "StripAccents":
		return stripAccents{}, nil
	case "Strip":
		return strip{p.StripLeft, p.StripRight}, nil
	case "Prepend":
		return prepend{p.Prepend}, nil
	case "Nmt":
		return nmt{}, nil
	case "Replace":
		find, err := p.Pattern.finder()
		if err != nil {
			return nil, err
		}
		return replace{find, p.Content}, nil
	case "Precompiled":
		m, err := newCharsMap(p.Charsmap)
		if err != nil {
			return nil, err
		}
		return precompiled{m}, nil
	}
	return nil, Unsupported(fmt.Sprintf("the normalizer %q", p.Type))
}

func parseSplitter(raw json.RawMessage, bytesToo *bool, depth int) (splitter, error) {
	if isNull(raw) {
		return nil, nil
	}
	p, err := readPart(raw, depth)
	if err != nil {
		return nil, err
	}
	switch p.Type {
	case "Sequence":
		all, err := sequence(p.Pretokenizers, func(raw json.RawMessage) (splitter, error) { return parseSplitter(raw, bytesToo, depth+1) })
		return splitters(all), err
	case "BertPreTokenizer":
		return bertSplitter{}, nil
	case "ByteLevel":
		*bytesToo = true
		return byteLevel{prefix: yes(p.AddPrefixSpace), rule: yes(p.UseRegex)}, nil
	case "Whitespace":
		return words{}, nil
	case "WhitespaceSplit":
		return cutter{is: unicode.IsSpace, how: removed}, nil
	case "Punctuation":
		how := p.Behavior
		if how == "" {
			how = isolated
		}
		return cutter{is: isPunct, how: how}, nil
	case "Digits":
		if p.Individual {
			return cutter{is: isNumber, how: isolated}, nil
		}
		return cutter{is: isNumber, how: contiguous}, nil
	case "CharDelimiterSplit":
		return cutter{find: findText(p.Delimiter), how: removed}, nil
	case "Metaspace":
		return p.metaspace(), nil
	case "Split":
		find, err := p.Pattern.finder()
		if err != nil {
			return nil, err
		}
		return cutter{find: find, how: p.Behavior, not: p.Invert}, nil
	}
	return nil, Unsupported(fmt.Sprintf("the pre_tokenizer %q", p.Type))
}

func (p part) metaspace() metaspace {
	m := metaspace{mark: p.Replacement, first: p.PrependScheme, cut: yes(p.Split)}
	if m.mark == "" {
		m.mark = "▁"
	}
	if m.first == "" {
		m.first = "always"
		if !yes(p.AddPrefixSpace) {
			m.first = "never"
		}
	}
	return m
}

func parseDecoder(raw json.RawMessage, depth int) (decoder, error) {
	if isNull(raw) {
		return spaced{}, nil
	}
	p, err := readPart(raw, depth)
	if err != nil {
		return nil, err
	}
	switch p.Type {
	case "Sequence":
		all, err := sequence(p.Decoders, func(raw json.RawMessage) (decoder, error) { return parseDecoder(raw, depth+1) })
		return decoders(all), err
	case "ByteLevel":
		return bytesDecoder{}, nil
	case "WordPiece":
		prefix := "##"
		if p.Prefix != nil {
			prefix = *p.Prefix
		}
		return wordPieceDecoder{prefix, yes(p.Cleanup)}, nil
	case "Metaspace":
		m := p.metaspace()
		return metaspaceDecoder{m.mark, m.first}, nil
	case "Replace":
		if p.Pattern == nil || p.Pattern.String == nil {
			return nil, Unsupported("a decoder that replaces by an expression")
		}
		return replaceDecoder{*p.Pattern.String, p.Content}, nil
	case "Strip":
		return stripDecoder{p.Content, p.Start, p.Stop}, nil
	case "Fuse":
		return fuse{}, nil
	case "ByteFallback":
		return byteFallback{}, nil
	case "BPEDecoder":
		return bpeDecoder{p.Suffix}, nil
	}
	return nil, Unsupported(fmt.Sprintf("the decoder %q", p.Type))
}
