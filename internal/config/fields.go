package config

import (
	"reflect"
	"slices"
	"strings"
)

// fields are the JSON keys of a struct.
type fields struct {
	names []string // in the order of the struct
	index map[string][]int
}

// fieldsOf lists the keys of a struct, those of embedded structs included; an outer field hides an inner one of the same name.
func fieldsOf(t reflect.Type) fields {
	f := fields{index: map[string][]int{}}
	f.add(t, nil)
	return f
}

func (f *fields) add(t reflect.Type, prefix []int) {
	var embedded []reflect.StructField
	for i := range t.NumField() {
		field := t.Field(i)
		tag := field.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		if tag == "-" {
			continue
		}
		inner := field.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if field.Anonymous && name == "" && inner.Kind() == reflect.Struct {
			embedded = append(embedded, field)
			continue
		}
		if !field.IsExported() {
			continue
		}
		if name == "" {
			name = field.Name
		}
		if _, taken := f.index[name]; !taken {
			f.names = append(f.names, name)
			f.index[name] = append(slices.Clone(prefix), i)
		}
	}
	for _, field := range embedded {
		inner := field.Type
		if inner.Kind() == reflect.Pointer {
			if !field.IsExported() {
				continue // reflect cannot set it
			}
			inner = inner.Elem()
		}
		f.add(inner, append(slices.Clone(prefix), field.Index...))
	}
}

// fieldByIndex is reflect's, but makes embedded pointers on its way.
func fieldByIndex(v reflect.Value, index []int) reflect.Value {
	for _, i := range index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v
}

// unknown is the fault of a key that is none: it names the nearest valid one, or all of them.
func unknown(path, name string, valid []string) *FieldError {
	e := &FieldError{Path: join(path, name), Want: "unknown key"}
	if near := Nearest(name, valid); near != "" {
		e.Near = join(path, near)
	} else {
		e.Want += "; valid are " + list(valid)
	}
	return e
}

// list joins words, shortened.
func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	if len(words) > 24 {
		return strings.Join(words[:24], ", ") + ", ..."
	}
	return strings.Join(words, ", ")
}

// Nearest returns the word with the smallest edit distance, or "" if none is near: at most a third of its letters differ (at least 2
// may), or one holds the other.
func Nearest(word string, valid []string) string {
	best, distance := "", len(word)+1
	for _, v := range valid {
		if d := edits(strings.ToLower(word), strings.ToLower(v)); d < distance {
			best, distance = v, d
		}
	}
	if best != "" && distance <= max(2, len(best)/3) && distance < max(len(word), len(best)) {
		return best
	}
	for _, v := range valid {
		if len(word) >= 3 && len(v) >= 3 && (strings.Contains(v, word) || strings.Contains(word, v)) {
			return v
		}
	}
	return ""
}

// Misspelt is the word that was likely meant: one letter of four to seven is another, or two of eight and more, or one word of eight letters begins the
// other; "" if there is none.
func Misspelt(word string, valid []string) string {
	for _, v := range valid {
		begins := min(len(word), len(v)) >= 8 && (strings.HasPrefix(word, v) || strings.HasPrefix(v, word))
		if most := min(2, min(len(word), len(v))/4); word != v && (begins || edits(word, v) <= most) {
			return v
		}
	}
	return ""
}

// edits is the Damerau-Levenshtein distance (optimal string alignment) of two words.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
