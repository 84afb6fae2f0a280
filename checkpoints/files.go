package checkpoints

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// WriteFile writes a small file such as config.json so that a reader sees the old content or the new, never a part, and what
// it sees survives a power cut. The folder is made if it is not there.
func WriteFile(path string, data []byte) error { return WriteFileFS(OSFS{}, path, data) }

// WriteFileFS is WriteFile on another file system.
func WriteFileFS(fsys FS, path string, data []byte) error {
	return replaceFile(fsys, path, bytesFile("", data).write)
}

func replaceFile(fsys FS, path string, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	if err := mkdirAll(fsys, dir); err != nil {
		return err
	}
	tmp := filepath.Join(dir, fmt.Sprintf("%s%s-%d-%d", tmpPrefix, filepath.Base(path), os.Getpid(), tmpCount.Add(1)))
	if _, err := writeFile(fsys, tmp, write); err != nil {
		_ = fsys.Remove(tmp)
		return err
	}
	if err := fsys.Rename(tmp, path); err != nil {
		_ = fsys.Remove(tmp)
		return ioError(path, "cannot be replaced", err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return ioError(dir, "cannot be synced", err)
	}
	return nil
}

// WriteModel writes a model folder: config.json, model.safetensors and extra files such as tokenizer.json. The folder appears
// at once and complete; it must not exist, or be empty.
func WriteModel(dir string, config []byte, tensors []Tensor, extra map[string][]byte) error {
	return writeModel(OSFS{}, dir, config, tensors, extra)
}

func writeModel(fsys FS, dir string, config []byte, tensors []Tensor, extra map[string][]byte) error {
	dir = filepath.Clean(dir)
	invalid := func(what string) error {
		return &FileError{Kind: ErrInvalid, File: dir, What: what, Do: "this is a fault of the caller"}
	}
	if err := checkObject(config); err != nil {
		return invalid("config: " + err.Error())
	}
	size, err := SafetensorsSize(tensors)
	if err != nil {
		return err
	}
	files := []outFile{bytesFile(configFile, config), {modelFile, size, func(w io.Writer) error { return WriteSafetensors(w, tensors) }}}
	for name, data := range extra {
		if !plainName(name) || name == configFile || name == modelFile {
			return invalid(fmt.Sprintf("%q cannot be an extra file", name))
		}
		files = append(files, bytesFile(name, data))
	}
	parent := filepath.Dir(dir)
	if err := mkdirAll(fsys, parent); err != nil {
		return err
	}
	if entries, err := fsys.ReadDir(dir); err == nil && len(entries) > 0 {
		return &FileError{Kind: ErrExists, File: dir, What: "is not empty", Do: "choose another folder"}
	}
	if err := checkSpace(fsys, parent, files); err != nil {
		return err
	}
	tmp := filepath.Join(parent, fmt.Sprintf("%s%s-%d-%d", tmpPrefix, filepath.Base(dir), os.Getpid(), tmpCount.Add(1)))
	err = func() error {
		if err := fsys.Mkdir(tmp, 0o777); err != nil {
			return ioError(tmp, "cannot be made", err)
		}
		for _, f := range files {
			if _, err := writeFile(fsys, filepath.Join(tmp, f.name), f.write); err != nil {
				return err
			}
		}
		if err := fsys.SyncDir(tmp); err != nil {
			return ioError(tmp, "cannot be synced", err)
		}
		if _, err := fsys.Stat(dir); err == nil {
			if err := fsys.Remove(dir); err != nil {
				return ioError(dir, "cannot be replaced", err)
			}
		}
		if err := fsys.Rename(tmp, dir); err != nil {
			return ioError(dir, "cannot be made", err)
		}
		return nil
	}()
	if err != nil {
		_ = removeAll(fsys, tmp)
		return err
	}
	if err := fsys.SyncDir(parent); err != nil {
		return ioError(parent, "cannot be synced", err)
	}
	return nil
}
