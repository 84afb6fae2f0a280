//go:build !(darwin || freebsd || linux)

package checkpoints

import "errors"

// freeBytes is unknown here; a full disk then shows itself when a file is written.
func freeBytes(string) (uint64, error) { return 0, errors.ErrUnsupported }
