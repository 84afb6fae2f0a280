package checkpoints

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// memFS is a file system in memory that records what was done to it, so that a crash can be replayed, and that can be full.
type memFS struct {
	root   *inode
	ops    []memOp
	inodes int
	limit  int64 // bytes that may be written in all; < 0 for no limit
	free   int64 // what Free says; < 0 if it does not know
}

type inode struct {
	id      int
	dir     bool
	data    []byte
	entries map[string]*inode
}

type opKind int

const (
	opMkdir opKind = iota
	opCreate
	opWrite
	opSync
	opRename
	opRemove
	opSyncDir
)

// memOp is one recorded change. Writes and syncs speak of an inode, the rest of paths.
type memOp struct {
	kind opKind
	path string
	to   string
	id   int
	data []byte
}

func newMemFS() *memFS {
	return &memFS{root: &inode{dir: true, entries: map[string]*inode{}}, limit: -1, free: -1}
}

func split(name string) []string {
	name = filepath.ToSlash(filepath.Clean(name))
	return strings.Split(strings.Trim(name, "/"), "/")
}

func (m *memFS) find(name string) *inode {
	n := m.root
	for _, part := range split(name) {
		if part == "" || part == "." {
			continue
		}
		if n == nil || !n.dir {
			return nil
		}
		n = n.entries[part]
	}
	return n
}

func (m *memFS) parent(name string) (*inode, string) {
	p := m.find(filepath.Dir(name))
	if p == nil || !p.dir {
		return nil, ""
	}
	return p, filepath.Base(name)
}

func pathErr(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func (m *memFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	n := m.find(name)
	if flag&os.O_CREATE == 0 {
		if n == nil {
			return nil, pathErr("open", name, fs.ErrNotExist)
		}
		return &memFile{fs: m, n: n, name: name}, nil
	}
	if n != nil && flag&os.O_EXCL != 0 {
		return nil, pathErr("open", name, fs.ErrExist)
	}
	if n == nil {
		p, base := m.parent(name)
		if p == nil {
			return nil, pathErr("open", name, fs.ErrNotExist)
		}
		m.inodes++
		n = &inode{id: m.inodes}
		p.entries[base] = n
		m.ops = append(m.ops, memOp{kind: opCreate, path: name, id: n.id})
	}
	return &memFile{fs: m, n: n, name: name}, nil
}

func (m *memFS) Mkdir(name string, perm fs.FileMode) error {
	p, base := m.parent(name)
	if p == nil {
		return pathErr("mkdir", name, fs.ErrNotExist)
	}
	if p.entries[base] != nil {
		return pathErr("mkdir", name, fs.ErrExist)
	}
	p.entries[base] = &inode{dir: true, entries: map[string]*inode{}}
	m.ops = append(m.ops, memOp{kind: opMkdir, path: name})
	return nil
}

func (m *memFS) Rename(from, to string) error {
	n := m.find(from)
	p, base := m.parent(to)
	if n == nil || p == nil {
		return pathErr("rename", from, fs.ErrNotExist)
	}
	if old := p.entries[base]; old != nil && old.dir && (len(old.entries) > 0 || !n.dir) {
		return pathErr("rename", to, fs.ErrExist)
	}
	q, b := m.parent(from)
	delete(q.entries, b)
	p.entries[base] = n
	m.ops = append(m.ops, memOp{kind: opRename, path: from, to: to})
	return nil
}

func (m *memFS) Remove(name string) error {
	n := m.find(name)
	if n == nil {
		return pathErr("remove", name, fs.ErrNotExist)
	}
	if n.dir && len(n.entries) > 0 {
		return pathErr("remove", name, syscall.ENOTEMPTY)
	}
	p, base := m.parent(name)
	delete(p.entries, base)
	m.ops = append(m.ops, memOp{kind: opRemove, path: name})
	return nil
}

func (m *memFS) ReadDir(name string) ([]fs.DirEntry, error) {
	n := m.find(name)
	if n == nil || !n.dir {
		return nil, pathErr("readdir", name, fs.ErrNotExist)
	}
	var names []string
	for e := range n.entries {
		names = append(names, e)
	}
	slices.Sort(names)
	var out []fs.DirEntry
	for _, e := range names {
		out = append(out, fs.FileInfoToDirEntry(memInfo{e, n.entries[e]}))
	}
	return out, nil
}

func (m *memFS) Stat(name string) (fs.FileInfo, error) {
	n := m.find(name)
	if n == nil {
		return nil, pathErr("stat", name, fs.ErrNotExist)
	}
	return memInfo{filepath.Base(name), n}, nil
}

func (m *memFS) SyncDir(name string) error {
	if n := m.find(name); n == nil || !n.dir {
		return pathErr("sync", name, fs.ErrNotExist)
	}
	m.ops = append(m.ops, memOp{kind: opSyncDir, path: name})
	return nil
}

func (m *memFS) Free(string) (uint64, error) {
	if m.free < 0 {
		return 0, errors.ErrUnsupported
	}
	return uint64(m.free), nil
}

type memInfo struct {
	name string
	n    *inode
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return int64(len(i.n.data)) }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.n.dir }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.n.dir {
		return fs.ModeDir | 0o777
	}
	return 0o666
}

type memFile struct {
	fs   *memFS
	n    *inode
	name string
	off  int
}

func (f *memFile) Read(b []byte) (int, error) {
	n, err := f.ReadAt(b, int64(f.off))
	f.off += n
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Write(b []byte) (int, error) {
	n := len(b)
	if l := f.fs.limit; l >= 0 {
		n = int(min(int64(n), l))
		f.fs.limit -= int64(n)
	}
	f.n.data = append(f.n.data, b[:n]...)
	f.fs.ops = append(f.fs.ops, memOp{kind: opWrite, id: f.n.id, data: slices.Clone(b[:n])})
	if n < len(b) {
		return n, pathErr("write", f.name, syscall.ENOSPC)
	}
	return n, nil
}

func (f *memFile) Close() error               { return nil }
func (f *memFile) Stat() (fs.FileInfo, error) { return memInfo{filepath.Base(f.name), f.n}, nil }
func (f *memFile) Sync() error {
	f.fs.ops = append(f.fs.ops, memOp{kind: opSync, id: f.n.id})
	return nil
}

// faultFS lets one call fail, or all from one on.
type faultFS struct {
	FS
	at     int  // number of the first call that fails, from 1; 0 for none
	always bool // later calls fail too
	short  bool // a failing write writes half
	err    error
	calls  int
}

func (f *faultFS) fail() error {
	f.calls++
	if f.calls == f.at || f.always && f.at > 0 && f.calls > f.at {
		return f.err
	}
	return nil
}

func (f *faultFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if err := f.fail(); err != nil {
		return nil, pathErr("open", name, err)
	}
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{file, f, name}, nil
}

func (f *faultFS) Mkdir(name string, perm fs.FileMode) error {
	if err := f.fail(); err != nil {
		return pathErr("mkdir", name, err)
	}
	return f.FS.Mkdir(name, perm)
}

func (f *faultFS) Rename(from, to string) error {
	if err := f.fail(); err != nil {
		return pathErr("rename", from, err)
	}
	return f.FS.Rename(from, to)
}

func (f *faultFS) Remove(name string) error {
	if err := f.fail(); err != nil {
		return pathErr("remove", name, err)
	}
	return f.FS.Remove(name)
}

func (f *faultFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.fail(); err != nil {
		return nil, pathErr("readdir", name, err)
	}
	return f.FS.ReadDir(name)
}

func (f *faultFS) Stat(name string) (fs.FileInfo, error) {
	if err := f.fail(); err != nil {
		return nil, pathErr("stat", name, err)
	}
	return f.FS.Stat(name)
}

func (f *faultFS) SyncDir(name string) error {
	if err := f.fail(); err != nil {
		return pathErr("sync", name, err)
	}
	return f.FS.SyncDir(name)
}

func (f *faultFS) Free(name string) (uint64, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.FS.Free(name)
}

type faultFile struct {
	File
	fs   *faultFS
	name string
}

func (f *faultFile) Write(b []byte) (int, error) {
	if err := f.fs.fail(); err != nil {
		if !f.fs.short {
			return 0, pathErr("write", f.name, err)
		}
		n, _ := f.File.Write(b[:len(b)/2])
		return n, nil // short without an error: the writer has to notice
	}
	return f.File.Write(b)
}

func (f *faultFile) Sync() error {
	if err := f.fs.fail(); err != nil {
		return pathErr("sync", f.name, err)
	}
	return f.File.Sync()
}

func (f *faultFile) Close() error {
	if err := f.fs.fail(); err != nil {
		return errors.Join(pathErr("close", f.name, err), f.File.Close())
	}
	return f.File.Close()
}
