package checkpoints

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func openBytes(b []byte) (*Safetensors, error) {
	return ReadSafetensors(bytes.NewReader(b), int64(len(b)), "x.safetensors")
}

func written(t require.TestingT, tensors []Tensor) []byte {
	var b bytes.Buffer
	require.NoError(t, WriteSafetensors(&b, tensors))
	size, err := SafetensorsSize(tensors)
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), size)
	return b.Bytes()
}

// The fixture is written by Python, see testdata/make_fixtures.py.
func TestReadsPython(t *testing.T) {
	s, err := OpenSafetensors(filepath.Join("testdata", "mixed.safetensors"))
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, map[string]string{"format": "pt", "note": "x"}, s.Metadata())
	require.Len(t, s.Names(), 13)
	require.Empty(t, s.Notes())

	f64, err := s.Float64s("z.f64")
	require.NoError(t, err)
	for i, v := range f64 {
		require.Equal(t, float64(i)/3, v)
	}
	info, ok := s.Info("z.f64")
	require.True(t, ok)
	require.Equal(t, []int{2, 3}, info.Shape)
	require.Equal(t, F64, info.Dtype)
	f32, err := s.Float32s("f32")
	require.NoError(t, err)
	for i, v := range f32 {
		require.Equal(t, float32(i)/7-2, v)
	}
	half, err := s.Float32s("half")
	require.NoError(t, err)
	inf := float32(math.Inf(1))
	require.Equal(t, []float32{0, 0, 1, -2, 65504, 5.9604644775390625e-08, 0.333251953125, inf, -inf}, half[:9])
	require.True(t, math.Signbit(float64(half[1])))
	require.True(t, math.IsNaN(float64(half[9])))
	bf16, err := s.Float64s("bf16")
	require.NoError(t, err)
	require.Equal(t, []float64{1, -2, 65536, 5.9604644775390625e-08, 0.333984375}, bf16[2:7])
	for name, want := range map[string][]int64{"i64": {-(1 << 62), 7, 1 << 31}, "i32": {math.MinInt32, math.MaxInt32}, "i16": {-32768, 32767}, "i8": {-128, 127, 5}, "u8": {0, 255, 3}, "flag": {1, 0, 1}} {
		got, err := s.Int64s(name)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	i16, err := s.Int32s("i16")
	require.NoError(t, err)
	require.Equal(t, []int32{-32768, 32767}, i16)
	scalar, err := s.Tensor("scalar")
	require.NoError(t, err)
	require.Equal(t, Tensor{Name: "scalar", Shape: []int{}, Data: []float32{2.5}}, scalar)
	empty, err := s.Tensor("empty")
	require.NoError(t, err)
	require.Equal(t, Tensor{Name: "empty", Shape: []int{0, 3}, Data: []float32{}}, empty)
	flag, err := s.Tensor("flag")
	require.NoError(t, err)
	require.Equal(t, []bool{true, false, true}, flag.Data)

	_, err = s.Int32s("i64")
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "element 0 is -4611686018427387904 and does not fit int32")
	_, err = s.Float32s("i64")
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.Float32s("none")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, s.ReadFloat32s("f32", make([]float32, 35)))
	require.ErrorIs(t, s.ReadFloat32s("f32", make([]float32, 34)), ErrInvalid)
	require.ErrorIs(t, s.ReadFloat64s("f32", make([]float64, 36)), ErrInvalid)
}

// For tensors of one type the bytes are those that Python writes.
func TestWritesAsPython(t *testing.T) {
	paths := []string{filepath.Join("testdata", "float32.safetensors")}
	golden, err := filepath.Glob(filepath.Join("..", "testdata", "golden", "hf", "*", "model.safetensors"))
	require.NoError(t, err)
	require.NotEmpty(t, golden)
	for _, path := range append(paths, golden...) {
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		tensors := rawTensors(t, path)
		for i, j := 0, len(tensors)-1; i < j; i, j = i+1, j-1 { // the order of the list does not matter
			tensors[i], tensors[j] = tensors[j], tensors[i]
		}
		require.True(t, bytes.Equal(want, written(t, tensors)), path)
	}
}

// rawTensors are those of a file, in its own types.
func rawTensors(t testing.TB, path string) (all []Tensor) {
	s, err := OpenSafetensors(path)
	require.NoError(t, err)
	for _, name := range s.Names() {
		info, _ := s.Info(name)
		raw, err := s.Raw(name)
		require.NoError(t, err)
		all = append(all, Tensor{name, info.Shape, raw})
	}
	require.NoError(t, s.Close())
	return all
}

func TestMixedTypesAreAligned(t *testing.T) {
	b := written(t, []Tensor{
		{"a", []int{3}, []uint8{1, 2, 3}}, {"b", []int{2}, []float64{1, 2}}, {"c", []int{1}, []float32{3}},
		{"d", []int{1}, []int32{-4}}, {"e", []int{1}, []int64{5}}, {"f", []int{3}, []bool{true, false, true}}, {"g", []int{3}, Raw{BF16, []byte{1, 2, 3, 4, 5, 6}}},
	})
	s, err := openBytes(b)
	require.NoError(t, err)
	for _, n := range s.Names() {
		info, _ := s.Info(n)
		require.Zero(t, info.Offset%int64(info.Dtype.Size()), n)
	}
	raw, err := s.Raw("g")
	require.NoError(t, err)
	require.Equal(t, Raw{BF16, []byte{1, 2, 3, 4, 5, 6}}, raw)
	e, err := s.Tensor("e")
	require.NoError(t, err)
	require.Equal(t, []int64{5}, e.Data)
}

func TestWriterRefuses(t *testing.T) {
	for name, tensors := range map[string][]Tensor{
		"twice":    {{"a", []int{1}, []float32{1}}, {"a", []int{1}, []float32{1}}},
		"no name":  {{"", []int{1}, []float32{1}}},
		"metadata": {{metadataKey, []int{1}, []float32{1}}},
		"utf-8":    {{"\xff", []int{1}, []float32{1}}},
		"size":     {{"a", []int{2}, []float32{1}}},
		"negative": {{"a", []int{-1}, []float32{1}}},
		"type":     {{"a", []int{1}, []complex64{1}}},
		"nil":      {{"a", []int{1}, nil}},
		"axes":     {{"a", []int{1, 1, 1, 1, 1, 1, 1, 1, 1}, []float32{1}}},
		"overflow": {{"a", []int{1 << 40, 1 << 40}, []float32{1}}},
	} {
		require.ErrorIs(t, WriteSafetensors(&bytes.Buffer{}, tensors), ErrInvalid, name)
	}
}

func TestRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []Tensor
		for _, name := range rapid.SliceOfNDistinct(rapid.StringN(1, 20, 40), 0, 7, rapid.ID[string]).Draw(t, "names") {
			shape := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 4).Draw(t, "shape")
			n, _ := elements(shape, 1)
			x := Tensor{Name: name, Shape: shape}
			switch rapid.IntRange(0, 5).Draw(t, "type") {
			case 0:
				x.Data = rapid.SliceOfN(rapid.Float64(), n, n).Draw(t, "data")
			case 1:
				x.Data = rapid.SliceOfN(rapid.Float32(), n, n).Draw(t, "data")
			case 2:
				x.Data = rapid.SliceOfN(rapid.Int64(), n, n).Draw(t, "data")
			case 3:
				x.Data = rapid.SliceOfN(rapid.Int32(), n, n).Draw(t, "data")
			case 4:
				x.Data = rapid.SliceOfN(rapid.Uint8(), n, n).Draw(t, "data")
			default:
				x.Data = rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "data")
			}
			if name != metadataKey {
				in = append(in, x)
			}
		}
		s, err := openBytes(written(t, in))
		require.NoError(t, err)
		require.Len(t, s.Names(), len(in))
		for _, x := range in {
			got, err := s.Tensor(x.Name)
			require.NoError(t, err)
			require.Equal(t, x.Data, got.Data)
			require.Equal(t, len(x.Shape), len(got.Shape))
		}
	})
}

// Every binary16 number against its definition.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		sign, exp, frac := 1-2*float64(h>>15), h>>10&31, float64(h&1023)
		got := halfToFloat32(uint16(h))
		switch {
		case exp == 31 && frac != 0:
			require.True(t, math.IsNaN(float64(got)))
			continue
		case exp == 31:
			require.Equal(t, sign*math.Inf(1), float64(got))
			continue
		case exp == 0:
			require.Equal(t, sign*math.Ldexp(frac, -24), float64(got))
		default:
			require.Equal(t, sign*math.Ldexp(1024+frac, exp-25), float64(got))
		}
		require.Equal(t, h>>15 == 1, math.Signbit(float64(got)))
	}
}

// A tensor longer than a chunk, with the ends in the right place.
func TestLongTensor(t *testing.T) {
	x := make([]float32, 3*chunk/4+7)
	for i := range x {
		x[i] = float32(i)
	}
	s, err := openBytes(written(t, []Tensor{{"x", []int{len(x)}, x}}))
	require.NoError(t, err)
	got, err := s.Float32s("x")
	require.NoError(t, err)
	require.Equal(t, x, got)
}

// A file that is cut after it was opened.
func TestFileShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	b := written(t, []Tensor{{"x", []int{5}, []float32{1, 2, 3, 4, 5}}})
	require.NoError(t, os.WriteFile(path, b, 0o666))
	s, err := OpenSafetensors(path)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, os.Truncate(path, int64(len(b)-4)))
	_, err = s.Float32s("x")
	require.ErrorIs(t, err, ErrIncomplete)
}

func FuzzSafetensors(f *testing.F) {
	for _, path := range []string{"mixed", "float32"} {
		b, err := os.ReadFile(filepath.Join("testdata", path+".safetensors"))
		require.NoError(f, err)
		f.Add(b)
	}
	for _, h := range hostile() {
		if len(h.file) < 1<<16 {
			f.Add(h.file)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := openBytes(b)
		if err != nil {
			var fe *FileError
			require.ErrorAs(t, err, &fe)
			require.NotEmpty(t, fe.What)
			return
		}
		covered := int64(8) + int64(binary.LittleEndian.Uint64(b))
		for _, n := range s.Names() {
			info, _ := s.Info(n)
			raw, err := s.Raw(n)
			require.NoError(t, err)
			require.Len(t, raw.Bytes, info.Size*info.Dtype.Size())
			covered += info.Bytes
			_, err = s.Tensor(n)
			if err != nil {
				require.ErrorIs(t, err, ErrInvalid)
			}
		}
		require.EqualValues(t, len(b), covered)
	})
}
