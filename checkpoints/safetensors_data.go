package checkpoints

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

const chunk = 1 << 16 // bytes decoded or encoded at a time; a multiple of every element size

// Float32s reads a tensor as float32: F32, F16 and BF16 exactly, F64 rounded.
//
// Errors: ErrNotFound (no such tensor), ErrInvalid (not a floating point tensor), ErrIncomplete, ErrIO.
func (s *Safetensors) Float32s(name string) ([]float32, error) {
	t, err := s.need(name, F64, F32, F16, BF16)
	if err != nil {
		return nil, err
	}
	out := make([]float32, t.Size)
	return out, s.readFloat32s(t, out)
}

// ReadFloat32s is Float32s into a slice of exactly the tensor's size.
func (s *Safetensors) ReadFloat32s(name string, dst []float32) error {
	t, err := s.need(name, F64, F32, F16, BF16)
	if err != nil {
		return err
	}
	if len(dst) != t.Size {
		return s.misfit(t, len(dst))
	}
	return s.readFloat32s(t, dst)
}

func (s *Safetensors) readFloat32s(t TensorInfo, dst []float32) error {
	le := binary.LittleEndian
	switch t.Dtype {
	case F64:
		return decode(s, t, dst, func(b []byte) float32 { return float32(math.Float64frombits(le.Uint64(b))) })
	case F32:
		return decode(s, t, dst, func(b []byte) float32 { return math.Float32frombits(le.Uint32(b)) })
	case F16:
		return decode(s, t, dst, func(b []byte) float32 { return halfToFloat32(le.Uint16(b)) })
	}
	return decode(s, t, dst, func(b []byte) float32 { return bfloatToFloat32(le.Uint16(b)) })
}

// Float64s reads a tensor as float64, exactly. Errors as of Float32s.
func (s *Safetensors) Float64s(name string) ([]float64, error) {
	t, err := s.need(name, F64, F32, F16, BF16)
	if err != nil {
		return nil, err
	}
	out := make([]float64, t.Size)
	return out, s.readFloat64s(t, out)
}

// ReadFloat64s is Float64s into a slice of exactly the tensor's size.
func (s *Safetensors) ReadFloat64s(name string, dst []float64) error {
	t, err := s.need(name, F64, F32, F16, BF16)
	if err != nil {
		return err
	}
	if len(dst) != t.Size {
		return s.misfit(t, len(dst))
	}
	return s.readFloat64s(t, dst)
}

func (s *Safetensors) readFloat64s(t TensorInfo, dst []float64) error {
	le := binary.LittleEndian
	switch t.Dtype {
	case F64:
		return decode(s, t, dst, func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) })
	case F32:
		return decode(s, t, dst, func(b []byte) float64 { return float64(math.Float32frombits(le.Uint32(b))) })
	case F16:
		return decode(s, t, dst, func(b []byte) float64 { return float64(halfToFloat32(le.Uint16(b))) })
	}
	return decode(s, t, dst, func(b []byte) float64 { return float64(bfloatToFloat32(le.Uint16(b))) })
}

// Int64s reads a whole-number or boolean tensor. A U64 above the largest int64 is an error.
func (s *Safetensors) Int64s(name string) ([]int64, error) {
	t, err := s.need(name, I64, I32, I16, I8, U64, U32, U16, U8, Bool)
	if err != nil {
		return nil, err
	}
	out := make([]int64, t.Size)
	le := binary.LittleEndian
	var get func(b []byte) int64
	switch t.Dtype {
	case I64, U64:
		get = func(b []byte) int64 { return int64(le.Uint64(b)) }
	case I32:
		get = func(b []byte) int64 { return int64(int32(le.Uint32(b))) }
	case U32:
		get = func(b []byte) int64 { return int64(le.Uint32(b)) }
	case I16:
		get = func(b []byte) int64 { return int64(int16(le.Uint16(b))) }
	case U16:
		get = func(b []byte) int64 { return int64(le.Uint16(b)) }
	case I8:
		get = func(b []byte) int64 { return int64(int8(b[0])) }
	default:
		get = func(b []byte) int64 { return int64(b[0]) }
	}
	if err := decode(s, t, out, get); err != nil {
		return nil, err
	}
	if t.Dtype == U64 {
		for i, v := range out {
			if v < 0 {
				return nil, s.outOfRange(t, i, fmt.Sprint(uint64(v)), "int64")
			}
		}
	}
	return out, nil
}

// Int32s reads a whole-number or boolean tensor; a value that does not fit int32 is an error that names its index.
func (s *Safetensors) Int32s(name string) ([]int32, error) {
	wide, err := s.Int64s(name)
	if err != nil {
		return nil, err
	}
	out := make([]int32, len(wide))
	for i, v := range wide {
		if v != int64(int32(v)) {
			return nil, s.outOfRange(s.infos[name], i, fmt.Sprint(v), "int32")
		}
		out[i] = int32(v)
	}
	return out, nil
}

// Raw holds the bytes of a tensor as they stand in a file, little endian. It may be the Data of a Tensor that is written.
type Raw struct {
	Dtype Dtype
	Bytes []byte
}

// Raw reads the bytes of a tensor of any type.
func (s *Safetensors) Raw(name string) (Raw, error) {
	t, err := s.need(name)
	if err != nil {
		return Raw{}, err
	}
	b := make([]byte, t.Bytes)
	return Raw{t.Dtype, b}, s.readTensor(t, b, 0)
}

// Equal tells whether two tensors have the same type, shape and bytes.
func (s *Safetensors) Equal(a, b string) (bool, error) {
	x, err := s.need(a)
	if err != nil {
		return false, err
	}
	y, err := s.need(b)
	if err != nil || x.Dtype != y.Dtype || !slices.Equal(x.Shape, y.Shape) {
		return false, err
	}
	var p, q [chunk]byte
	for off := int64(0); off < x.Bytes; off += chunk {
		n := min(chunk, x.Bytes-off)
		if err := s.readTensor(x, p[:n], off); err != nil {
			return false, err
		}
		if err := s.readTensor(y, q[:n], off); err != nil {
			return false, err
		}
		if !bytes.Equal(p[:n], q[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// Tensor reads a tensor in its own type: []float64, []float32 (also for F16 and BF16), []int64, []int32, []uint8, []bool;
// any other type as Raw.
func (s *Safetensors) Tensor(name string) (Tensor, error) {
	t, err := s.need(name)
	if err != nil {
		return Tensor{}, err
	}
	out := Tensor{Name: name, Shape: t.Shape}
	switch t.Dtype {
	case F64:
		out.Data, err = s.Float64s(name)
	case F32, F16, BF16:
		out.Data, err = s.Float32s(name)
	case I64:
		out.Data, err = s.Int64s(name)
	case I32:
		out.Data, err = s.Int32s(name)
	case U8:
		d := make([]uint8, t.Size)
		out.Data, err = d, decode(s, t, d, func(b []byte) uint8 { return b[0] })
	case Bool:
		d := make([]bool, t.Size)
		out.Data, err = d, decode(s, t, d, func(b []byte) bool { return b[0] != 0 })
	default:
		out.Data, err = s.Raw(name)
	}
	if err != nil {
		return Tensor{}, err
	}
	return out, nil
}

// need looks a tensor up and checks its type; no types means any.
func (s *Safetensors) need(name string, types ...Dtype) (TensorInfo, error) {
	t, ok := s.infos[name]
	if !ok {
		return t, &FileError{Kind: ErrNotFound, File: s.file, Tensor: name, What: "is not in the file", Do: "check that the file belongs to this model"}
	}
	for _, d := range types {
		if t.Dtype == d {
			return t, nil
		}
	}
	if len(types) == 0 {
		return t, nil
	}
	return t, &FileError{Kind: ErrInvalid, File: s.file, Tensor: name, What: fmt.Sprintf("has dtype %s, wanted one of %v", t.Dtype, types), Do: "convert it"}
}

func (s *Safetensors) misfit(t TensorInfo, n int) error {
	return &FileError{Kind: ErrInvalid, File: s.file, Tensor: t.Name, What: fmt.Sprintf("has shape %v (%d numbers), wanted %d", t.Shape, t.Size, n), Do: "check that the file belongs to this model"}
}

func (s *Safetensors) outOfRange(t TensorInfo, i int, v, typ string) error {
	return &FileError{Kind: ErrInvalid, File: s.file, Tensor: t.Name, What: fmt.Sprintf("element %d is %s and does not fit %s", i, v, typ), Do: "check the file"}
}

// decode reads a tensor chunk by chunk, so that its memory is the result and one chunk.
func decode[T any](s *Safetensors, t TensorInfo, dst []T, get func(b []byte) T) error {
	w := t.Dtype.Size()
	buf := make([]byte, min(int64(chunk), t.Bytes))
	for off, i := int64(0), 0; off < t.Bytes; off += chunk {
		b := buf[:min(int64(len(buf)), t.Bytes-off)]
		if err := s.readTensor(t, b, off); err != nil {
			return err
		}
		for ; len(b) > 0; b = b[w:] {
			dst[i] = get(b)
			i++
		}
	}
	return nil
}
