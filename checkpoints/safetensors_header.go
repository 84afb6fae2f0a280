package checkpoints

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// headerParser walks the tokens of a header once. It keeps nothing but what it has checked, so that its memory is bounded by
// the header, and it sees duplicate keys, which encoding/json would merge.
type headerParser struct {
	s   *Safetensors
	dec *json.Decoder
}

func (s *Safetensors) parseHeader(header []byte) error {
	p := &headerParser{s: s, dec: json.NewDecoder(bytes.NewReader(header))}
	p.dec.UseNumber()
	s.infos = map[string]TensorInfo{}
	if err := p.open('{', "the header"); err != nil {
		return err
	}
	meta := false
	for p.dec.More() {
		name, err := p.key()
		if err != nil {
			return err
		}
		if name == metadataKey {
			if meta {
				return s.fault(ErrCorrupt, "", "the header has two "+metadataKey+" entries")
			}
			meta = true
			if err := p.metadata(); err != nil {
				return err
			}
			continue
		}
		if _, dup := s.infos[name]; dup {
			return s.fault(ErrCorrupt, name, "stands twice in the header")
		}
		if len(s.infos) == maxTensors {
			return s.fault(ErrTooLarge, "", fmt.Sprintf("has more than %d tensors", maxTensors))
		}
		info, err := p.tensor(name)
		if err != nil {
			return err
		}
		s.infos[name] = info
	}
	if _, err := p.token(); err != nil {
		return err
	}
	if _, err := p.dec.Token(); err != io.EOF {
		return s.fault(ErrCorrupt, "", "the header goes on after its closing brace")
	}
	return nil
}

// tensor reads {"dtype":..., "shape":[...], "data_offsets":[begin,end]}; fields may stand in any order. Offset is still
// relative to the data.
func (p *headerParser) tensor(name string) (TensorInfo, error) {
	t := TensorInfo{Name: name}
	fault := func(format string, a ...any) (TensorInfo, error) {
		return t, p.s.fault(ErrCorrupt, name, fmt.Sprintf(format, a...))
	}
	if err := p.open('{', "the entry"); err != nil {
		return t, err
	}
	var seen []string // few: a slice costs less than a map for each of many tensors
	var offsets []int64
	for p.dec.More() {
		key, err := p.key()
		if err != nil {
			return t, err
		}
		if slices.Contains(seen, key) {
			return fault("field %q stands twice", shorten(key))
		}
		if len(seen) == 64 {
			return fault("has more than 64 fields")
		}
		seen = append(seen, key)
		switch key {
		case "dtype":
			v, err := p.token()
			if err != nil {
				return t, err
			}
			word, ok := v.(string)
			t.Dtype = Dtype(word)
			if !ok || t.Dtype.Size() == 0 {
				return fault("unknown dtype %s", shorten(fmt.Sprint(v)))
			}
		case "shape":
			dims, err := p.numbers(name, "shape", maxAxes)
			if err != nil {
				return t, err
			}
			t.Shape = make([]int, len(dims))
			for i, d := range dims {
				if d > math.MaxInt {
					return fault("axis %d of size %d is too long", i, d)
				}
				t.Shape[i] = int(d)
			}
		case "data_offsets":
			if offsets, err = p.numbers(name, "data_offsets", 2); err != nil {
				return t, err
			}
			if len(offsets) != 2 {
				return fault("data_offsets has %d numbers, not 2", len(offsets))
			}
		default:
			p.s.note(fmt.Sprintf("tensor %q: unknown field %q ignored", shorten(name), shorten(key)))
			if err := p.skip(2); err != nil {
				return t, err
			}
		}
	}
	if _, err := p.token(); err != nil {
		return t, err
	}
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if !slices.Contains(seen, key) {
			return fault("field %q is missing", key)
		}
	}
	size, ok := elements(t.Shape, t.Dtype.Size())
	if !ok {
		return fault("shape %v overflows", t.Shape)
	}
	t.Size = size
	t.Offset, t.Bytes = offsets[0], offsets[1]-offsets[0]
	if want := int64(size) * int64(t.Dtype.Size()); t.Bytes != want {
		return fault("data_offsets %v hold %d bytes, %s%v needs %d", offsets, t.Bytes, t.Dtype, t.Shape, want)
	}
	return t, nil
}

// elements multiplies a shape; false if elements*width does not fit an int.
func elements(shape []int, width int) (int, bool) {
	n := uint64(1)
	zero := false
	for _, d := range shape {
		if d < 0 {
			return 0, false
		}
		if d == 0 {
			zero = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 {
			return 0, false
		}
		n = lo
	}
	if hi, lo := bits.Mul64(n, uint64(width)); hi != 0 || lo > math.MaxInt {
		return 0, false
	}
	if zero {
		return 0, true
	}
	return int(n), true
}

func (p *headerParser) metadata() error {
	if err := p.open('{', metadataKey); err != nil {
		return err
	}
	p.s.metadata = map[string]string{}
	for p.dec.More() {
		key, err := p.key()
		if err != nil {
			return err
		}
		v, err := p.token()
		if err != nil {
			return err
		}
		word, ok := v.(string)
		if !ok {
			return p.s.fault(ErrCorrupt, "", fmt.Sprintf("%s entry %q is not a string", metadataKey, shorten(key)))
		}
		if _, dup := p.s.metadata[key]; dup {
			return p.s.fault(ErrCorrupt, "", fmt.Sprintf("%s entry %q stands twice", metadataKey, shorten(key)))
		}
		p.s.metadata[key] = word
	}
	_, err := p.token()
	return err
}

// numbers reads an array of at most limit whole numbers >= 0.
func (p *headerParser) numbers(tensor, field string, limit int) ([]int64, error) {
	if err := p.open('[', field); err != nil {
		return nil, err
	}
	var out []int64
	for p.dec.More() {
		v, err := p.token()
		if err != nil {
			return nil, err
		}
		if len(out) == limit {
			return nil, p.s.fault(ErrCorrupt, tensor, fmt.Sprintf("%s has more than %d numbers", field, limit))
		}
		word, _ := v.(json.Number)
		n, err := strconv.ParseUint(string(word), 10, 63)
		if err != nil {
			return nil, p.s.fault(ErrCorrupt, tensor, fmt.Sprintf("%s holds %s, not a whole number >= 0", field, shorten(fmt.Sprint(v))))
		}
		out = append(out, int64(n))
	}
	_, err := p.token()
	return out, err
}

// skip passes over one value that lies at the given depth.
func (p *headerParser) skip(depth int) error {
	for open := depth; ; {
		v, err := p.token()
		if err != nil {
			return err
		}
		switch v {
		case json.Delim('{'), json.Delim('['):
			open++
		case json.Delim('}'), json.Delim(']'):
			open--
		}
		if open > maxDepth {
			return p.s.fault(ErrCorrupt, "", fmt.Sprintf("the header is nested deeper than %d", maxDepth))
		}
		if open == depth {
			return nil
		}
	}
}

func (p *headerParser) open(want json.Delim, where string) error {
	v, err := p.token()
	if err != nil {
		return err
	}
	if v != want {
		return p.s.fault(ErrCorrupt, "", fmt.Sprintf("%s does not start with '%v'", where, want))
	}
	return nil
}

func (p *headerParser) key() (string, error) {
	v, err := p.token()
	if err != nil {
		return "", err
	}
	word, ok := v.(string)
	if !ok {
		return "", p.s.fault(ErrCorrupt, "", "the header has a key that is not a string")
	}
	return word, nil
}

func (p *headerParser) token() (json.Token, error) {
	v, err := p.dec.Token()
	if err != nil {
		return nil, &FileError{Kind: ErrCorrupt, File: p.s.file, What: "the header is not valid JSON", Do: doCopyAgain, Cause: err}
	}
	return v, nil
}

func (s *Safetensors) note(text string) {
	if len(s.notes) < 20 {
		s.notes = append(s.notes, text)
	}
}
