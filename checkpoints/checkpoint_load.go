package checkpoints

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Report says which checkpoint was taken and which newer or better ones were passed over.
type Report struct {
	Path    string    // the checkpoint taken
	Step    int       // its step
	Skipped []Skipped // in the order they were tried
}

// Skipped is a checkpoint that was not taken.
type Skipped struct {
	Path string
	Err  error // why
}

// String is one line for each skipped checkpoint, empty if none was.
func (r *Report) String() string {
	if r == nil || len(r.Skipped) == 0 {
		return ""
	}
	var b strings.Builder
	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "skipped %s: %v\n", s.Path, s.Err)
	}
	fmt.Fprintf(&b, "using %s", r.Path)
	return b.String()
}

// Load reads a checkpoint in full, every sum compared. dir is one checkpoint, a `checkpoints` folder or a run folder; of the
// latter two the newest valid checkpoint is taken, and the report says what was skipped. No lock is needed.
//
// Errors: ErrNotFound if there is no checkpoint; else that of the only, or the newest, checkpoint.
func Load(dir string) (*Snapshot, *Report, error) { return load(OSFS{}, dir) }

// LoadFS is Load on another file system.
func LoadFS(fsys FS, dir string) (*Snapshot, *Report, error) { return load(fsys, dir) }

func load(fsys FS, dir string) (*Snapshot, *Report, error) {
	var snap *Snapshot
	r, err := choose(fsys, dir, false, func(path string) (err error) {
		snap, err = read(fsys, path)
		return err
	})
	if err != nil {
		return nil, r, err
	}
	return snap, r, nil
}

// Latest finds the newest checkpoint whose files are all as the manifest says. dir as in Load.
func Latest(dir string) (*Report, error) {
	return choose(OSFS{}, dir, false, func(path string) error { return verify(OSFS{}, path) })
}

// Best finds the checkpoint that the newest valid one calls the best; the newest valid one if that is not there or damaged.
func Best(dir string) (*Report, error) {
	return choose(OSFS{}, dir, true, func(path string) error { return verify(OSFS{}, path) })
}

// Verify compares every file of one checkpoint with the size and sum in its manifest and reads the headers of its tensors.
func Verify(path string) error { return verify(OSFS{}, path) }

// candidate is a folder that has the name of a checkpoint.
type candidate struct {
	path string
	step int
}

// List returns the folders below a checkpoints folder that have the name of a checkpoint, newest first, unchecked.
func List(dir string) ([]string, error) {
	all, err := list(OSFS{}, dir)
	var paths []string
	for _, c := range all {
		paths = append(paths, c.path)
	}
	return paths, err
}

func list(fsys FS, dir string) ([]candidate, error) {
	entries, err := fsys.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, ioError(dir, "cannot be listed", err)
	}
	byStep := map[int]candidate{}
	for _, e := range entries {
		// A checkpoint that steps aside counts until the one that replaces it is there.
		name, aside := strings.CutPrefix(e.Name(), oldPrefix)
		step, ok := parseStep(name)
		if !ok || !e.IsDir() {
			continue
		}
		if _, there := byStep[step]; !there || !aside {
			byStep[step] = candidate{filepath.Join(dir, e.Name()), step}
		}
	}
	var all []candidate
	for _, c := range byStep {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b candidate) int { return b.step - a.step })
	return all, nil
}

// parseStep reads the step from the name of a checkpoint folder, in its only spelling.
func parseStep(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, stepPrefix)
	step, err := strconv.Atoi(digits)
	if !ok || err != nil || step < 0 || filepath.Base(StepDir("", step)) != name {
		return 0, false
	}
	return step, true
}

// choose finds the checkpoint that dir means and that passes the check.
func choose(fsys FS, dir string, best bool, check func(path string) error) (*Report, error) {
	r := &Report{}
	st, err := fsys.Stat(dir)
	if err != nil || !st.IsDir() {
		return r, &FileError{Kind: ErrNotFound, File: dir, What: "no such folder", Do: "give a run folder or a checkpoint"}
	}
	if _, err := fsys.Stat(filepath.Join(dir, manifestFile)); err == nil {
		if err := check(dir); err != nil {
			return r, err
		}
		r.Path = dir
		r.Step, _ = stepOf(fsys, dir)
		return r, nil
	}
	if sub := filepath.Join(dir, checkpointsDir); isDir(fsys, sub) {
		dir = sub
	}
	all, err := list(fsys, dir)
	if err != nil {
		return r, err
	}
	if len(all) == 0 {
		if _, ok := parseStep(filepath.Base(dir)); ok {
			_, err := readManifest(fsys, dir)
			return r, err
		}
		return r, &FileError{Kind: ErrNotFound, File: dir, What: "holds no checkpoint", Do: "give a run folder or a checkpoint"}
	}
	var newest error
	for i, c := range all {
		err := check(c.path)
		if err == nil && best {
			if b, ok := bestOf(fsys, c.path, all[i:]); ok && b.path != c.path {
				if berr := check(b.path); berr == nil {
					c = b
				} else {
					r.Skipped = append(r.Skipped, Skipped{b.path, berr})
				}
			}
		}
		if err == nil {
			r.Path, r.Step = c.path, c.step
			return r, nil
		}
		r.Skipped = append(r.Skipped, Skipped{c.path, err})
		if newest == nil {
			newest = err
		}
	}
	return r, fmt.Errorf("none of %d checkpoints can be read; the newest: %w", len(all), newest)
}

func isDir(fsys FS, path string) bool {
	st, err := fsys.Stat(path)
	return err == nil && st.IsDir()
}

// bestOf finds the candidate that a valid checkpoint names as the best one.
func bestOf(fsys FS, path string, all []candidate) (candidate, bool) {
	doc, err := readState(fsys, path)
	if err != nil || doc.Best == 0 {
		return candidate{}, false
	}
	for _, c := range all {
		if c.step == doc.Best {
			return c, true
		}
	}
	return candidate{}, false
}

func stepOf(fsys FS, path string) (int, error) {
	doc, err := readState(fsys, path)
	if err != nil {
		return 0, err
	}
	return doc.Step, nil
}

func readState(fsys FS, dir string) (*stateDoc, error) {
	path := filepath.Join(dir, stateFile)
	b, err := readFile(fsys, path, maxJSON)
	if err != nil {
		return nil, err
	}
	doc := &stateDoc{}
	if err := json.Unmarshal(b, doc); err != nil {
		return nil, &FileError{Kind: ErrCorrupt, File: path, What: "is not valid JSON", Do: doOlder, Cause: err}
	}
	if step, ok := parseStep(strings.TrimPrefix(filepath.Base(dir), oldPrefix)); ok && step != doc.Step {
		return nil, &FileError{Kind: ErrCorrupt, File: path, What: fmt.Sprintf("is of step %d, its folder of step %d", doc.Step, step), Do: "give the folder its own name back"}
	}
	return doc, nil
}

func verify(fsys FS, path string) error {
	m, err := readManifest(fsys, path)
	if err != nil {
		return err
	}
	if err := m.checkFiles(fsys, path, true); err != nil {
		return err
	}
	if _, err := readState(fsys, path); err != nil {
		return err
	}
	for _, name := range []string{modelFile, optimFile} {
		s, err := openSafetensors(fsys, filepath.Join(path, name))
		if err != nil {
			return err
		}
		s.Close()
	}
	return nil
}

// read verifies one checkpoint and reads all of it.
func read(fsys FS, path string) (*Snapshot, error) {
	m, err := readManifest(fsys, path)
	if err != nil {
		return nil, err
	}
	if err := m.checkFiles(fsys, path, true); err != nil {
		return nil, err
	}
	doc, err := readState(fsys, path)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Step: doc.Step, Best: doc.Best, State: doc.State}
	if s.Config, err = readFile(fsys, filepath.Join(path, configFile), maxJSON); err != nil {
		return nil, err
	}
	if s.Model, err = readTensors(fsys, filepath.Join(path, modelFile)); err != nil {
		return nil, err
	}
	if s.Optimizer, err = readTensors(fsys, filepath.Join(path, optimFile)); err != nil {
		return nil, err
	}
	for _, name := range m.names() {
		switch name {
		case configFile, modelFile, optimFile, stateFile:
			continue
		}
		if s.Extra == nil {
			s.Extra = map[string][]byte{}
		}
		if s.Extra[name], err = readFile(fsys, filepath.Join(path, name), maxJSON); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// readTensors reads every tensor of a file, in the order of names.
func readTensors(fsys FS, path string) ([]Tensor, error) {
	f, err := openSafetensors(fsys, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []Tensor
	for _, name := range f.Names() {
		t, err := f.Tensor(name)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}
