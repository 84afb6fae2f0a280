package checkpoints

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// FormatVersion is the version of the checkpoint folder that this package writes, and the only one it reads.
const FormatVersion = 1

const (
	formatName   = "euryale-checkpoint"
	manifestFile = "manifest.json"
	configFile   = "config.json"
	modelFile    = "model.safetensors"
	optimFile    = "optimizer.safetensors"
	stateFile    = "state.json"

	maxManifest = 1 << 20
	maxJSON     = 64 << 20 // of config.json, state.json and extra files
)

// manifest is manifest.json. It has one legal spelling, so that any changed bit in it shows.
type manifest struct {
	Format  string               `json:"format"`
	Version int                  `json:"version"`
	Files   map[string]fileEntry `json:"files"`
}

type fileEntry struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func (m *manifest) encode() []byte {
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		panic(err) // a struct of strings and numbers always encodes
	}
	return append(b, '\n')
}

// names lists the files in sorted order.
func (m *manifest) names() []string {
	var names []string
	for n := range m.Files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// readManifest reads and checks manifest.json of a checkpoint folder, not the files it lists.
func readManifest(fsys FS, dir string) (*manifest, error) {
	path := filepath.Join(dir, manifestFile)
	b, err := readFile(fsys, path, maxManifest)
	if err != nil {
		return nil, err
	}
	fault := func(kind error, what, do string) error { return &FileError{Kind: kind, File: path, What: what, Do: do} }
	m := &manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, &FileError{Kind: ErrCorrupt, File: path, What: "is not valid JSON", Do: doOlder, Cause: err}
	}
	if m.Format != formatName {
		return nil, fault(ErrCorrupt, fmt.Sprintf("has format %q, not %q", shorten(m.Format), formatName), doOlder)
	}
	if m.Version != FormatVersion {
		return nil, fault(ErrVersion, fmt.Sprintf("has format version %d, this program reads %d", m.Version, FormatVersion), "use the program that wrote it")
	}
	if !bytes.Equal(b, m.encode()) {
		return nil, fault(ErrCorrupt, "was changed after it was written", doOlder)
	}
	for _, need := range []string{configFile, modelFile, optimFile, stateFile} {
		if _, ok := m.Files[need]; !ok {
			return nil, fault(ErrCorrupt, "does not list "+need, doOlder)
		}
	}
	for name := range m.Files {
		if !plainName(name) {
			return nil, fault(ErrCorrupt, fmt.Sprintf("lists %q, which is no plain file name", shorten(name)), doOlder)
		}
	}
	return m, nil
}

const doOlder = "use an older checkpoint or copy this one again"

// plainName reports whether a name from a file may be joined to a folder: no separators, no dot files, no drives.
func plainName(name string) bool {
	if name == "" || len(name) > 100 || name[0] == '.' || name == manifestFile {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// checkFiles compares the files of a checkpoint with its manifest: sizes only, or every sum.
func (m *manifest) checkFiles(fsys FS, dir string, sums bool) error {
	for _, name := range m.names() {
		if err := m.checkFile(fsys, dir, name, sums); err != nil {
			return err
		}
	}
	return nil
}

func (m *manifest) checkFile(fsys FS, dir, name string, sums bool) error {
	path := filepath.Join(dir, name)
	want := m.Files[name]
	f, err := openRead(fsys, path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return ioError(path, "cannot be examined", err)
	}
	if st.Size() != want.Size {
		kind := ErrCorrupt
		if st.Size() < want.Size {
			kind = ErrIncomplete
		}
		return &FileError{Kind: kind, File: path, What: fmt.Sprintf("has %d bytes, the manifest says %d", st.Size(), want.Size), Do: doOlder}
	}
	if !sums {
		return nil
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, onlyReader{f}, make([]byte, min(want.Size+1, 1<<20))); err != nil {
		return ioError(path, "cannot be read", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
		return &FileError{Kind: ErrCorrupt, File: path, What: fmt.Sprintf("has sha256 %.12s..., the manifest says %.12s...", got, want.SHA256), Do: doOlder}
	}
	return nil
}

type onlyReader struct{ io.Reader }

// readFile reads a whole file of at most limit bytes.
func readFile(fsys FS, path string, limit int64) ([]byte, error) {
	f, err := openRead(fsys, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, ioError(path, "cannot be examined", err)
	}
	if st.IsDir() {
		return nil, &FileError{Kind: ErrInvalid, File: path, What: "is a folder, not a file", Do: "check the path"}
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, ioError(path, "cannot be read", err)
	}
	if int64(len(b)) > limit {
		return nil, &FileError{Kind: ErrTooLarge, File: path, What: fmt.Sprintf("has more than the allowed %d bytes", limit), Do: "check that it is the right file"}
	}
	return b, nil
}
