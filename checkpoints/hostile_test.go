package checkpoints

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type hostileFile struct {
	name string
	kind error
	file []byte
}

// file puts a length in front of a header and data behind it.
func file(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

func declared(n uint64, rest string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, n), rest...)
}

// entry is a header with one float32 tensor x.
func entry(shape, offsets string) string {
	return fmt.Sprintf(`{"x":{"dtype":"F32","shape":%s,"data_offsets":%s}}`, shape, offsets)
}

// hostile is a corpus of files that must be refused.
func hostile() []hostileFile {
	const x = `"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`
	const y = `"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}`
	deep := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }
	var many strings.Builder
	for i := range maxTensors + 1 {
		fmt.Fprintf(&many, `,"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`, i)
	}
	list := []hostileFile{
		{"nothing", ErrIncomplete, nil},
		{"one byte", ErrIncomplete, []byte{1}},
		{"seven bytes", ErrIncomplete, make([]byte, 7)},
		{"only a length", ErrIncomplete, declared(100, "")},
		{"length 0", ErrCorrupt, declared(0, "")},
		{"length 1", ErrCorrupt, declared(1, "{")},
		{"length bomb 2^64-1", ErrTooLarge, declared(1<<64-1, "{}")},
		{"length bomb 2^63", ErrTooLarge, declared(1<<63, "{}")},
		{"length bomb 100 MB", ErrTooLarge, declared(100<<20, "{}")},
		{"length one above the limit", ErrTooLarge, declared(maxHeader+1, "{}")},
		{"length at the limit, short file", ErrIncomplete, declared(maxHeader, "{}")},
		{"length one above the file", ErrIncomplete, declared(3, "{}")},
		{"text", ErrTooLarge, []byte("This is a text, not a safetensors file.")},
		{"pickle", ErrTooLarge, []byte("\x80\x02}q\x00X\x04\x00\x00\x00datq\x01.")},
		{"zip", ErrTooLarge, []byte("PK\x03\x04\x14\x00\x00\x00\x08\x00aaaaaaaaaaaaa")},
		{"leading space", ErrCorrupt, file(` {`+x+`}`, 4)},
		{"array at top", ErrCorrupt, file(`[]`, 0)},
		{"byte order mark", ErrCorrupt, file("\ufeff{}", 0)},
		{"not utf-8", ErrCorrupt, file("{\"\xff\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4)},
		{"torn json", ErrCorrupt, file(`{"x":{"dtype":"F32","sha`, 0)},
		{"no closing brace", ErrCorrupt, file(`{`+x, 4)},
		{"text after the header", ErrCorrupt, file(`{`+x+`}{}`, 4)},
		{"zeros after the header", ErrCorrupt, file(`{`+x+"}\x00\x00", 4)},
		{"trailing comma", ErrCorrupt, file(`{`+x+`,}`, 4)},
		{"single quotes", ErrCorrupt, file(`{'x':{}}`, 0)},
		{"duplicate tensor", ErrCorrupt, file(`{`+x+`,`+x+`}`, 4)},
		{"duplicate by escape", ErrCorrupt, file(`{`+x+`,"\u0078":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8)},
		{"duplicate dtype", ErrCorrupt, file(`{"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"duplicate shape", ErrCorrupt, file(`{"x":{"shape":[9],"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"duplicate offsets", ErrCorrupt, file(`{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]}}`, 4)},
		{"duplicate metadata", ErrCorrupt, file(`{"__metadata__":{},"__metadata__":{}}`, 0)},
		{"duplicate metadata key", ErrCorrupt, file(`{"__metadata__":{"a":"1","a":"2"}}`, 0)},
		{"metadata not an object", ErrCorrupt, file(`{"__metadata__":[]}`, 0)},
		{"metadata with a number", ErrCorrupt, file(`{"__metadata__":{"a":1}}`, 0)},
		{"metadata nested", ErrCorrupt, file(`{"__metadata__":{"a":{"b":"c"}}}`, 0)},
		{"tensor is null", ErrCorrupt, file(`{"x":null}`, 0)},
		{"tensor is a number", ErrCorrupt, file(`{"x":1}`, 0)},
		{"tensor is an array", ErrCorrupt, file(`{"x":[]}`, 0)},
		{"tensor is empty", ErrCorrupt, file(`{"x":{}}`, 0)},
		{"no dtype", ErrCorrupt, file(`{"x":{"shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"no shape", ErrCorrupt, file(`{"x":{"dtype":"F32","data_offsets":[0,4]}}`, 4)},
		{"no offsets", ErrCorrupt, file(`{"x":{"dtype":"F32","shape":[1]}}`, 4)},
		{"unknown dtype", ErrCorrupt, file(`{"x":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"dtype in small letters", ErrCorrupt, file(`{"x":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"dtype a number", ErrCorrupt, file(`{"x":{"dtype":32,"shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"dtype null", ErrCorrupt, file(`{"x":{"dtype":null,"shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"dtype of another width", ErrCorrupt, file(`{"x":{"dtype":"F64","shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"shape a number", ErrCorrupt, file(entry(`1`, `[0,4]`), 4)},
		{"shape null", ErrCorrupt, file(entry(`null`, `[0,4]`), 4)},
		{"shape negative", ErrCorrupt, file(entry(`[-1]`, `[0,4]`), 4)},
		{"shape two negatives", ErrCorrupt, file(entry(`[-1,-1]`, `[0,4]`), 4)},
		{"shape a fraction", ErrCorrupt, file(entry(`[1.0]`, `[0,4]`), 4)},
		{"shape with exponent", ErrCorrupt, file(entry(`[1e0]`, `[0,4]`), 4)},
		{"shape a text", ErrCorrupt, file(entry(`["1"]`, `[0,4]`), 4)},
		{"shape true", ErrCorrupt, file(entry(`[true]`, `[0,4]`), 4)},
		{"shape 2^62", ErrCorrupt, file(entry(`[4611686018427387904]`, `[0,4]`), 4)},
		{"shape 2^64", ErrCorrupt, file(entry(`[18446744073709551616]`, `[0,4]`), 4)},
		{"shape 2^32 x 2^32", ErrCorrupt, file(entry(`[4294967296,4294967296]`, `[0,0]`), 0)},
		{"shape 2^62 x 4 wraps to 0", ErrCorrupt, file(entry(`[4611686018427387904,4]`, `[0,0]`), 0)},
		{"shape overflow behind a 0", ErrCorrupt, file(entry(`[0,4611686018427387904,4611686018427387904]`, `[0,0]`), 0)},
		{"shape nested", ErrCorrupt, file(entry(`[[1]]`, `[0,4]`), 4)},
		{"nine axes", ErrCorrupt, file(entry(`[1,1,1,1,1,1,1,1,1]`, `[0,4]`), 4)},
		{"a million axes", ErrCorrupt, file(entry(`[1`+strings.Repeat(",1", 1e6)+`]`, `[0,4]`), 4)},
		{"offsets one number", ErrCorrupt, file(entry(`[1]`, `[0]`), 4)},
		{"offsets three numbers", ErrCorrupt, file(entry(`[1]`, `[0,4,4]`), 4)},
		{"offsets reversed", ErrCorrupt, file(entry(`[1]`, `[4,0]`), 4)},
		{"offsets negative", ErrCorrupt, file(entry(`[1]`, `[-4,0]`), 4)},
		{"offsets null", ErrCorrupt, file(entry(`[1]`, `null`), 4)},
		{"offsets too short for the shape", ErrCorrupt, file(entry(`[2]`, `[0,4]`), 4)},
		{"offsets too long for the shape", ErrCorrupt, file(entry(`[1]`, `[0,8]`), 8)},
		{"offsets beyond the file", ErrIncomplete, file(entry(`[2]`, `[0,8]`), 7)},
		{"offsets far beyond the file", ErrIncomplete, file(entry(`[1099511627776]`, `[0,4398046511104]`), 4)},
		{"offsets at the end of int64", ErrCorrupt, file(entry(`[1]`, `[9223372036854775804,9223372036854775807]`), 4)},
		{"far begin of the right length", ErrCorrupt, file(entry(`[1]`, `[9223372036854775800,9223372036854775804]`), 4)},
		{"hole at the start", ErrCorrupt, file(entry(`[1]`, `[4,8]`), 8)},
		{"hole between", ErrCorrupt, file(`{`+x+`,"y":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12)},
		{"bytes after the end", ErrCorrupt, file(`{`+x+`}`, 5)},
		{"data without tensors", ErrCorrupt, file(`{}`, 1)},
		{"same place", ErrCorrupt, file(`{`+x+`,"y":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"overlap", ErrCorrupt, file(`{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},`+y+`}`, 8)},
		{"empty tensor in a hole", ErrCorrupt, file(`{`+x+`,"y":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}`, 8)},
		{"extra field too deep", ErrCorrupt, file(`{"x":{"a":`+deep(3)+`,"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"extra field 100,000 deep", ErrCorrupt, file(`{"x":{"a":`+deep(100_000)+`}}`, 0)},
		{"tensor 1,000,000 deep", ErrCorrupt, file(`{"x":`+strings.Repeat("[", 1e6), 0)},
		{"objects 500,000 deep", ErrCorrupt, file(strings.Repeat(`{"x":`, 500_000), 0)},
		{"65 fields", ErrCorrupt, file(`{"x":{`+fields(65)+`}}`, 0)},
		{"too many tensors", ErrTooLarge, file("{"+many.String()[1:]+"}", 0)},
		{"eight megabytes of nothing", ErrCorrupt, declared(maxHeader, strings.Repeat("{", maxHeader))},
		{"long name cut off", ErrCorrupt, file(`{"`+strings.Repeat("n", 1<<20), 0)},
		{"control character in a name", ErrCorrupt, file("{\"a\nb\":{}}", 0)},
	}
	return list
}

func fields(n int) string {
	var f []string
	for i := range n {
		f = append(f, fmt.Sprintf(`"f%d":%d`, i, i))
	}
	return strings.Join(f, ",")
}

func TestHostileCorpus(t *testing.T) {
	list := hostile()
	require.GreaterOrEqual(t, len(list), 60)
	dir := t.TempDir()
	for i, h := range list {
		path := filepath.Join(dir, fmt.Sprintf("%d.safetensors", i))
		require.NoError(t, os.WriteFile(path, h.file, 0o666))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := OpenSafetensors(path)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, h.kind, h.name)
		var fe *FileError
		require.ErrorAs(t, err, &fe, h.name)
		require.Equal(t, path, fe.File)
		require.NotEmpty(t, fe.Do, h.name)
		require.NotContains(t, err.Error(), "\n", h.name)
		require.Less(t, len(err.Error()), 700, h.name)
		require.Less(t, took, 5*time.Second, h.name) // generous: the machine may be busy
		// All that was ever allocated, garbage too: what is live at once is a fraction of it.
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20+20*len(h.file)), h.name)
	}
	link := filepath.Join(dir, "folder.safetensors")
	require.NoError(t, os.Mkdir(link, 0o777))
	_, err := OpenSafetensors(link)
	require.ErrorIs(t, err, ErrInvalid)
	_, err = OpenSafetensors(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, ErrNotFound)
}

// What real tools write, or may write, is read.
func TestTolerated(t *testing.T) {
	for name, b := range map[string][]byte{
		"no tensors":        file(`{}`, 0),
		"padding":           file(`{}      `, 0),
		"spaces inside":     file(`{ "x" : { "shape":[ 1 ] , "dtype":"F32" , "data_offsets":[ 0 , 4 ] } }`, 4),
		"extra field":       file(`{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"note":{"a":[1,2]}}}`, 4),
		"path in a name":    file(`{"../../etc/passwd":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4),
		"order of data":     file(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 8),
		"unaligned":         file(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 5),
		"empty in between":  file(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}`, 8),
		"eight bit floats":  file(`{"b":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}}`, 3),
		"metadata anywhere": file(`{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"format":"np"}}`, 4),
	} {
		s, err := openBytes(b)
		require.NoError(t, err, name)
		for _, n := range s.Names() {
			_, err := s.Tensor(n)
			require.NoError(t, err, name)
		}
		require.Equal(t, name == "extra field", len(s.Notes()) == 1, name)
	}
}
