package data

import (
	"errors"
	"strconv"
	"strings"
)

// What can be wrong with data; test with errors.Is.
var (
	ErrMissing     = errors.New("not found")
	ErrEmpty       = errors.New("empty")
	ErrTooShort    = errors.New("too short")
	ErrTooLarge    = errors.New("too large")
	ErrBinary      = errors.New("not text")
	ErrFormat      = errors.New("unknown format")
	ErrTorn        = errors.New("damaged")
	ErrUnknownTask = errors.New("unknown task")
	ErrTask        = errors.New("bad task parameter")
	ErrTokenizer   = errors.New("unknown tokenizer")
	ErrLabel       = errors.New("unknown class")
	ErrRead        = errors.New("cannot be read")
	ErrChanged     = errors.New("not what it was")
	ErrPlace       = errors.New("another place in a stream")
)

// Error says on one line what is wrong with which data and what to do about it.
type Error struct {
	Kind    error  // one of the Err values of this package
	Path    string // file, folder or name of the data
	Line    int    // line of the file, from 1; 0 if none in particular
	What    string
	Fix     string // what to do
	Largest int    // of ErrTooShort: the largest sequence length that would do
	Err     error  // cause, or nil
}

func (e *Error) Error() string {
	var s strings.Builder
	s.WriteString("data: ")
	if e.Path != "" {
		s.WriteString(e.Path)
		if e.Line > 0 {
			s.WriteString(":" + strconv.Itoa(e.Line))
		}
		s.WriteString(": ")
	}
	s.WriteString(e.What)
	if e.Fix != "" {
		s.WriteString("; " + e.Fix)
	}
	return strings.ReplaceAll(s.String(), "\n", " ")
}

// Unwrap lets errors.Is find the kind as well as the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}
