package checkpoints

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

const metadataKey = "__metadata__"

// Tensor is a named tensor in memory.
type Tensor struct {
	Name  string
	Shape []int // empty for a scalar
	Data  any   // []float32, []float64, []int32, []int64, []uint8, []bool or Raw; of the shape's size
}

// WriteSafetensors writes tensors as a safetensors file. The bytes depend on the tensors alone, not on their order: names are
// sorted, metadata is {"format":"pt"}, the header is padded with spaces to a multiple of 8. Data lie in the order of names
// within an element size, wider elements first, so that every tensor is aligned. For tensors of one type the file is,
// byte for byte, what Python's safetensors writes.
//
// Errors: ErrInvalid for a duplicate or impossible name, or data that do not fit the shape; errors of w as they are.
func WriteSafetensors(w io.Writer, tensors []Tensor) error {
	plan, err := planFile(tensors)
	if err != nil {
		return err
	}
	if _, err := w.Write(plan.header); err != nil {
		return err
	}
	buf := make([]byte, max(8, min(chunk, plan.size)))
	for _, t := range plan.data {
		if err := writeData(w, t.Data, buf); err != nil {
			return err
		}
	}
	return nil
}

// SafetensorsSize is the number of bytes that WriteSafetensors will write.
func SafetensorsSize(tensors []Tensor) (int64, error) {
	plan, err := planFile(tensors)
	if err != nil {
		return 0, err
	}
	return plan.size, nil
}

type filePlan struct {
	header []byte   // with its length in front
	data   []Tensor // in the order of their data
	size   int64    // of the file
}

func planFile(tensors []Tensor) (*filePlan, error) {
	byName := slices.Clone(tensors)
	slices.SortStableFunc(byName, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	for i, t := range byName {
		if err := checkTensor(t); err != nil {
			return nil, err
		}
		if i > 0 && byName[i-1].Name == t.Name {
			return nil, invalidTensor(t.Name, "stands twice in the list")
		}
	}
	plan := &filePlan{data: slices.Clone(byName)}
	slices.SortStableFunc(plan.data, func(a, b Tensor) int { return dtypeOf(b.Data).Size() - dtypeOf(a.Data).Size() })
	offset := map[string]int64{}
	end := int64(0)
	for _, t := range plan.data {
		offset[t.Name] = end
		end += dataBytes(t.Data)
	}

	var h bytes.Buffer
	h.Write(make([]byte, 8))
	h.WriteString(`{"` + metadataKey + `":{"format":"pt"}`)
	for _, t := range byName {
		begin := offset[t.Name]
		h.WriteByte(',')
		h.Write(quote(t.Name))
		fmt.Fprintf(&h, `:{"dtype":"%s","shape":[`, dtypeOf(t.Data))
		for i, d := range t.Shape {
			if i > 0 {
				h.WriteByte(',')
			}
			fmt.Fprint(&h, d)
		}
		fmt.Fprintf(&h, `],"data_offsets":[%d,%d]}`, begin, begin+dataBytes(t.Data))
	}
	h.WriteByte('}')
	for h.Len()%8 != 0 {
		h.WriteByte(' ')
	}
	plan.header = h.Bytes()
	binary.LittleEndian.PutUint64(plan.header, uint64(h.Len()-8))
	plan.size = int64(h.Len()) + end
	if h.Len()-8 > maxHeader || len(tensors) > maxTensors {
		return nil, &FileError{Kind: ErrTooLarge, File: "safetensors", What: fmt.Sprintf("%d tensors make a header of %d bytes, more than readers allow", len(tensors), h.Len()-8),
			Do: "split the file"}
	}
	return plan, nil
}

func checkTensor(t Tensor) error {
	if t.Name == "" || t.Name == metadataKey || !utf8.ValidString(t.Name) {
		return invalidTensor(t.Name, "is no possible name of a tensor")
	}
	d := dtypeOf(t.Data)
	if d.Size() == 0 {
		return invalidTensor(t.Name, fmt.Sprintf("has data of type %T, which cannot be written", t.Data))
	}
	if len(t.Shape) > maxAxes {
		return invalidTensor(t.Name, fmt.Sprintf("has %d axes, more than %d", len(t.Shape), maxAxes))
	}
	n, ok := elements(t.Shape, d.Size())
	if !ok || int64(n)*int64(d.Size()) != dataBytes(t.Data) {
		return invalidTensor(t.Name, fmt.Sprintf("has shape %v but %d bytes of %s", t.Shape, dataBytes(t.Data), d))
	}
	return nil
}

func invalidTensor(name, what string) error {
	return &FileError{Kind: ErrInvalid, File: "safetensors", Tensor: name, What: what, Do: "this is a fault of the caller"}
}

// quote writes a JSON string as Python's safetensors does: without escapes for HTML.
func quote(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil // a string always encodes
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

func dtypeOf(data any) Dtype {
	switch d := data.(type) {
	case []float64:
		return F64
	case []float32:
		return F32
	case []int64:
		return I64
	case []int32:
		return I32
	case []uint8:
		return U8
	case []bool:
		return Bool
	case Raw:
		return d.Dtype
	}
	return ""
}

func dataBytes(data any) int64 {
	switch d := data.(type) {
	case []float64:
		return 8 * int64(len(d))
	case []float32:
		return 4 * int64(len(d))
	case []int64:
		return 8 * int64(len(d))
	case []int32:
		return 4 * int64(len(d))
	case []uint8:
		return int64(len(d))
	case []bool:
		return int64(len(d))
	case Raw:
		return int64(len(d.Bytes))
	}
	return 0
}

func writeData(w io.Writer, data any, buf []byte) error {
	le := binary.LittleEndian
	switch d := data.(type) {
	case []float64:
		return encode(w, d, 8, buf, func(b []byte, v float64) { le.PutUint64(b, math.Float64bits(v)) })
	case []float32:
		return encode(w, d, 4, buf, func(b []byte, v float32) { le.PutUint32(b, math.Float32bits(v)) })
	case []int64:
		return encode(w, d, 8, buf, func(b []byte, v int64) { le.PutUint64(b, uint64(v)) })
	case []int32:
		return encode(w, d, 4, buf, func(b []byte, v int32) { le.PutUint32(b, uint32(v)) })
	case []uint8:
		return writeBytes(w, d)
	case []bool:
		return encode(w, d, 1, buf, func(b []byte, v bool) {
			b[0] = 0
			if v {
				b[0] = 1
			}
		})
	case Raw:
		return writeBytes(w, d.Bytes)
	}
	return fmt.Errorf("safetensors: data of type %T cannot be written", data)
}

func writeBytes(w io.Writer, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), chunk)
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// encode writes values chunk by chunk, so that writing needs no second copy of the data.
func encode[T any](w io.Writer, data []T, width int, buf []byte, put func(b []byte, v T)) error {
	for len(data) > 0 {
		n := min(len(data), len(buf)/width)
		for i, v := range data[:n] {
			put(buf[i*width:], v)
		}
		if _, err := w.Write(buf[:n*width]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}
