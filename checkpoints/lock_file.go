//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package checkpoints

import (
	"fmt"
	"os"
)

// lockRun makes a file that names this process. A file whose process is gone is removed.
func lockRun(dir, path string) (*Lock, error) {
	for range 2 {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if err == nil {
			_, _ = f.WriteString(fmt.Sprintf("%d\n", os.Getpid()))
			return &Lock{f, path}, nil
		}
		if !os.IsExist(err) {
			return nil, ioError(path, "cannot be made", err)
		}
		if pid, ok := lockOwner(path); ok && alive(pid) {
			return nil, inUse(dir, path)
		}
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return nil, inUse(dir, path)
		}
	}
	return nil, inUse(dir, path)
}

// alive reports whether a process runs; where the system cannot say, finding it is taken for yes.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	_ = p.Release()
	return true
}

// Release gives the lock back.
func (l *Lock) Release() error {
	err := l.f.Close()
	if rerr := os.Remove(l.path); err == nil {
		err = rerr
	}
	return err
}
