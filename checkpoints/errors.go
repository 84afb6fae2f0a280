package checkpoints

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Kinds of fault. Every error of this package about a file wraps exactly one of them, in a *FileError.
var (
	ErrCorrupt    = errors.New("corrupt")
	ErrIncomplete = errors.New("incomplete")
	ErrTooLarge   = errors.New("too large")
	ErrVersion    = errors.New("unknown version")
	ErrNotFound   = errors.New("not found")
	ErrInUse      = errors.New("in use")
	ErrNoSpace    = errors.New("no space")
	ErrExists     = errors.New("exists already")
	ErrInvalid    = errors.New("invalid")   // what the caller asked to write or read makes no sense
	ErrIO         = errors.New("i/o error") // the system refused; Cause says why
)

// FileError says in one line where a fault is, what it is and what to do about it.
type FileError struct {
	Kind   error  // one of the Err values
	File   string // path of the file or folder
	Tensor string // name of the tensor, if the fault is in one
	What   string // what is wrong
	Do     string // what to do
	Cause  error  // error of the system or of a parser below, if any
}

// Error is `file: tensor "x": what; what to do`.
func (e *FileError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Tensor != "" {
		fmt.Fprintf(&b, ": tensor %q", shorten(e.Tensor))
	}
	b.WriteString(": " + e.What)
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	if e.Do != "" {
		b.WriteString("; " + e.Do)
	}
	return b.String()
}

// Unwrap makes errors.Is work for the kind and for the cause.
func (e *FileError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

const (
	doCopyAgain = "copy or download it again"
	doCheckDisk = "check the disk and its permissions"
	doFreeSpace = "free space or choose another run folder"
)

// ioError wraps an error of the system; a full disk gets its own kind.
func ioError(path, what string, cause error) error {
	var e *FileError
	if errors.As(cause, &e) {
		return cause
	}
	if errors.Is(cause, syscall.ENOSPC) {
		return &FileError{Kind: ErrNoSpace, File: path, What: what, Do: doFreeSpace, Cause: cause}
	}
	return &FileError{Kind: ErrIO, File: path, What: what, Do: doCheckDisk, Cause: cause}
}

// shorten keeps a hostile name from filling the screen.
func shorten(s string) string {
	if len(s) <= 120 {
		return s
	}
	return s[:100] + "..."
}
