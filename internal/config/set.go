package config

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Set carries out assignments such as "train.lr=1e-3", "model.attention[0].window_left=511" or "data.path=my.txt" on what dst points
// to. The value is JSON; a string needs no quotes, and a list of plain values may be written 1,2,3. An index one past the end of a
// list appends. Below a json.RawMessage, an interface or a type that reads itself any key may be set: whoever decodes it checks it.
//
// Errors: all faults as *FieldError, joined.
func Set(dst any, assignments ...string) error {
	var faults []error
	for _, a := range assignments {
		path, value, ok := strings.Cut(a, "=")
		steps, err := split(path)
		switch {
		case !ok:
			faults = append(faults, &FieldError{Path: a, Want: "write it as path=value, for example train.lr=1e-3"})
		case err != nil:
			faults = append(faults, err)
		case len(value) > MaxBytes:
			faults = append(faults, &FieldError{Path: path, Want: fmt.Sprintf("a value below %d MiB", MaxBytes>>20)})
		default:
			s := setter{text: value}
			s.set(reflect.ValueOf(dst).Elem(), steps, "")
			faults = append(faults, s.faults...)
		}
	}
	return errors.Join(faults...)
}

// split takes a path apart: keys as they are, indices with a bracket in front ("[2").
func split(path string) ([]string, error) {
	var steps []string
	for _, part := range strings.Split(path, ".") {
		name, rest, bracket := strings.Cut(part, "[")
		if name == "" && (len(steps) == 0 || !bracket) || len(steps) > maxDepth {
			return nil, &FieldError{Path: path, Want: "a path such as train.lr or model.attention[0].type"}
		}
		if name != "" {
			steps = append(steps, name)
		}
		for bracket {
			var index string
			var closed bool
			if index, rest, closed = strings.Cut(rest, "]"); !closed {
				return nil, &FieldError{Path: path, Want: "a ']' after the index"}
			}
			if _, err := strconv.ParseUint(index, 10, 31); err != nil {
				return nil, &FieldError{Path: path, Want: "a number between [ and ]"}
			}
			steps = append(steps, "["+index)
			if rest, bracket = strings.CutPrefix(rest, "["); !bracket && rest != "" {
				return nil, &FieldError{Path: path, Want: "a '.' after ']'"}
			}
		}
	}
	return steps, nil
}

// setter puts one value into its place.
type setter struct {
	text   string
	faults []error
}

func (s *setter) fail(path, want string) {
	s.faults = append(s.faults, &FieldError{Path: path, Want: want})
}

func (s *setter) set(v reflect.Value, steps []string, path string) {
	if len(steps) == 0 {
		s.assign(v, path)
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		s.set(v.Elem(), steps, path)
		return
	}
	if free(v) {
		s.edit(v, steps, path)
		return
	}
	step := steps[0]
	index, isIndex := strings.CutPrefix(step, "[")
	at := join(path, step)
	if isIndex {
		at = path + "[" + index + "]"
	}
	switch v.Kind() {
	case reflect.Struct:
		f := fieldsOf(v.Type())
		i, ok := f.index[step]
		if !ok {
			s.faults = append(s.faults, unknown(path, step, f.names))
			return
		}
		s.set(fieldByIndex(v, i), steps[1:], at)
	case reflect.Map:
		key := reflect.ValueOf(step).Convert(v.Type().Key())
		x := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(key); old.IsValid() {
			x.Set(old)
		}
		if s.set(x, steps[1:], at); len(s.faults) == 0 {
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			v.SetMapIndex(key, x)
		}
	case reflect.Slice, reflect.Array:
		i, err := strconv.Atoi(index)
		switch {
		case err != nil || i < 0:
			s.fail(at, "want an index, such as "+path+"[0]")
		case i > v.Len() || i == v.Len() && v.Kind() == reflect.Array:
			s.fail(at, fmt.Sprintf("there are only %d", v.Len()))
		case i == v.Len():
			x := reflect.New(v.Type().Elem()).Elem()
			if s.set(x, steps[1:], at); len(s.faults) == 0 {
				v.Set(reflect.Append(v, x))
			}
		default:
			s.set(v.Index(i), steps[1:], at)
		}
	default:
		s.fail(at, path+" has no keys below it")
	}
}

// free reports whether the keys below v are not those of a Go struct.
func free(v reflect.Value) bool {
	if v.Kind() == reflect.Interface {
		return true
	}
	if !v.CanAddr() {
		return false
	}
	_, ok := v.Addr().Interface().(json.Unmarshaler)
	return ok
}

// assign parses the text as a value for v.
func (s *setter) assign(v reflect.Value, path string) {
	form := s.form(v.Type())
	n, err := parse([]byte(form))
	if err != nil {
		s.faults = append(s.faults, &FieldError{Path: path, Value: s.text, Want: err.Error()})
		return
	}
	x := reflect.New(v.Type()).Elem()
	x.Set(v)
	d := decoder{src: []byte(form)}
	if d.decode(n, x, path); len(d.faults) > 0 {
		s.faults = append(s.faults, d.faults...)
		return
	}
	v.Set(x)
}

// form is the JSON that the text stands for, given the type it is for.
func (s *setter) form(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	valid := json.Valid([]byte(s.text))
	quotes := valid && strings.HasPrefix(strings.TrimSpace(s.text), `"`)
	bracket := strings.HasPrefix(s.text, "[") || strings.HasPrefix(s.text, "{")
	pointer := reflect.PointerTo(t)
	switch {
	case s.text == "null":
		return s.text
	case t.Kind() == reflect.Interface || pointer.Implements(reflect.TypeFor[json.Unmarshaler]()):
		if valid {
			return s.text
		}
		return quote(s.text)
	case t.Kind() == reflect.String || pointer.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		if quotes {
			return s.text
		}
		return quote(s.text)
	case bracket:
		return s.text
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Array:
		return s.list(t.Elem())
	case !valid:
		return quote(s.text) // so that the fault speaks of the type, not of JSON
	}
	return s.text
}

// list is the JSON of a list that is written 1,2,3.
func (s *setter) list(element reflect.Type) string {
	if s.text == "" {
		return "[]"
	}
	parts := strings.Split(s.text, ",")
	for i, p := range parts {
		parts[i] = (&setter{text: strings.TrimSpace(p)}).form(element)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// edit changes a value that is known as JSON only.
func (s *setter) edit(v reflect.Value, steps []string, path string) {
	old, err := json.Marshal(v.Interface())
	if err != nil {
		old = nil
	}
	value := s.text
	if !json.Valid([]byte(value)) {
		value = quote(value)
	}
	changed, err := edit(old, steps, value)
	if err != nil {
		s.fail(join(path, name(steps)), err.Error())
		return
	}
	n, err := parse(changed)
	if err != nil {
		s.fail(join(path, name(steps)), err.Error())
		return
	}
	x := reflect.New(v.Type()).Elem()
	d := decoder{src: changed}
	if d.decode(n, x, path); len(d.faults) > 0 {
		s.faults = append(s.faults, d.faults...)
		return
	}
	v.Set(x)
}

// edit returns the JSON text src with the value at a path replaced or added; everything else stays as it is.
func edit(src []byte, steps []string, value string) ([]byte, error) {
	if len(steps) == 0 {
		return []byte(value), nil
	}
	index, isIndex := strings.CutPrefix(steps[0], "[")
	if len(src) == 0 || string(src) == "null" {
		src = []byte("{}")
		if isIndex {
			src = []byte("[]")
		}
	}
	n, err := parse(src)
	if err != nil {
		return nil, err
	}
	var child *node
	var label string // of a new key
	switch n.kind {
	case '{':
		child = n.get(steps[0])
		label = quote(steps[0]) + ":"
		if isIndex {
			return nil, fmt.Errorf("want a key, not an index")
		}
	case '[':
		i, err := strconv.Atoi(index)
		if err != nil || i < 0 || i > len(n.values) {
			return nil, fmt.Errorf("want an index of 0 to %d", len(n.values))
		}
		if i < len(n.values) {
			child = n.values[i]
		}
	default:
		return nil, fmt.Errorf("the value above is a %s and has no keys", n.word())
	}
	if child != nil {
		inner, err := edit(src[child.start:child.end], steps[1:], value)
		if err != nil {
			return nil, err
		}
		return slices.Concat(src[:child.start], inner, src[child.end:]), nil
	}
	inner, err := edit(nil, steps[1:], value)
	if err != nil {
		return nil, err
	}
	if len(n.values) > 0 {
		label = "," + label
	}
	end := n.end - 1
	return slices.Concat(src[:end], []byte(label), inner, src[end:]), nil
}

// name writes steps as a path.
func name(steps []string) string {
	path := ""
	for _, s := range steps {
		if index, ok := strings.CutPrefix(s, "["); ok {
			path += "[" + index + "]"
		} else {
			path = join(path, s)
		}
	}
	return path
}
