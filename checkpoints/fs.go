package checkpoints

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is what this package asks of a file system. Tests put one in that fails, or that forgets what was not synced.
// Paths are those of the operating system.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Mkdir(name string, perm fs.FileMode) error
	Rename(from, to string) error
	Remove(name string) error // a file or an empty folder
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	SyncDir(name string) error        // makes created, renamed and removed names durable
	Free(name string) (uint64, error) // bytes that may still be written below a folder
}

// File is an opened file of an FS.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
}

// OSFS is the file system of the operating system.
type OSFS struct{}

// OpenFile is os.OpenFile.
func (OSFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

// Mkdir is os.Mkdir.
func (OSFS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// Rename is os.Rename.
func (OSFS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove is os.Remove.
func (OSFS) Remove(name string) error { return os.Remove(name) }

// ReadDir is os.ReadDir.
func (OSFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Stat is os.Stat.
func (OSFS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// SyncDir syncs a folder; nothing where the system has no such call.
func (OSFS) SyncDir(name string) error { return syncDir(name) }

// Free asks the system for the free space that an ordinary user may use.
func (OSFS) Free(name string) (uint64, error) { return freeBytes(name) }

// removeAll removes a tree by single steps of the FS. What is not there is no error.
func removeAll(fsys FS, path string) error {
	err := fsys.Remove(path)
	if err == nil || os.IsNotExist(err) {
		return nil
	}
	entries, rerr := fsys.ReadDir(path)
	if rerr != nil {
		return err
	}
	for _, e := range entries {
		if err := removeAll(fsys, filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return fsys.Remove(path)
}

// mkdirAll makes a folder and its parents, and makes their names durable.
func mkdirAll(fsys FS, path string) error {
	if st, err := fsys.Stat(path); err == nil {
		if st.IsDir() {
			return nil
		}
		return &FileError{Kind: ErrExists, File: path, What: "is a file where a folder is needed", Do: "choose another path"}
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := mkdirAll(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.Mkdir(path, 0o777); err != nil && !os.IsExist(err) {
		return ioError(path, "cannot be made", err)
	}
	if err := fsys.SyncDir(parent); err != nil {
		return ioError(parent, "cannot be synced", err)
	}
	return nil
}
