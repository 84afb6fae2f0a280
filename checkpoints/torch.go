package checkpoints

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

const torchFile = "pytorch_model.bin"

// OpenTorch opens a file of torch.save that holds a dict of tensors, such as pytorch_model.bin: the zip of today or the format before
// torch 1.6. Its pickle is read by a reader that knows tensors and nothing else: whatever could run code is refused and not run.
// Views that are not contiguous are laid out in memory; the others are read when asked for.
//
// Errors: *FileError wrapping ErrNotFound, ErrIncomplete, ErrTooLarge or ErrCorrupt.
func OpenTorch(path string) (*Safetensors, error) { return openWith(OSFS{}, path, readTorch) }

func readTorch(r io.ReaderAt, size int64, name string) (*Safetensors, error) {
	s := &Safetensors{file: name, r: r, infos: map[string]TensorInfo{}}
	head := make([]byte, min(size, 4))
	if err := s.readAt(head, 0, ""); err != nil {
		return nil, err
	}
	var t torchFileReader
	var err error
	if bytes.HasPrefix(head, []byte("PK")) {
		t, err = s.torchZip(size)
	} else {
		t, err = s.torchOld(size)
	}
	if err != nil {
		return nil, err
	}
	if err := s.addTensors(t); err != nil {
		return nil, err
	}
	slices.Sort(s.names)
	return s, nil
}

// torchFileReader is what the two formats have in common.
type torchFileReader struct {
	dict *pickleDict
	at   map[string]placed // where a storage lies, by key
}

type placed struct{ offset, bytes int64 }

// torchZip reads NAME/data.pkl and finds NAME/data/KEY, which are not compressed.
func (s *Safetensors) torchZip(size int64) (t torchFileReader, err error) {
	z, err := zip.NewReader(s.r, size)
	if err != nil {
		return t, &FileError{Kind: ErrCorrupt, File: s.file, What: "is not a whole zip file", Do: doCopyAgain, Cause: err}
	}
	if len(z.File) > maxTensors {
		return t, s.fault(ErrTooLarge, "", fmt.Sprintf("has more than %d entries", maxTensors))
	}
	t.at = map[string]placed{}
	var pickle *zip.File
	for _, f := range z.File {
		_, inner, _ := strings.Cut(f.Name, "/")
		if inner == "data.pkl" {
			pickle = f
		}
		if dir, key := path.Split(inner); dir == "data/" {
			offset, err := f.DataOffset()
			if err != nil || f.Method != zip.Store || offset > size || int64(f.UncompressedSize64) > size-offset {
				return t, s.fault(ErrCorrupt, "", fmt.Sprintf("entry %s is compressed or incomplete", shorten(f.Name)))
			}
			t.at[key] = placed{offset, int64(f.UncompressedSize64)}
		}
		if inner == "byteorder" {
			if b, err := readEntry(f, 16); err != nil || string(b) != "little" {
				return t, s.fault(ErrCorrupt, "", "is not of little-endian numbers")
			}
		}
	}
	if pickle == nil {
		return t, s.fault(ErrCorrupt, "", "is a zip file without data.pkl, so not one of torch.save")
	}
	b, err := readEntry(pickle, maxPickle)
	if err != nil {
		return t, s.fault(ErrTooLarge, "", fmt.Sprintf("data.pkl cannot be read or is larger than %d bytes", maxPickle))
	}
	v, err := unpickle(bytes.NewReader(b))
	if err != nil {
		return t, s.fault(ErrCorrupt, "", "data.pkl "+err.Error())
	}
	return t, s.dictOf(&t, v)
}

func readEntry(f *zip.File, limit int64) ([]byte, error) {
	if f.UncompressedSize64 > uint64(limit) {
		return nil, fmt.Errorf("too large")
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit))
}

// torchMagic is the number before the old format.
const torchMagic = "119547037146038801333356"

// torchOld reads the format before torch 1.6: pickles of a magic number, a version, the system, the dict and the keys of the storages, then
// each storage as the number of its elements and their bytes.
func (s *Safetensors) torchOld(size int64) (t torchFileReader, err error) {
	b := make([]byte, min(size, maxPickle))
	if err := s.readAt(b, 0, ""); err != nil {
		return t, err
	}
	r := bytes.NewReader(b)
	var parts [5]any
	for i := range parts {
		if parts[i], err = unpickle(r); err != nil {
			if i == 0 {
				return t, s.fault(ErrCorrupt, "", "is not a file of torch.save")
			}
			return t, s.fault(ErrCorrupt, "", "its pickle "+err.Error())
		}
		if i == 0 && parts[0] != torchMagic {
			return t, s.fault(ErrCorrupt, "", "is not a file of torch.save")
		}
	}
	if err := s.dictOf(&t, parts[3]); err != nil {
		return t, err
	}
	widths := map[string]int{}
	for _, v := range t.dict.values {
		if p, ok := v.(*pickleTensor); ok {
			widths[p.storage.key] = p.storage.dtype.Size()
		}
	}
	keys, _ := parts[4].(*pickleList)
	if keys == nil {
		return t, s.fault(ErrCorrupt, "", "does not list its storages")
	}
	t.at = map[string]placed{}
	at := size - int64(r.Len())
	if int64(len(b)) < size {
		at = int64(len(b)) - int64(r.Len())
	}
	for _, k := range keys.items {
		key, _ := k.(string)
		var count [8]byte
		if at > size-8 {
			return t, s.fault(ErrIncomplete, "", "ends before its storages")
		}
		if err := s.readAt(count[:], at, ""); err != nil {
			return t, err
		}
		n := binary.LittleEndian.Uint64(count[:])
		if at += 8; widths[key] == 0 || n > uint64(size-at)/uint64(widths[key]) {
			return t, s.fault(ErrIncomplete, "", "ends inside its storages, or has one of no tensor")
		}
		bytes := int64(n) * int64(widths[key])
		t.at[key] = placed{at, bytes}
		at += bytes
	}
	return t, nil
}

// dictOf takes the dict of tensors, also from under "state_dict".
func (s *Safetensors) dictOf(t *torchFileReader, v any) error {
	d, ok := v.(*pickleDict)
	if !ok {
		return s.fault(ErrCorrupt, "", "does not hold a dict of tensors")
	}
	for i, k := range d.keys {
		if inner, ok := d.values[i].(*pickleDict); ok && k == "state_dict" {
			d = inner
			break
		}
	}
	t.dict = d
	return nil
}

// addTensors checks every tensor against the memory it shows.
func (s *Safetensors) addTensors(t torchFileReader) error {
	laid := int64(0)
	for i, k := range t.dict.keys {
		name, ok := k.(string)
		p, is := t.dict.values[i].(*pickleTensor)
		if !ok || !is {
			s.note(fmt.Sprintf("entry %q is no tensor and was ignored", shorten(fmt.Sprint(k))))
			continue
		}
		if _, dup := s.infos[name]; dup {
			return s.fault(ErrCorrupt, name, "stands twice in the file")
		}
		width := int64(p.storage.dtype.Size())
		n, fits := elements(p.shape, int(width))
		at, there := t.at[p.storage.key]
		last, span := p.span()
		if first := int64(p.storage.view) + int64(p.offset); !fits || !there || !span || n > 0 && (first < 0 || last > at.bytes/width-first-1) {
			return s.fault(ErrCorrupt, name, fmt.Sprintf("of shape %v reaches beyond its memory", p.shape))
		}
		info := TensorInfo{Name: name, Dtype: p.storage.dtype, Shape: p.shape, Size: n, Bytes: int64(n) * width,
			Offset: at.offset + width*int64(p.storage.view+p.offset)}
		if !p.contiguous() {
			// A view may show one number many times: what is laid out is bounded by what the file could hold.
			if laid += info.Bytes; laid > maxLaidOut {
				return s.fault(ErrTooLarge, name, fmt.Sprintf("is a view that is not contiguous, and such views need more than %d bytes", maxLaidOut))
			}
			if err := s.layOut(&info, p, width); err != nil {
				return err
			}
		}
		s.infos[name] = info
		s.names = append(s.names, name)
	}
	if len(s.names) == 0 {
		return s.fault(ErrCorrupt, "", "does not hold a dict of tensors")
	}
	return nil
}

// maxLaidOut bounds the memory of views that are not contiguous.
const maxLaidOut = 1 << 30

// span is the place of the last element after the first; false if it overflows.
func (p *pickleTensor) span() (int64, bool) {
	last := int64(0)
	for i, d := range p.shape {
		if d == 0 {
			return 0, true
		}
		step, ok := elements([]int{d - 1, p.stride[i]}, 1)
		if last += int64(step); !ok || last < 0 {
			return 0, false
		}
	}
	return last, true
}

func (p *pickleTensor) contiguous() bool {
	want := 1
	for i := len(p.shape) - 1; i >= 0; i-- {
		if p.shape[i] != 1 && p.stride[i] != want {
			return false
		}
		want *= p.shape[i]
	}
	return true
}

// layOut copies a view of the file row by row, in the order of its indices.
func (s *Safetensors) layOut(t *TensorInfo, p *pickleTensor, width int64) error {
	last, _ := p.span()
	if t.Size == 0 {
		return nil
	}
	if (last+1)*width > maxLaidOut {
		return s.fault(ErrTooLarge, t.Name, "is a view that is not contiguous over too much memory")
	}
	from := make([]byte, (last+1)*width)
	if err := s.readAt(from, t.Offset, t.Name); err != nil {
		return err
	}
	to := make([]byte, 0, t.Bytes)
	at := make([]int, len(p.shape))
	for range t.Size {
		place := int64(0)
		for i, x := range at {
			place += int64(x) * int64(p.stride[i])
		}
		to = append(to, from[place*width:][:width]...)
		for i := len(at) - 1; i >= 0; i-- {
			if at[i]++; at[i] < p.shape[i] {
				break
			}
			at[i] = 0
		}
	}
	t.Offset, t.from = 0, &source{bytes.NewReader(to), s.file}
	return nil
}
