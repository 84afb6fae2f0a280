package models

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
)

// extra is what a config.json of Hugging Face holds besides the keys that a family reads. It is written back as it was.
type extra map[string]json.RawMessage

// decodeHF reads the keys that dst has into dst, strictly, and returns the others. null leaves a default alone, as in Python.
func decodeHF(raw []byte, dst any) (extra, error) {
	var all map[string]json.RawMessage
	if err := config.Decode(raw, &all); err != nil {
		return nil, err
	}
	var p problems
	p.byTheirOwnName(all)
	known, rest := map[string]json.RawMessage{}, extra{}
	fields := jsonKeys(dst)
	for k, v := range all {
		switch {
		case !slices.Contains(fields, k):
			rest[k] = v
		case !bytes.Equal(bytes.TrimSpace(v), []byte("null")):
			known[k] = v
		}
	}
	text, err := json.Marshal(known)
	if err != nil {
		return nil, err
	}
	p.add(withoutPlace(config.Decode(text, dst)))
	for _, k := range slices.Sorted(maps.Keys(rest)) {
		if why := refused[k]; why != "" && !empty(rest[k]) {
			p.add(&config.FieldError{Path: k, Value: rest[k], Want: why})
		}
	}
	return rest, p.err()
}

// refused are keys that change the computation in a way that no family here has; false, null and empty are fine.
var refused = map[string]string{
	"quantization_config": "quantised weights are not supported: save the model in float32, float16 or bfloat16",
	"add_cross_attention": "cross-attention in a decoder of this type is not supported",
	"pruned_heads":        "pruned heads are not supported",
	"residual":            `want "plain": of Hugging Face's models only reformer is reversible; a decoder, an encoder or an encoder_decoder may be`,
}

func empty(v json.RawMessage) bool {
	s := strings.Join(strings.Fields(string(v)), "")
	return s == "null" || s == "false" || s == "{}" || s == "[]" || s == `""` || s == `"plain"`
}

// withoutPlace drops line and column, which belong to a rewritten text.
func withoutPlace(err error) error {
	var p problems
	for _, f := range config.Faults(err) {
		if fe, ok := f.(*config.FieldError); ok {
			c := *fe
			c.Line, c.Col = 0, 0
			f = &c
		}
		p.add(f)
	}
	return p.err()
}

// jsonKeys lists the keys of a struct, those of embedded structs included.
func jsonKeys(dst any) []string { return keysOf(reflect.TypeOf(dst).Elem()) }

func keysOf(t reflect.Type) (keys []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			keys = append(keys, keysOf(f.Type)...)
			continue
		}
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		keys = append(keys, key)
	}
	return keys
}

// marshalConfig writes a config.json: the keys of cfg in their order, then the extra ones in order of the alphabet.
func marshalConfig(cfg any, rest extra) ([]byte, error) {
	text, err := json.MarshalIndent(cfg, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("models: config.json: %w", err)
	}
	text = withPoints(text, cfg)
	if len(rest) == 0 {
		return append(text, '\n'), nil
	}
	more, err := json.MarshalIndent(rest, "", "  ") // a map: keys sorted
	if err != nil {
		return nil, fmt.Errorf("models: config.json: %w", err)
	}
	joined := append(bytes.TrimSuffix(text, []byte("\n}")), ',')
	return append(append(joined, bytes.TrimPrefix(more, []byte("{"))...), '\n'), nil
}

// withPoints writes 1 as 1.0 where a number is no whole one by nature: Python's readers tell them apart.
func withPoints(text []byte, cfg any) []byte {
	lines := bytes.Split(text, []byte("\n"))
	for _, key := range floatKeys(reflect.TypeOf(cfg)) {
		for i, line := range lines {
			value, ok := bytes.CutPrefix(line, []byte(`  "`+key+`": `))
			if number := bytes.TrimSuffix(value, []byte(",")); ok && !bytes.ContainsAny(number, ".eEn") {
				lines[i] = bytes.Replace(line, append([]byte(": "), number...), append(append([]byte(": "), number...), ".0"...), 1)
			}
		}
	}
	return bytes.Join(lines, []byte("\n"))
}

// floatKeys lists the keys of a struct that hold floating-point numbers, those of embedded structs included.
func floatKeys(t reflect.Type) (keys []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for i := range t.NumField() {
		f := t.Field(i)
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			keys = append(keys, floatKeys(f.Type)...)
		} else if kind.Kind() == reflect.Float64 {
			keys = append(keys, key)
		}
	}
	return keys
}

// huggingFaceTypes are the families that transformers has, with the class of a folder that names none.
var huggingFaceTypes = map[string]string{
	"bert": "BertForMaskedLM", "big_bird": "BigBirdForMaskedLM", "bigbird_pegasus": "BigBirdPegasusForConditionalGeneration", "gpt2": "GPT2LMHeadModel",
	"gpt_neo": "GPTNeoForCausalLM", "imagegpt": "ImageGPTForCausalImageModeling", "longformer": "LongformerForMaskedLM", "led": "LEDForConditionalGeneration",
	"longt5": "LongT5ForConditionalGeneration", "reformer": "ReformerModelWithLMHead",
}

// HuggingFaceClass is the class of transformers that opens a folder of the model; "" if there is none.
func HuggingFaceClass(m Model) string {
	class, ok := huggingFaceTypes[m.Type()]
	if !ok {
		return ""
	}
	var c struct {
		Architectures []string `json:"architectures"`
	}
	if text, err := m.Config(); err == nil && json.Unmarshal(text, &c) == nil && len(c.Architectures) > 0 {
		class = c.Architectures[0]
	}
	return class
}

// Writes reports whether a model writes text.
func Writes(m Model) bool { return m.Task() == "causal_lm" || m.Task() == "seq2seq_lm" }
