package attention

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
)

// Entry is one entry of `attention` in config.json, such as {"type": "band", "window_left": 255}. It reads itself strictly:
// unknown fields, wrong types and values out of range are reported together.
type Entry struct{ fields fields }

// fields are the fields of one type of entry.
type fields interface {
	// check lists what is wrong with the fields whatever the model.
	check() []error
	// pattern is what a layer reads. In a decoder what is not given on the right is 0, else as on the left.
	pattern(at Layer) (Pattern, error)
}

// Layer is where an entry stands.
type Layer struct {
	Index   int // among the layers, from 0
	Heads   int
	Decoder bool

	Positions int // longest sequence, for which draws are stored with the weights; 0: they are not

	Height, Width int // of the images of a model that knows them, the width in positions; 0: it does not
}

// entries are the types there are.
var entries = map[string]func() fields{
	"full":           func() fields { return &fullEntry{} },
	"band":           func() fields { return &bandEntry{} },
	"big_bird":       func() fields { return &bigBirdEntry{} },
	"etc":            func() fields { return &etcEntry{} },
	"dilated":        func() fields { return &dilatedEntry{} },
	"blocks":         func() fields { return &blocksEntry{} },
	"bp":             func() fields { return &bpEntry{} },
	"cross_block":    func() fields { return &crossEntry{} },
	"shifted_block":  func() fields { return &shiftedEntry{} },
	"hier_block":     func() fields { return &hierEntry{} },
	"overlap_block":  func() fields { return &overlapEntry{} },
	"random":         func() fields { return &randomEntry{} },
	"sinkhorn":       func() fields { return &sinkhornEntry{} },
	"sortcut":        func() fields { return &sortcutEntry{} },
	"sparse_strided": func() fields { return &stridedEntry{} },
	"sparse_fixed":   func() fields { return &fixedEntry{} },
	"pattern":        func() fields { return &patternEntry{} },
	"longformer":     func() fields { return &longformerEntry{} },
	"heads":          func() fields { return &headsEntry{} },
	"image1d":        func() fields { return &image1DEntry{} },
	"image2d":        func() fields { return &image2DEntry{} },
	"routing":        func() fields { return &routingEntry{} },
	"topk":           func() fields { return &topKEntry{} },
	"mips":           func() fields { return &mipsEntry{} },
	"lsh":            func() fields { return &lshEntry{} },
	"local":          func() fields { return &localEntry{} },
	"axial_row":      func() fields { return &axialEntry{} },
	"axial_column":   func() fields { return &axialEntry{} },
	"sac":            func() fields { return &sacEntry{} },
}

// EntryTypes lists the types of entries, sorted.
func EntryTypes() []string {
	names := make([]string, 0, len(entries))
	for n := range entries {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// UnmarshalJSON reads an entry. Errors: *config.FieldError with paths inside the entry, joined.
func (e *Entry) UnmarshalJSON(raw []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil || keys == nil {
		return fmt.Errorf("want an object such as {\"type\": \"full\"}")
	}
	there := "give one of " + strings.Join(EntryTypes(), ", ")
	given, ok := keys["type"]
	if !ok {
		return &config.FieldError{Path: "type", Want: "missing; " + there}
	}
	var name string
	if err := json.Unmarshal(given, &name); err != nil {
		return &config.FieldError{Path: "type", Value: given, Want: there}
	}
	construct, ok := entries[name]
	if !ok {
		return &config.FieldError{Path: "type", Value: name, Want: "no such type" + choice(name, EntryTypes())}
	}
	f := construct()
	faults := config.Faults(config.Decode(raw, f))
	at := map[string]bool{} // fields already reported
	for _, err := range faults {
		if fault := (*config.FieldError)(nil); errors.As(err, &fault) {
			at[fault.Path] = true
		}
	}
	for _, err := range f.check() {
		if fault := (*config.FieldError)(nil); !errors.As(err, &fault) || !at[fault.Path] {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	e.fields = f
	return nil
}

// EntryOf is the entry {"type": "pattern"} of a pattern made in Go.
func EntryOf(p Pattern) Entry {
	text := p.String()
	return Entry{&patternEntry{kind{"pattern"}, &text}}
}

// MarshalJSON writes the entry as it was read.
func (e Entry) MarshalJSON() ([]byte, error) {
	if e.fields == nil {
		return []byte(`{"type":"full"}`), nil
	}
	return json.Marshal(e.fields)
}

// Pattern is In for the first layer.
func (e Entry) Pattern(heads int, decoder bool) (Pattern, error) {
	return e.In(Layer{Heads: heads, Decoder: decoder})
}

// In is what a layer reads; in a decoder it is cut to earlier keys. Every head of every layer has random keys of its own. The zero
// Entry is full. Errors: the entry is made for another number of heads, speaks of positions that no sequence has, counts from the end
// in a decoder, or has nodes besides the tokens that no model of ours has: behind them, or before them in a decoder. How many stand
// before them says Front.
func (e Entry) In(at Layer) (Pattern, error) {
	p := Pattern(Full{})
	if e.fields != nil {
		var err error
		if p, err = e.fields.pattern(at); err != nil {
			return nil, err
		}
	}
	if err := CheckHeads(p, at.Heads); err != nil {
		return nil, err
	}
	if at.Decoder {
		if err := CheckCausal(p); err != nil {
			return nil, err
		}
	}
	if s := spaceOf(p); s.tree {
		return nil, fmt.Errorf("%s has nodes behind the tokens; the entry bp brings them, with the labels of its edges", p)
	} else if s.every > 0 {
		return nil, fmt.Errorf("%s has nodes behind the tokens; the entry cross_block brings them, and what they are made of", p)
	}
	if err := at.room(p); err != nil {
		return nil, err
	}
	p = ownDraws(p, at.Index, at.each())
	if at.Decoder {
		if p = Causal(p); p.FromEnd() {
			return nil, fmt.Errorf("%s counts from the end of the sequence, which is not known while it is written; in a decoder count from the front", p)
		}
	}
	return p, nil
}

// room says what of a pattern does not exist in any sequence of the model, see CheckLength.
func (l Layer) room(p Pattern) error {
	if l.Positions == 0 {
		return nil
	}
	if err := CheckLength(p, l.Positions); err != nil {
		return fmt.Errorf("max_position_embeddings is %d: %w", l.Positions, err)
	}
	return nil
}

// maxHeads bounds lists by head; more heads, or none, are a fault of the model that is told elsewhere.
const maxHeads = 4096

// each is the number of heads in lists by head.
func (l Layer) each() int { return min(max(l.Heads, 1), maxHeads) }

// kind is the field that every entry has.
type kind struct {
	Type string `json:"type"`
}

// checkSide checks a number of keys on one side, nil where it is not given.
func checkSide(faults []error, path string, v *int, required bool) []error {
	switch {
	case v == nil && required:
		return append(faults, &config.FieldError{Path: path, Want: "missing; give a whole number from 0 on"})
	case v != nil && *v < 0:
		return append(faults, &config.FieldError{Path: path, Value: *v, Want: "negative; give a whole number from 0 on"})
	case v != nil && *v > maxNumber:
		return append(faults, &config.FieldError{Path: path, Value: *v, Want: fmt.Sprintf("beyond %d", maxNumber)})
	}
	return faults
}

// checkPositive checks a required number that must not be 0.
func checkPositive(faults []error, path string, v *int) []error {
	if v != nil && *v == 0 {
		return append(faults, &config.FieldError{Path: path, Value: 0, Want: "give a whole number from 1 on"})
	}
	return checkSide(faults, path, v, true)
}

// right is a number that defaults to that of the left side, in a decoder to 0.
func right(v *int, left int, decoder bool) int {
	switch {
	case v != nil:
		return *v
	case decoder:
		return 0
	}
	return left
}

type fullEntry struct{ kind }

func (*fullEntry) check() []error                 { return nil }
func (*fullEntry) pattern(Layer) (Pattern, error) { return Full{}, nil }

type bandEntry struct {
	kind
	WindowLeft  *int `json:"window_left"`
	WindowRight *int `json:"window_right,omitempty"`
}

func (e *bandEntry) check() []error {
	return checkSide(checkSide(nil, "window_left", e.WindowLeft, true), "window_right", e.WindowRight, false)
}
func (e *bandEntry) pattern(at Layer) (Pattern, error) {
	return Band{Left: *e.WindowLeft, Right: right(e.WindowRight, *e.WindowLeft, at.Decoder)}, nil
}

type dilatedEntry struct {
	kind
	LeftSteps  *int `json:"left_steps"`
	RightSteps *int `json:"right_steps,omitempty"`
	Gap        gaps `json:"gap"`
}

// gaps is one gap or one for each head.
type gaps []int

func (g *gaps) UnmarshalJSON(raw []byte) error {
	var one int
	if config.Decode(raw, &one) == nil {
		*g = gaps{one}
		return nil
	}
	var list []int
	if err := config.Decode(raw, &list); err != nil {
		return fmt.Errorf("want a whole number, or a list with one for each head")
	}
	*g = list
	return nil
}

func (g gaps) MarshalJSON() ([]byte, error) {
	if len(g) == 1 {
		return json.Marshal(g[0])
	}
	return json.Marshal([]int(g))
}

func (e *dilatedEntry) check() []error {
	faults := checkSide(checkSide(nil, "left_steps", e.LeftSteps, true), "right_steps", e.RightSteps, false)
	if len(e.Gap) == 0 {
		faults = append(faults, &config.FieldError{Path: "gap", Want: "missing; give a whole number from 1 on, or a list with one for each head"})
	}
	for k := range e.Gap {
		path := "gap"
		if len(e.Gap) > 1 {
			path = fmt.Sprintf("gap[%d]", k)
		}
		faults = checkPositive(faults, path, &e.Gap[k])
	}
	return faults
}
func (e *dilatedEntry) pattern(at Layer) (Pattern, error) {
	parts := make([]Pattern, len(e.Gap))
	for h, g := range e.Gap {
		parts[h] = Dilated{Left: *e.LeftSteps, Right: right(e.RightSteps, *e.LeftSteps, at.Decoder), Gap: g}
	}
	if len(parts) != 1 && len(parts) != at.Heads {
		return nil, &config.FieldError{Path: "gap", Value: e.Gap, Want: fmt.Sprintf("%d gaps for %d heads; give one, or one for each head", len(parts), at.Heads)}
	}
	return Heads(parts...)
}

type blocksEntry struct {
	kind
	BlockSize *int `json:"block_size"`
}

func (e *blocksEntry) check() []error { return checkPositive(nil, "block_size", e.BlockSize) }
func (e *blocksEntry) pattern(Layer) (Pattern, error) {
	return Blocks{Size: *e.BlockSize}, nil
}

type patternEntry struct {
	kind
	Pattern *string `json:"pattern"`
}

func (e *patternEntry) check() []error {
	if e.Pattern == nil {
		return []error{&config.FieldError{Path: "pattern", Want: `missing; give an expression such as "band(255,0) + global(0)"`}}
	}
	if _, err := Parse(*e.Pattern); err != nil {
		return []error{&config.FieldError{Path: "pattern", Want: err.Error()}}
	}
	return nil
}
func (e *patternEntry) pattern(Layer) (Pattern, error) { return Parse(*e.Pattern) }

// headsEntry gives groups of heads, in order, entries of their own.
type headsEntry struct {
	kind
	Parts []headsPart `json:"parts"`
}

type headsPart struct {
	Heads     *int   `json:"heads"`
	Attention *Entry `json:"attention"`
}

func (e *headsEntry) check() (faults []error) {
	if len(e.Parts) == 0 {
		faults = append(faults, &config.FieldError{Path: "parts", Want: `missing; give a list such as [{"heads": 2, "attention": {"type": "full"}}]`})
	}
	for k, part := range e.Parts {
		faults = checkPositive(faults, fmt.Sprintf("parts[%d].heads", k), part.Heads)
		path := fmt.Sprintf("parts[%d].attention", k)
		if part.Attention == nil {
			faults = append(faults, &config.FieldError{Path: path, Want: "missing; give an entry"})
		} else if _, nested := part.Attention.fields.(*headsEntry); nested {
			faults = append(faults, &config.FieldError{Path: path, Want: "heads stands inside heads; list all parts in one"})
		} else if _, fits := part.Attention.fields.(someHeads); fits {
			continue
		} else if _, more := part.Attention.fields.(mixed); more {
			faults = append(faults, &config.FieldError{Path: path, Want: "is more than a pattern of heads; give it to the whole layer"})
		}
	}
	return faults
}
func (e *headsEntry) pattern(at Layer) (Pattern, error) {
	sum := 0
	for _, part := range e.Parts {
		sum += *part.Heads
	}
	if sum != at.Heads {
		return nil, &config.FieldError{Path: "parts", Want: fmt.Sprintf("the parts have %d heads together, the layer has %d", sum, at.Heads)}
	}
	var parts []Pattern
	for k, part := range e.Parts {
		own := at
		own.Heads = *part.Heads
		p, err := part.Attention.fields.pattern(own)
		if err == nil {
			err = CheckHeads(p, *part.Heads)
		}
		if err != nil {
			return nil, config.Prefix(fmt.Sprintf("parts[%d].attention", k), err)
		}
		for h := range *part.Heads {
			parts = append(parts, headOf(p, h))
		}
	}
	return Heads(parts...)
}
