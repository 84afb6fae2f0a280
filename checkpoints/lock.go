package checkpoints

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const lockFile = ".lock"

// Lock is the right to write into a run folder.
type Lock struct {
	f    *os.File
	path string
}

// LockRun takes the lock of a run folder, which is made if it is not there. The system drops the lock when the process ends,
// however it ends, so that a file left behind means nothing. Readers need no lock. What an interrupted process left under
// temporary names in the folder is removed.
//
// Errors: *FileError wrapping ErrInUse, naming the process that holds it.
func LockRun(dir string) (*Lock, error) {
	if err := mkdirAll(OSFS{}, dir); err != nil {
		return nil, err
	}
	l, err := lockRun(dir, filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	// Only the holder writes here, so what has a temporary name is left over.
	if err := Sweep(dir, Options{}); err != nil {
		_ = l.Release()
		return nil, err
	}
	return l, nil
}

func inUse(dir, path string) error {
	pid := "another process"
	if n, ok := lockOwner(path); ok {
		pid = fmt.Sprintf("pid %d", n)
	}
	return &FileError{Kind: ErrInUse, File: dir, What: "run folder in use by " + pid, Do: "wait for it, stop it, or choose another run folder"}
}

// lockOwner reads the process id in a lock file.
func lockOwner(path string) (int, bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return n, err == nil && n > 0
}
