package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"strconv"
)

// ReadFile decodes a JSON file into what dst points to, see Decode.
//
// Errors: *FileError around what os or Decode say.
func ReadFile(path string, dst any) error {
	f, err := os.Open(path)
	if err != nil {
		return &FileError{path, fileFault(err)}
	}
	defer func() { _ = f.Close() }()
	src, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return &FileError{path, fileFault(err)}
	}
	if len(src) > 1 && (src[0] == 0xff && src[1] == 0xfe || src[0] == 0xfe && src[1] == 0xff) {
		return &FileError{path, &SyntaxError{Line: 1, Col: 1, What: "written in UTF-16: write it in UTF-8"}}
	}
	if err := Decode(bytes.TrimPrefix(src, []byte("\ufeff")), dst); err != nil { // some editors put that mark before UTF-8
		return &FileError{path, err}
	}
	return nil
}

// fileFault leaves the path out of an error of os: FileError names it.
func fileFault(err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("cannot be read (%w); check the path", err)
}

// Decode reads JSON into what dst points to, by the rules of encoding/json with these exceptions: keys are case-sensitive; unknown keys
// and keys given twice are faults; a list replaces what was there; null is only taken where there is a pointer, list, map or interface;
// a whole number may be written 1e3. Fields that the text does not name keep their value, so defaults are set before.
// Types with UnmarshalJSON or UnmarshalText read themselves; faults they report get the path in front.
//
// Errors: *SyntaxError, or all faults (the first hundred, where there are more) as *FieldError, joined; dst may then be half filled.
func Decode(src []byte, dst any) error {
	root, err := parse(src)
	if err != nil {
		return err
	}
	d := decoder{src: src, lines: true}
	d.decode(root, reflect.ValueOf(dst).Elem(), "")
	return errors.Join(d.faults...)
}

// decoder fills Go values from a tree and collects faults.
type decoder struct {
	src    []byte
	lines  bool // report lines and columns
	faults []error
}

func (d *decoder) fault(at int, path string, value any, want string) {
	d.add(at, &FieldError{Path: path, Value: value, Want: want})
}

// maxFaults bounds what is reported at once. A place costs a pass over the text, so a million of faults would cost hours.
const maxFaults = 100

// add notes a fault with its place.
func (d *decoder) add(at int, e *FieldError) {
	if d.full() {
		return
	}
	if d.lines {
		e.Line, e.Col = position(d.src, at)
	}
	d.faults = append(d.faults, e)
}

// full reports whether there are so many faults that no more are noted, and ends them with one that says so.
func (d *decoder) full() bool {
	if len(d.faults) == maxFaults {
		d.faults = append(d.faults, &FieldError{Want: fmt.Sprintf("more than %d faults; repair these first", maxFaults)})
	}
	return len(d.faults) > maxFaults
}

func (d *decoder) raw(n *node) json.RawMessage { return json.RawMessage(d.src[n.start:n.end]) }

func (d *decoder) wrong(n *node, path, want string) {
	d.fault(n.start, path, d.raw(n), "want "+want)
}

func (d *decoder) decode(n *node, v reflect.Value, path string) {
	if n.kind == 'n' {
		switch v.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
			v.SetZero()
			return
		}
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.decode(n, v.Elem(), path)
		return
	}
	if d.own(n, v, path) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.object(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice, reflect.Array:
		d.list(n, v, path)
	case reflect.Interface:
		d.duplicates(n, path)
		if v.NumMethod() > 0 {
			d.wrong(n, path, "nothing: this field cannot be given in JSON")
			return
		}
		var x any
		if err := json.Unmarshal(d.raw(n), &x); err != nil {
			d.wrong(n, path, "JSON ("+err.Error()+")")
			return
		}
		v.Set(reflect.ValueOf(&x).Elem())
	default:
		d.scalar(n, v, path)
	}
}

// own lets a type with an unmarshaler of its own read itself.
func (d *decoder) own(n *node, v reflect.Value, path string) bool {
	if !v.CanAddr() || !v.Addr().CanInterface() {
		return false
	}
	var err error
	switch u := v.Addr().Interface().(type) {
	case json.Unmarshaler:
		d.duplicates(n, path)
		if v.Kind() == reflect.Slice {
			v.SetZero() // json.RawMessage would write over bytes that others may share
		}
		err = u.UnmarshalJSON(d.raw(n))
	case encoding.TextUnmarshaler:
		if n.kind != '"' {
			d.wrong(n, path, "a string")
			return true
		}
		err = u.UnmarshalText([]byte(n.str))
	default:
		return false
	}
	for _, fault := range Faults(err) {
		if d.full() {
			break
		}
		if f := (*FieldError)(nil); errors.As(fault, &f) {
			moved := *f
			moved.Path = join(path, f.Path)
			if f.Near != "" {
				moved.Near = join(path, f.Near)
			}
			moved.Line, moved.Col = 0, 0
			if d.lines {
				moved.Line, moved.Col = d.place(n, f)
			}
			d.faults = append(d.faults, &moved)
			continue
		}
		d.fault(n.start, path, d.raw(n), fault.Error())
	}
	return true
}

// place finds where in the whole text a fault is that a type's own unmarshaler found in its part.
func (d *decoder) place(n *node, f *FieldError) (line, col int) {
	line, col = position(d.src, n.start)
	switch {
	case f.Line > 1:
		return line + f.Line - 1, f.Col
	case f.Line == 1:
		return line, col + f.Col - 1
	}
	return line, col
}

func (d *decoder) object(n *node, v reflect.Value, path string) {
	if n.kind != '{' {
		d.wrong(n, path, "an object")
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]bool{}
	for i, k := range n.keys {
		at := join(path, k.name)
		if seen[k.name] {
			d.fault(k.start, at, nil, "given twice; keep one")
			continue
		}
		seen[k.name] = true
		if d.full() {
			return
		}
		index, ok := fields.index[k.name]
		if !ok {
			d.add(k.start, unknown(path, k.name, fields.names))
			continue
		}
		d.decode(n.values[i], fieldByIndex(v, index), at)
	}
}

func (d *decoder) mapping(n *node, v reflect.Value, path string) {
	if n.kind != '{' {
		d.wrong(n, path, "an object")
		return
	}
	if v.Type().Key().Kind() != reflect.String {
		d.wrong(n, path, "nothing: this field cannot be given in JSON")
		return
	}
	m := reflect.MakeMap(v.Type())
	for i, k := range n.keys {
		name := reflect.ValueOf(k.name).Convert(v.Type().Key())
		if m.MapIndex(name).IsValid() {
			d.fault(k.start, join(path, k.name), nil, "given twice; keep one")
			continue
		}
		x := reflect.New(v.Type().Elem()).Elem()
		d.decode(n.values[i], x, join(path, k.name))
		m.SetMapIndex(name, x)
	}
	v.Set(m)
}

func (d *decoder) list(n *node, v reflect.Value, path string) {
	if n.kind != '[' {
		d.wrong(n, path, "a list")
		return
	}
	if v.Kind() == reflect.Array && len(n.values) != v.Len() {
		d.wrong(n, path, fmt.Sprintf("a list of %d", v.Len()))
		return
	}
	if v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), len(n.values), len(n.values)))
	}
	for i, x := range n.values {
		d.decode(x, v.Index(i), path+"["+strconv.Itoa(i)+"]")
	}
}

func (d *decoder) scalar(n *node, v reflect.Value, path string) {
	text := string(d.raw(n))
	switch v.Kind() {
	case reflect.String:
		if n.kind != '"' {
			d.wrong(n, path, "a string")
			return
		}
		v.SetString(n.str)
	case reflect.Bool:
		if n.kind != 't' && n.kind != 'f' {
			d.wrong(n, path, "true or false")
			return
		}
		v.SetBool(n.kind == 't')
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, ok := whole(text)
		if n.kind != '0' || !ok || v.OverflowInt(i) {
			d.wrong(n, path, "a whole number"+inRange(n, v.OverflowInt(i) || !ok))
			return
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		u, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			i, ok := whole(text)
			u = uint64(i)
			if ok && i >= 0 {
				err = nil
			}
		}
		if n.kind != '0' || err != nil || v.OverflowUint(u) {
			d.wrong(n, path, "a whole number from 0")
			return
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if n.kind != '0' || err != nil || v.OverflowFloat(f) {
			d.wrong(n, path, "a number")
			return
		}
		v.SetFloat(f)
	default:
		d.wrong(n, path, "nothing: this field cannot be given in JSON")
	}
}

// whole reads a whole number, also in the forms 1e3 and 2.0.
func whole(text string) (int64, bool) {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

func inRange(n *node, out bool) string {
	if n.kind == '0' && out {
		return " in range"
	}
	return ""
}

// duplicates reports keys given twice in a part that a type reads by itself.
func (d *decoder) duplicates(n *node, path string) {
	seen := map[string]bool{}
	for i, k := range n.keys {
		if seen[k.name] {
			d.fault(k.start, join(path, k.name), nil, "given twice; keep one")
		}
		seen[k.name] = true
		d.duplicates(n.values[i], join(path, k.name))
	}
	if n.kind == '[' {
		for i, x := range n.values {
			d.duplicates(x, path+"["+strconv.Itoa(i)+"]")
		}
	}
}

// join appends a key to a path.
func join(path, name string) string {
	if path == "" || name == "" || name[0] == '[' {
		return path + name
	}
	return path + "." + name
}
