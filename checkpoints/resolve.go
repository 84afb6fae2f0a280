package checkpoints

import (
	"encoding/json"
	"path/filepath"
)

const checkpointsDir = "checkpoints"

// Model is an opened model, wherever it was found.
type Model struct {
	Dir     string          // folder that holds config.json and weights
	Config  json.RawMessage // config.json; a JSON object
	Tensors *Safetensors    // weights, opened
	Step    int             // of the checkpoint; 0 for a model folder
	Report  *Report         // what was skipped to get here; nil for a model folder
}

// Close closes the file of tensors.
func (m *Model) Close() error { return m.Tensors.Close() }

// Resolve opens what a MODEL argument means: a model folder (config.json and weights, see OpenWeights), a run folder (its best
// checkpoint, else the newest valid one), its `checkpoints` folder, or one checkpoint. Checkpoints are verified sum by sum.
func Resolve(path string) (*Model, error) {
	path = filepath.Clean(path)
	var fsys OSFS
	st, err := fsys.Stat(path)
	if err != nil {
		return nil, &FileError{Kind: ErrNotFound, File: path, What: "no such folder", Do: "give a model folder, a run folder or a checkpoint"}
	}
	if !st.IsDir() {
		return nil, &FileError{Kind: ErrInvalid, File: path, What: "is a file", Do: "give the folder that holds config.json and model.safetensors"}
	}
	exists := func(name string) bool { _, err := fsys.Stat(filepath.Join(path, name)); return err == nil }
	_, named := parseStep(filepath.Base(path))
	if !named && !exists(manifestFile) && !isDir(fsys, filepath.Join(path, checkpointsDir)) {
		switch {
		case hasWeights(exists):
			return openModel(path, nil)
		case exists(configFile):
			return nil, &FileError{Kind: ErrNotFound, File: path, What: "has config.json but neither weights nor checkpoints", Do: "give a model folder, a run folder or a checkpoint"}
		}
	}
	r, err := Best(path)
	if err != nil {
		return nil, err
	}
	return openModel(r.Path, r)
}

func openModel(dir string, r *Report) (*Model, error) {
	m := &Model{Dir: dir, Report: r}
	if r != nil {
		m.Step = r.Step
	}
	path := filepath.Join(dir, configFile)
	b, err := readFile(OSFS{}, path, maxJSON)
	if err != nil {
		return nil, err
	}
	if err := checkObject(b); err != nil {
		return nil, &FileError{Kind: ErrCorrupt, File: path, What: "is not a JSON object", Do: doCopyAgain, Cause: err}
	}
	m.Config = b
	if m.Tensors, err = OpenWeights(dir); err != nil {
		return nil, err
	}
	return m, nil
}
