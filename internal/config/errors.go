// Package config reads JSON into Go structs without guessing: an unknown key, a wrong type or a key given twice is an error that says
// where, and all of them are reported at once.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// FieldError is one fault of a configuration.
type FieldError struct {
	Path  string // "train.lr", "attention[2].type"
	Value any    // what is there (json.RawMessage: as it stands in the file); nil if it does not matter
	Want  string // what should be there, or what is wrong
	Near  string // of an unknown key: the path of the nearest valid one
	Line  int    // where in the file, from 1; 0 for a value that was set on the command line
	Col   int
}

func (e *FieldError) Error() string {
	var s strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&s, "line %d column %d: ", e.Line, e.Col)
	}
	if e.Path != "" {
		s.WriteString(e.Path)
		if e.Value != nil {
			s.WriteString(" is " + text(e.Value))
		}
		s.WriteString(": ")
	}
	s.WriteString(e.Want)
	if e.Near != "" {
		fmt.Fprintf(&s, "; did you mean %q?", e.Near)
	}
	return s.String()
}

// SyntaxError says where JSON is broken.
type SyntaxError struct {
	Line, Col int
	What      string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d column %d: %s; repair the JSON there", e.Line, e.Col, e.What)
}

// FileError names the file or the flag that faults belong to; its message has a line for each fault.
type FileError struct {
	Name string
	Err  error
}

func (e *FileError) Error() string {
	faults := Faults(e.Err)
	if len(faults) <= 1 {
		return e.Name + ": " + e.Err.Error()
	}
	lines := []string{fmt.Sprintf("%s: %d faults", e.Name, len(faults))}
	for _, f := range faults {
		lines = append(lines, "  "+f.Error())
	}
	return strings.Join(lines, "\n")
}

func (e *FileError) Unwrap() error { return e.Err }

// Faults takes a joined error apart: all errors that it holds, in order.
func Faults(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		var lines []string
		for _, e := range joined.Unwrap() {
			all = append(all, Faults(e)...)
			lines = append(lines, e.Error())
		}
		if strings.Join(lines, "\n") == err.Error() { // of errors.Join; others have a message of their own
			return all
		}
	}
	if file := (*FileError)(nil); errors.As(err, &file) && err == error(file) {
		return Faults(file.Err)
	}
	return []error{err}
}

// Merge joins what is wrong with how a configuration is written with what is wrong with what was read. A field that could not
// be read holds what it held before, so what the check says of it is left out.
func Merge(read, check error) error {
	faults := Faults(read)
	unread := map[string]bool{}
	for _, f := range faults {
		if field := (*FieldError)(nil); errors.As(f, &field) {
			unread[field.Path] = true
		}
	}
	for _, f := range Faults(check) {
		if field := (*FieldError)(nil); !errors.As(f, &field) || !unread[field.Path] {
			faults = append(faults, f)
		}
	}
	return errors.Join(faults...)
}

// IsSyntax reports whether an error is of broken JSON, of which nothing was read.
func IsSyntax(err error) bool {
	var e *SyntaxError
	return errors.As(err, &e)
}

// text is a value on one line, as JSON.
func text(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return shorten(fmt.Sprint(v)) // NaN, infinities
	}
	return shorten(string(raw))
}

// shorten makes a value fit on a line.
func shorten(raw string) string {
	raw = strings.Join(strings.Fields(raw), " ")
	if r := []rune(raw); len(r) > 60 {
		return string(r[:57]) + "..."
	}
	return raw
}
