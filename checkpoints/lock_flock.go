//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package checkpoints

import (
	"fmt"
	"os"
)

// lockRun locks the file itself. It is never removed: a second process might hold the one that was.
func lockRun(dir, path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, ioError(path, "cannot be opened", err)
	}
	ok, err := tryLock(f)
	if err != nil {
		f.Close()
		return nil, ioError(path, "cannot be locked", err)
	}
	if !ok {
		f.Close()
		return nil, inUse(dir, path)
	}
	// The number is for people; that it cannot be written on a full disk must not stop the run.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	return &Lock{f, path}, nil
}

// Release gives the lock back.
func (l *Lock) Release() error {
	_ = l.f.Truncate(0)
	return l.f.Close()
}
