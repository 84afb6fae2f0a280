package checkpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
)

const (
	indexSuffix = ".index.json"
	maxShards   = 1000
)

// source is a file, or a part of memory, that a tensor lies in.
type source struct {
	r    io.ReaderAt
	file string
}

// weightFiles are the names that weights have, the first found is taken.
var weightFiles = []string{modelFile, modelFile + indexSuffix, torchFile, torchFile + indexSuffix}

func hasWeights(exists func(name string) bool) bool { return slices.ContainsFunc(weightFiles, exists) }

// OpenWeights opens the weights of a model folder, in whatever form Hugging Face writes them: model.safetensors, several such files with
// model.safetensors.index.json, or the same with pytorch_model.bin (see OpenTorch).
//
// Errors: *FileError wrapping ErrNotFound if there are none, else as of OpenSafetensors and OpenTorch.
func OpenWeights(dir string) (*Safetensors, error) {
	var fsys OSFS
	for _, name := range weightFiles {
		path := filepath.Join(dir, name)
		if _, err := fsys.Stat(path); err != nil {
			continue
		}
		switch name {
		case modelFile:
			return OpenSafetensors(path)
		case torchFile:
			return OpenTorch(path)
		case modelFile + indexSuffix:
			return openShards(path, OpenSafetensors)
		}
		return openShards(path, OpenTorch)
	}
	return nil, &FileError{Kind: ErrNotFound, File: dir, What: "has no weights: neither " + modelFile + " nor " + torchFile, Do: "give a model folder"}
}

// openShards opens every file that an index names, and takes from each what the index says is there.
func openShards(path string, open func(string) (*Safetensors, error)) (_ *Safetensors, err error) {
	raw, err := readFile(OSFS{}, path, maxJSON)
	if err != nil {
		return nil, err
	}
	all := &Safetensors{file: path, infos: map[string]TensorInfo{}}
	var index struct {
		Map map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Map) == 0 {
		return nil, &FileError{Kind: ErrCorrupt, File: path, What: "has no weight_map", Do: doCopyAgain, Cause: err}
	}
	var files closers
	all.closer = &files
	defer func() {
		if err != nil {
			files.Close()
		}
	}()
	shards := map[string]*Safetensors{}
	for name := range index.Map {
		all.names = append(all.names, name)
	}
	slices.Sort(all.names)
	for _, name := range all.names {
		file := index.Map[name]
		if !plainName(file) {
			return nil, all.fault(ErrCorrupt, name, fmt.Sprintf("lies in %q, which is no file of the folder", shorten(file)))
		}
		s := shards[file]
		if s == nil {
			if len(shards) == maxShards {
				return nil, all.fault(ErrTooLarge, "", fmt.Sprintf("names more than %d files", maxShards))
			}
			if s, err = open(filepath.Join(filepath.Dir(path), file)); err != nil {
				return nil, err
			}
			shards[file], files = s, append(files, s)
			all.notes = append(all.notes, s.notes...)
		}
		t, ok := s.infos[name]
		if !ok {
			return nil, s.fault(ErrIncomplete, name, "is not in this file, though "+filepath.Base(path)+" says so")
		}
		if t.from == nil {
			t.from = &source{s.r, s.file}
		}
		all.infos[name] = t
	}
	return all, nil
}

// closers are files that are closed together.
type closers []*Safetensors

func (c *closers) Close() error {
	var errs []error
	for _, s := range *c {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
