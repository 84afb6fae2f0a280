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
// however it ends, so that a file left behind means nothing. Readers need no lock.
//
// Errors: *FileError wrapping ErrInUse, naming the process that holds it.
func LockRun(dir string) (*Lock, error) {
	if err := mkdirAll(OSFS{}, dir); err != nil {
		return nil, err
	}
	return lockRun(dir, filepath.Join(dir, lockFile))
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
