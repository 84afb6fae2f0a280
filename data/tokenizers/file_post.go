package tokenizers

import (
	"encoding/json"
	"fmt"
)

func parsePost(raw json.RawMessage, t *Tokenizer, depth int) (post, error) {
	if isNull(raw) {
		return plain{}, nil
	}
	p, err := readPart(raw, depth)
	if err != nil {
		return nil, err
	}
	switch p.Type {
	case "Sequence":
		all, err := sequence(p.Processors, func(raw json.RawMessage) (post, error) { return parsePost(raw, t, depth+1) })
		if len(all) == 0 {
			return plain{}, err
		}
		return posts(all), nil
	case "ByteLevel":
		if yes(p.TrimOffsets) {
			return trimmed{yes(p.AddPrefixSpace), plain{}}, nil
		}
		return plain{}, nil
	case "TemplateProcessing":
		return p.template()
	case "BertProcessing", "RobertaProcessing":
		return p.bert(t)
	}
	return nil, Unsupported(fmt.Sprintf("the post_processor %q", p.Type))
}

func (p part) template() (post, error) {
	var out template
	for k, from := range [][]slotPart{p.Single, p.Pair} {
		for _, s := range from {
			var made slot
			switch {
			case s.Sequence != nil:
				made = slot{typeID: s.Sequence.TypeID}
				if s.Sequence.ID == "B" {
					made.of = 1
				}
				if made.of > k {
					return nil, fmt.Errorf("the template of one text names a second")
				}
			case s.SpecialToken != nil:
				made = slot{of: -1, ids: p.Special[s.SpecialToken.ID].IDs, typeID: s.SpecialToken.TypeID}
				if len(made.ids) == 0 {
					return nil, fmt.Errorf("the template names %q, which has no ids", s.SpecialToken.ID)
				}
			default:
				return nil, fmt.Errorf("the template has a part that is neither text nor token")
			}
			if k == 0 {
				out.single = append(out.single, made)
			} else {
				out.pair = append(out.pair, made)
			}
		}
	}
	return out, nil
}

// bert is BERT's template, or RoBERTa's, which has no types and two separators between texts.
func (p part) bert(t *Tokenizer) (post, error) {
	var cls, sep []any
	if json.Unmarshal(p.Cls, &cls) != nil || json.Unmarshal(p.Sep, &sep) != nil || len(cls) != 2 || len(sep) != 2 {
		return nil, fmt.Errorf("%s lacks its two tokens", p.Type)
	}
	id := func(pair []any) []int32 {
		n, _ := pair[1].(float64)
		return []int32{int32(n)}
	}
	c, s := slot{of: -1, ids: id(cls)}, slot{of: -1, ids: id(sep)}
	one := slot{of: 1, typeID: 1}
	end := slot{of: -1, ids: s.ids, typeID: 1}
	out := template{single: []slot{c, {}, s}, pair: []slot{c, {}, s, one, end}}
	if p.Type == "BertProcessing" {
		return out, nil
	}
	one.typeID = 0
	out.pair = []slot{c, {}, s, s, one, s}
	if yes(p.TrimOffsets) {
		return trimmed{yes(p.AddPrefixSpace), out}, nil
	}
	return out, nil
}
