package checkpoints

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"unicode/utf8"
)

// Limits of the reader. They are far above what real files hold and bound what a hostile one can cost.
const (
	maxHeader  = 8 << 20
	maxTensors = 100_000
	maxAxes    = 8
	maxDepth   = 4
)

// TensorInfo describes one tensor of a safetensors file.
type TensorInfo struct {
	Name   string
	Dtype  Dtype
	Shape  []int // empty for a scalar
	Size   int   // number of elements
	Offset int64 // of the data, from the start of the file
	Bytes  int64 // of the data

	from *source // where it lies, if not in the file itself
}

// Safetensors is an opened safetensors file, or other weights as OpenWeights finds them. The header has been read and checked in full
// against the size of the file; tensors are read when asked for. Methods may be called from several goroutines.
type Safetensors struct {
	file     string
	r        io.ReaderAt
	closer   io.Closer
	infos    map[string]TensorInfo
	names    []string // sorted
	metadata map[string]string
	notes    []string
}

// OpenSafetensors opens a file and checks its header.
//
// Cost: memory of a small multiple of the header (at most 8 MiB), nothing for the data.
// Errors: *FileError wrapping ErrNotFound, ErrIncomplete (shorter than the header says), ErrTooLarge or ErrCorrupt.
func OpenSafetensors(path string) (*Safetensors, error) { return openSafetensors(OSFS{}, path) }

func openSafetensors(fsys FS, path string) (*Safetensors, error) {
	return openWith(fsys, path, ReadSafetensors)
}

// openWith opens a file and reads what it is about.
func openWith(fsys FS, path string, read func(r io.ReaderAt, size int64, name string) (*Safetensors, error)) (*Safetensors, error) {
	f, err := openRead(fsys, path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, ioError(path, "cannot be examined", err)
	}
	if !st.Mode().IsRegular() {
		f.Close()
		return nil, &FileError{Kind: ErrInvalid, File: path, What: "is not a regular file", Do: "give a file of tensors"}
	}
	s, err := read(f, st.Size(), path)
	if err != nil {
		f.Close()
		return nil, err
	}
	s.closer = f
	return s, nil
}

// openRead opens a file for reading, with a typed error.
func openRead(fsys FS, path string) (File, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if os.IsNotExist(err) {
		return nil, &FileError{Kind: ErrNotFound, File: path, What: "no such file", Do: "check the path"}
	}
	if err != nil {
		return nil, ioError(path, "cannot be opened", err)
	}
	return f, nil
}

// ReadSafetensors checks the header of a safetensors file of the given size. The name stands in errors. The reader stays in
// use: tensors are read from it when asked for.
func ReadSafetensors(r io.ReaderAt, size int64, name string) (*Safetensors, error) {
	s := &Safetensors{file: name, r: r}
	if size < 8 {
		return nil, s.fault(ErrIncomplete, "", fmt.Sprintf("%d bytes are too few for a safetensors file", size))
	}
	var head [8]byte
	if err := s.readAt(head[:], 0, ""); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(head[:])
	switch {
	case n > maxHeader:
		return nil, &FileError{Kind: ErrTooLarge, File: name, What: fmt.Sprintf("declares a header of %d bytes, more than the allowed %d", n, maxHeader),
			Do: "this is not a safetensors file, or a hostile one"}
	case int64(n) > size-8:
		return nil, s.fault(ErrIncomplete, "", fmt.Sprintf("declares a header of %d bytes but holds only %d", n, size-8))
	case n < 2:
		return nil, s.fault(ErrCorrupt, "", fmt.Sprintf("declares a header of %d bytes", n))
	}
	header := make([]byte, n)
	if err := s.readAt(header, 8, ""); err != nil {
		return nil, err
	}
	if header[0] != '{' {
		return nil, s.fault(ErrCorrupt, "", "the header does not start with '{'")
	}
	if !utf8.Valid(header) {
		return nil, s.fault(ErrCorrupt, "", "the header is not valid UTF-8")
	}
	if err := s.parseHeader(header); err != nil {
		return nil, err
	}
	if err := s.checkLayout(8+int64(n), size); err != nil {
		return nil, err
	}
	return s, nil
}

// checkLayout demands that the tensors cover the data exactly, without hole or overlap, and turns offsets into file offsets.
func (s *Safetensors) checkLayout(start, size int64) error {
	s.names = make([]string, 0, len(s.infos))
	for name := range s.infos {
		s.names = append(s.names, name)
	}
	slices.SortFunc(s.names, func(a, b string) int {
		x, y := s.infos[a], s.infos[b]
		return cmp.Or(cmp.Compare(x.Offset, y.Offset), cmp.Compare(x.Bytes, y.Bytes))
	})
	end := int64(0)
	for _, name := range s.names {
		t := s.infos[name]
		switch {
		case t.Offset < end:
			return s.fault(ErrCorrupt, name, fmt.Sprintf("data starts at %d, inside another tensor that ends at %d", t.Offset, end))
		case t.Offset > end:
			return s.fault(ErrCorrupt, name, fmt.Sprintf("data starts at %d, a hole after %d", t.Offset, end))
		case t.Bytes > size-start-end:
			return s.fault(ErrIncomplete, name, fmt.Sprintf("data end at byte %d of the data, the file has only %d", end+t.Bytes, size-start))
		}
		end += t.Bytes
		t.Offset += start
		s.infos[name] = t
	}
	if end != size-start {
		return s.fault(ErrCorrupt, "", fmt.Sprintf("%d bytes after the last tensor belong to none", size-start-end))
	}
	slices.Sort(s.names)
	return nil
}

// Close closes the file, if OpenSafetensors opened it.
func (s *Safetensors) Close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// Path is the name under which the file was opened.
func (s *Safetensors) Path() string { return s.file }

// Names lists the tensors in sorted order. The caller must not change the slice.
func (s *Safetensors) Names() []string { return s.names }

// Info describes a tensor; false if the file has none of this name.
func (s *Safetensors) Info(name string) (TensorInfo, bool) {
	t, ok := s.infos[name]
	return t, ok
}

// Metadata is the `__metadata__` entry, nil if there is none. Nothing in it is trusted or used.
func (s *Safetensors) Metadata() map[string]string { return s.metadata }

// Notes lists what the reader tolerated although the format does not foresee it, such as extra fields.
func (s *Safetensors) Notes() []string { return s.notes }

func (s *Safetensors) fault(kind error, tensor, what string) error {
	return &FileError{Kind: kind, File: s.file, Tensor: tensor, What: what, Do: doCopyAgain}
}

// readTensor fills b from a place within the data of a tensor.
func (s *Safetensors) readTensor(t TensorInfo, b []byte, off int64) error {
	if t.from != nil {
		s = &Safetensors{file: t.from.file, r: t.from.r}
	}
	return s.readAt(b, t.Offset+off, t.Name)
}

// readAt fills b; a file that became shorter since it was opened is incomplete.
func (s *Safetensors) readAt(b []byte, off int64, tensor string) error {
	n, err := s.r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF || err == nil {
		return s.fault(ErrIncomplete, tensor, fmt.Sprintf("ends at byte %d, before %d", off+int64(n), off+int64(len(b))))
	}
	return ioError(s.file, "cannot be read", err)
}
