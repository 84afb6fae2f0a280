package config

import "errors"

// Prefix puts a path before the path of a fault that was found in a part of a configuration. Lines are those of the part, so
// they are left out.
func Prefix(path string, err error) error {
	var fault *FieldError
	if !errors.As(err, &fault) {
		return &FieldError{Path: path, Want: err.Error()}
	}
	moved := *fault
	moved.Path, moved.Line, moved.Col = join(path, fault.Path), 0, 0
	if fault.Near != "" {
		moved.Near = join(path, fault.Near)
	}
	return &moved
}
