package checkpoints

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The files were written by torch 2.15: views of one 5x7 table of 0 to 34, other types, a parameter, an expanded column.
func TestTorchViews(t *testing.T) {
	for _, name := range []string{"views.bin", "views-old.bin", "nested.bin"} {
		s, err := OpenTorch(filepath.Join("testdata", name))
		require.NoError(t, err, name)
		want := map[string][]float32{
			"part": {9, 11, 13, 16, 18, 20, 23, 25, 27}, "row": {21, 22, 23, 24, 25, 26, 27}, "half": {0, .25, .5, .75, 1, 1.25},
			"brain": {0, .25, .5, .75, 1, 1.25}, "param": {1, 1, 1, 1, 1, 1}, "scalar": {2.5}, "expanded": {1, 1, 1, 2, 2, 2}, "none": {},
		}
		for i := range 5 {
			for j := range 7 {
				want["whole"], want["shared"] = append(want["whole"], float32(7*i+j)), append(want["shared"], float32(7*i+j))
			}
		}
		for j := range 7 {
			for i := range 5 {
				want["turned"] = append(want["turned"], float32(7*i+j))
			}
		}
		for tensor, values := range want {
			got, err := s.Float32s(tensor)
			require.NoError(t, err, name+" "+tensor)
			require.Equal(t, values, got, name+" "+tensor)
		}
		shapes := map[string][]int{"turned": {7, 5}, "part": {3, 3}, "none": {0, 4}, "scalar": {}}
		for tensor, shape := range shapes {
			info, ok := s.Info(tensor)
			require.True(t, ok)
			require.Equal(t, shape, info.Shape)
		}
		whole, err := s.Int64s("long")
		require.NoError(t, err)
		require.Equal(t, []int64{-1, 0, 1}, whole)
		same, err := s.Equal("whole", "shared")
		require.NoError(t, err)
		require.True(t, same)
		same, err = s.Equal("whole", "turned")
		require.NoError(t, err)
		require.False(t, same)
		require.NoError(t, s.Close())
	}
}

// Every way of storing the weights of one model gives the same ones.
func TestOpenWeights(t *testing.T) {
	hf := filepath.Join("..", "testdata", "golden", "hf")
	one, err := OpenWeights(filepath.Join(hf, "longformer-mlm"))
	require.NoError(t, err)
	for _, form := range []string{"bin", "sharded", "fp16", "bf16"} {
		other, err := OpenWeights(filepath.Join(hf, "longformer-mlm-"+form))
		require.NoError(t, err)
		for _, name := range one.Names() {
			want, err := one.Float32s(name)
			require.NoError(t, err)
			got, err := other.Float32s(name)
			require.NoError(t, err, form)
			switch form {
			case "fp16":
				require.InDeltaSlice(t, want, got, 2e-3, name)
			case "bf16":
				require.InDeltaSlice(t, want, got, 2e-2, name)
			default:
				require.Equal(t, want, got, name)
			}
		}
		require.NoError(t, other.Close())
	}
	require.NoError(t, one.Close())
}

// torchZipOf is a file of torch.save with this pickle and these storages.
func torchZipOf(t testing.TB, pickle string, storages map[string]int) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	add := func(name string, data []byte) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		require.NoError(t, err)
		_, err = w.Write(data)
		require.NoError(t, err)
	}
	add("m/data.pkl", []byte(pickle))
	for key, n := range storages {
		add("m/data/"+key, make([]byte, n))
	}
	require.NoError(t, z.Close())
	return b.Bytes()
}

// text is the instruction for a text.
func text(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

// number is the instruction for a whole number.
func number(n int32) string { return "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }

// tensorOf are the instructions for a float tensor.
func tensorOf(class, key string, elements, offset int32, shape, stride string) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "c" + class + "\n" + text(key) + text("cpu") + number(elements) + "tQ" +
		number(offset) + shape + stride + "\x89ccollections\nOrderedDict\n)RtR"
}

func dict(items string) string { return "\x80\x02}(" + items + "u." }

func TestTorchRefuses(t *testing.T) {
	const float = "torch\nFloatStorage"
	one, two := "("+number(2)+"t", "("+number(1)+"t"
	good := tensorOf(float, "0", 2, 0, one, two)
	s, err := readTorch(bytes.NewReader(torchZipOf(t, dict(text("x")+good), map[string]int{"0": 8})), int64(len(torchZipOf(t, dict(text("x")+good), map[string]int{"0": 8}))), "good")
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, s.Names())

	eight := map[string]int{"0": 8}
	pickles := map[string]string{
		"runs a command":         dict(text("x") + "cos\nsystem\n(" + text("true") + "tR"),
		"builtins":               dict(text("x") + "cbuiltins\neval\n(" + text("1") + "tR"),
		"by stack":               dict(text("x") + text("posix") + text("system") + "\x93(" + text("true") + "tR"),
		"instance":               "(iposix\nsystem\n.",
		"object":                 dict(text("x") + "(cos\nsystem\no"),
		"newobj":                 dict(text("x") + "ccollections\nOrderedDict\n)\x81"),
		"extension":              "\x82\x01.",
		"torch function":         dict(text("x") + "ctorch\nload\n(" + text("y") + "tR"),
		"hidden by getattr":      dict(text("x") + "c__builtin__\ngetattr\n(" + text("y") + "tR"),
		"calls a text":           dict(text("x") + text("y") + ")R"),
		"calls a tensor":         dict(text("x") + good + ")R"),
		"not a dict":             "\x80\x02" + number(1) + ".",
		"nothing":                "",
		"only a stop":            ".",
		"no stop":                "\x80\x02}",
		"two values":             "\x80\x02}}.",
		"empty dict":             "\x80\x02}.",
		"protocol 9":             "\x80\x09}.",
		"pop of nothing":         "R.",
		"mark as a value":        "(R.",
		"no mark":                "}u.",
		"odd items":              "}(" + text("x") + "u.",
		"items of a number":      number(1) + text("x") + text("y") + "s.",
		"memo not there":         "h\x07.",
		"long text":              "X\xff\xff\xff\x7fabc.",
		"text of 2^63":           "\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
		"line without end":       "cos" + strings.Repeat("a", 5000),
		"many values":            strings.Repeat("}", maxObjects+9) + ".",
		"many marks":             strings.Repeat("(", maxObjects+9) + ".",
		"doubling":               "(" + strings.Repeat("NNNNNNNNt(", maxObjects/8) + ".",
		"state of a number":      number(1) + number(2) + "b.",
		"beyond its storage":     dict(text("x") + tensorOf(float, "0", 2, 1, one, two)),
		"shape too large":        dict(text("x") + tensorOf(float, "0", 2, 0, "("+number(2147483647)+number(2147483647)+number(2147483647)+"t", "("+number(1)+number(1)+number(1)+"t")),
		"stride too large":       dict(text("x") + tensorOf(float, "0", 2, 0, one, "("+number(2147483647)+"t")),
		"expanded without end":   dict(text("x") + tensorOf(float, "0", 2, 0, "("+number(1<<30)+number(4)+"t", "("+number(0)+number(0)+"t")),
		"negative offset":        dict(text("x") + tensorOf(float, "0", 2, -1, one, two)),
		"negative shape":         dict(text("x") + tensorOf(float, "0", 2, 0, "("+number(-2)+"t", two)),
		"fewer strides":          dict(text("x") + tensorOf(float, "0", 2, 0, one, ")")),
		"no such storage":        dict(text("x") + tensorOf(float, "7", 2, 0, one, two)),
		"unknown class":          dict(text("x") + tensorOf("torch\nQInt8Storage", "0", 2, 0, one, two)),
		"class is a function":    dict(text("x") + tensorOf("torch._utils\n_rebuild_tensor_v2", "0", 2, 0, one, two)),
		"name stands twice":      dict(text("x") + good + text("x") + good),
		"parameter of nothing":   dict(text("x") + "ctorch._utils\n_rebuild_parameter\n)R"),
		"tensor of no arguments": dict(text("x") + "ctorch._utils\n_rebuild_tensor_v2\n)R"),
	}
	files := map[string][]byte{
		"empty": {}, "one byte": {'P'}, "text": []byte("This is a text, no file of tensors."), "zip cut off": torchZipOf(t, dict(text("x")+good), eight)[:200],
		"zip without a pickle": torchZipOf(t, "", nil)[:22], "zip bomb": bomb(t), "old, cut off": cut(t, "views-old.bin", 1200), "old, cut in the pickle": cut(t, "views-old.bin", 300),
		"zip, cut off": cut(t, "views.bin", 2000), "compressed": compressed(t, dict(text("x")+good)),
	}
	for name, p := range pickles {
		files[name] = torchZipOf(t, p, eight)
	}
	require.GreaterOrEqual(t, len(files), 40)
	for name, file := range files {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := readTorch(bytes.NewReader(file), int64(len(file)), name)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		var fault *FileError
		require.ErrorAs(t, err, &fault, name)
		require.NotContains(t, err.Error(), "\n", name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), name)
		if took > time.Second { // a hang, whatever the machine
			t.Errorf("%s took %v", name, took)
		}
	}
}

func cut(t testing.TB, name string, n int) []byte {
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return b[:n]
}

// bomb is a zip whose pickle is a gigabyte when unpacked.
func bomb(t testing.TB) []byte {
	b := compressed(t, strings.Repeat("N", 64<<20))
	return b
}

func compressed(t testing.TB, pickle string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, data := range map[string]string{"m/data.pkl": pickle, "m/data/0": "00000000"} {
		w, err := z.Create(name)
		require.NoError(t, err)
		_, err = w.Write([]byte(data))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return b.Bytes()
}

func TestShardsRefuse(t *testing.T) {
	for want, index := range map[string]string{
		"weight_map": `{}`, "not a JSON": `{`, "no file of the folder": `{"weight_map": {"x": "../x.safetensors"}}`,
		"no such file": `{"weight_map": {"x": "model-1.safetensors"}}`, "not in this file": `{"weight_map": {"y": "model-2.safetensors"}}`,
	} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, modelFile+indexSuffix), []byte(index), 0o666))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "model-2.safetensors"), file(entry(`[1]`, `[0,4]`), 4), 0o666))
		_, err := OpenWeights(dir)
		var fault *FileError
		require.ErrorAs(t, err, &fault)
		if want != "not a JSON" {
			require.ErrorContains(t, err, want)
		}
	}
}

func FuzzTorch(f *testing.F) {
	for _, name := range []string{"views.bin", "views-old.bin"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readTorch(bytes.NewReader(b), int64(len(b)), "fuzz")
		if err != nil {
			return
		}
		for _, name := range s.Names() {
			_, _ = s.Raw(name)
		}
	})
}
