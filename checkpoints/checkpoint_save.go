package checkpoints

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// Snapshot is what a checkpoint holds.
type Snapshot struct {
	Step      int               // optimiser steps taken; >= 0
	Best      int               // step of the best checkpoint so far, 0 if none; Best(dir) looks there
	Config    json.RawMessage   // config.json; a JSON object
	Model     []Tensor          // weights
	Optimizer []Tensor          // moments; may be empty
	State     any               // anything that encodes as JSON; Load gives it back as json.RawMessage
	Extra     map[string][]byte // further files under plain names, such as tokenizer.json; not large
}

// DecodeState decodes the state of a loaded snapshot into v.
func (s *Snapshot) DecodeState(v any) error {
	raw, ok := s.State.(json.RawMessage)
	if !ok {
		b, err := json.Marshal(s.State)
		if err != nil {
			return err
		}
		raw = b
	}
	return json.Unmarshal(raw, v)
}

// Options say how checkpoints are kept.
type Options struct {
	Keep int          // newest checkpoints kept; 0 means 3, < 0 keeps all
	FS   FS           // nil means the operating system's
	Warn func(string) // told what went wrong without harm, such as an old checkpoint that could not be removed; may be nil
}

func (o Options) fs() FS {
	if o.FS == nil {
		return OSFS{}
	}
	return o.FS
}

func (o Options) warn(format string, a ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Sprintf(format, a...))
	}
}

const (
	stepPrefix = "step-"
	tmpPrefix  = ".tmp-"
	oldPrefix  = ".old-"
)

// StepDir is the folder of a step's checkpoint below dir.
func StepDir(dir string, step int) string {
	return filepath.Join(dir, fmt.Sprintf("%s%08d", stepPrefix, step))
}

var tmpCount atomic.Int64

// Save writes a checkpoint of a step into dir (the `checkpoints` folder of a run), then removes those that are no longer kept:
// all but the newest o.Keep and that of step s.Best. The run's lock must be held, see LockRun.
//
// The checkpoint is written under another name, each file synced, the manifest last, and renamed when all of it is on disk;
// at no moment is there less to load than before. If anything fails, what was there stays, and the rest of the try is removed.
// A checkpoint of the same step is replaced.
//
// Cost: no copy of the tensors is made. The disk must have 1.2 times the size of the checkpoint free.
// Errors: *FileError wrapping ErrNoSpace, ErrIO, or ErrInvalid for a snapshot that cannot be written.
func Save(dir string, s Snapshot, o Options) error {
	fsys := o.fs()
	files, err := plan(s)
	if err != nil {
		return err
	}
	if err := mkdirAll(fsys, dir); err != nil {
		return err
	}
	if err := Sweep(dir, o); err != nil {
		o.warn("%v", err)
	}
	if err := checkSpace(fsys, dir, files); err != nil {
		return err
	}
	final := StepDir(dir, s.Step)
	tmp := filepath.Join(dir, fmt.Sprintf("%s%s-%d-%d", tmpPrefix, filepath.Base(final), os.Getpid(), tmpCount.Add(1)))
	if err := writeAll(fsys, tmp, files); err != nil {
		discard(fsys, tmp, o)
		return err
	}
	if err := publish(fsys, dir, tmp, final, o); err != nil {
		return err
	}
	rotate(fsys, dir, s.Best, o)
	return nil
}

// outFile is one file of a checkpoint to be written.
type outFile struct {
	name  string
	size  int64
	write func(io.Writer) error
}

// stateDoc is state.json.
type stateDoc struct {
	Step  int             `json:"step"`
	Best  int             `json:"best_step"`
	State json.RawMessage `json:"state"`
}

// plan checks a snapshot in full before anything is written.
func plan(s Snapshot) ([]outFile, error) {
	invalid := func(what string) error {
		return &FileError{Kind: ErrInvalid, File: fmt.Sprintf("checkpoint of step %d", s.Step), What: what, Do: "this is a fault of the caller"}
	}
	if s.Step < 0 || s.Best < 0 {
		return nil, invalid("step < 0")
	}
	if err := checkObject(s.Config); err != nil {
		return nil, invalid("config: " + err.Error())
	}
	state, err := json.Marshal(s.State)
	if err != nil {
		return nil, invalid("state: " + err.Error())
	}
	doc, err := json.MarshalIndent(stateDoc{s.Step, s.Best, state}, "", " ")
	if err != nil {
		return nil, invalid("state: " + err.Error())
	}
	files := []outFile{bytesFile(configFile, s.Config), bytesFile(stateFile, append(doc, '\n'))}
	for name, data := range s.Extra {
		if !plainName(name) || name == configFile || name == stateFile || name == modelFile || name == optimFile {
			return nil, invalid(fmt.Sprintf("%q cannot be an extra file", name))
		}
		files = append(files, bytesFile(name, data))
	}
	for _, f := range files {
		if f.size > maxJSON {
			return nil, invalid(fmt.Sprintf("%s has %d bytes, more than the %d that are read back", f.name, f.size, maxJSON))
		}
	}
	for name, tensors := range map[string][]Tensor{modelFile: s.Model, optimFile: s.Optimizer} {
		size, err := SafetensorsSize(tensors)
		if err != nil {
			return nil, err
		}
		files = append(files, outFile{name, size, func(w io.Writer) error { return WriteSafetensors(w, tensors) }})
	}
	return files, nil
}

func bytesFile(name string, data []byte) outFile {
	return outFile{name, int64(len(data)), func(w io.Writer) error { return writeBytes(w, data) }}
}

// checkObject demands a JSON object.
func checkObject(b []byte) error {
	var v map[string]json.RawMessage
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if v == nil {
		return fmt.Errorf("not a JSON object")
	}
	return nil
}

// checkSpace refuses to begin what cannot be ended. A system that does not tell its free space is believed to have enough.
func checkSpace(fsys FS, dir string, files []outFile) error {
	var need int64
	for _, f := range files {
		need += f.size
	}
	need += need / 5
	free, err := fsys.Free(dir)
	if err != nil || free >= uint64(need) {
		return nil
	}
	return &FileError{Kind: ErrNoSpace, File: dir, What: fmt.Sprintf("a checkpoint needs %s, %s are free", megabytes(uint64(need)), megabytes(free)), Do: doFreeSpace}
}

func megabytes(n uint64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// writeAll writes the files of a checkpoint into a new folder, the manifest last, everything synced.
func writeAll(fsys FS, tmp string, files []outFile) error {
	if err := fsys.Mkdir(tmp, 0o777); err != nil {
		return ioError(tmp, "cannot be made", err)
	}
	m := &manifest{Format: formatName, Version: FormatVersion, Files: map[string]fileEntry{}}
	for _, f := range files {
		e, err := writeFile(fsys, filepath.Join(tmp, f.name), f.write)
		if err != nil {
			return err
		}
		m.Files[f.name] = e
	}
	if _, err := writeFile(fsys, filepath.Join(tmp, manifestFile), bytesFile("", m.encode()).write); err != nil {
		return err
	}
	if err := fsys.SyncDir(tmp); err != nil {
		return ioError(tmp, "cannot be synced", err)
	}
	return nil
}

// writeFile writes and syncs one new file and returns its size and sum.
func writeFile(fsys FS, path string, write func(io.Writer) error) (fileEntry, error) {
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fileEntry{}, ioError(path, "cannot be made", err)
	}
	w := &sumWriter{w: f, h: sha256.New()}
	if err = write(w); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fileEntry{}, ioError(path, "cannot be written", err)
	}
	return fileEntry{w.n, hex.EncodeToString(w.h.Sum(nil))}, nil
}

// sumWriter counts and hashes what was written; a short write is an error.
type sumWriter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (s *sumWriter) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.h.Write(b[:max(0, min(n, len(b)))])
	s.n += int64(n)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	return n, err
}

// publish gives a finished folder its name. One of the same name steps aside first and comes back if that fails.
func publish(fsys FS, dir, tmp, final string, o Options) error {
	old := filepath.Join(dir, oldPrefix+filepath.Base(final))
	_, err := fsys.Stat(final)
	replace := err == nil
	if replace {
		if err := fsys.Rename(final, old); err != nil {
			discard(fsys, tmp, o)
			return ioError(final, "cannot be renamed", err)
		}
	}
	if err := fsys.Rename(tmp, final); err != nil {
		if replace {
			if rerr := fsys.Rename(old, final); rerr != nil {
				o.warn("%s holds the checkpoint that was at %s: %v", old, final, rerr)
			}
		}
		discard(fsys, tmp, o)
		return ioError(tmp, "cannot be renamed to "+filepath.Base(final), err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return ioError(dir, "cannot be synced", err)
	}
	if replace {
		discard(fsys, old, o)
	}
	return nil
}

// discard removes a folder that is not, or no longer, a checkpoint.
func discard(fsys FS, path string, o Options) {
	if err := removeAll(fsys, path); err != nil {
		o.warn("%s could not be removed: %v; remove it by hand", path, err)
	}
}

// Sweep removes what interrupted saves left in a checkpoints folder, and gives a checkpoint that was about to be replaced its
// name back if the new one never arrived. The run's lock must be held. Save does this by itself.
func Sweep(dir string, o Options) error {
	fsys := o.fs()
	entries, err := fsys.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return ioError(dir, "cannot be listed", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if base, ok := strings.CutPrefix(e.Name(), oldPrefix); ok {
			final := filepath.Join(dir, base)
			if _, err := fsys.Stat(final); os.IsNotExist(err) {
				if err := fsys.Rename(path, final); err != nil {
					return ioError(path, "cannot be renamed to "+base, err)
				}
				continue
			}
			discard(fsys, path, o)
		}
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			discard(fsys, path, o)
		}
	}
	return nil
}

// rotate removes checkpoints older than the newest o.Keep, except the best one. What is damaged does not count as kept.
func rotate(fsys FS, dir string, best int, o Options) {
	keep := o.Keep
	if keep < 0 {
		return
	}
	if keep == 0 {
		keep = 3
	}
	all, err := list(fsys, dir)
	if err != nil {
		o.warn("old checkpoints could not be removed: %v", err)
		return
	}
	kept := 0
	for _, c := range all {
		switch {
		case kept < keep:
			if m, err := readManifest(fsys, c.path); err == nil && m.checkFiles(fsys, c.path, false) == nil {
				kept++
			}
		case c.step == best && best > 0:
		default:
			// Renamed first: a half removed folder must not look like a damaged checkpoint.
			tmp := filepath.Join(dir, tmpPrefix+"removed-"+filepath.Base(c.path))
			if err := fsys.Rename(c.path, tmp); err != nil {
				o.warn("%s could not be removed: %v; remove it by hand", c.path, err)
				continue
			}
			discard(fsys, tmp, o)
		}
	}
}
