package checkpoints

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWriteFileIsAtomic(t *testing.T) {
	m := newMemFS()
	require.NoError(t, WriteFileFS(m, "/run/config.json", []byte("old")))
	count := &faultFS{FS: m}
	require.NoError(t, WriteFileFS(count, "/run/config.json", []byte("old")))
	for at := 1; at <= count.calls; at++ {
		for _, short := range []bool{false, true} {
			m := newMemFS()
			require.NoError(t, WriteFileFS(m, "/run/config.json", []byte("old")))
			err := WriteFileFS(&faultFS{FS: m, at: at, err: syscall.ENOSPC, short: short}, "/run/config.json", []byte("newer"))
			got := string(m.find("/run/config.json").data)
			require.Contains(t, []string{"old", "newer"}, got)
			require.True(t, err != nil || got == "newer")
			require.Len(t, m.find("/run").entries, 1)
		}
	}
	m = newMemFS()
	require.NoError(t, WriteFileFS(m, "/run/config.json", []byte("old")))
	from := len(m.ops)
	require.NoError(t, WriteFileFS(m, "/run/config.json", []byte("newer")))
	for prefix := from; prefix <= len(m.ops); prefix++ {
		for lose := range 4 {
			if c := crash(m.ops, prefix, lose, "", "lost"); c != nil {
				require.Contains(t, []string{"old", "newer"}, string(c.find("/run/config.json").data))
			}
		}
	}
}

func TestModelFolder(t *testing.T) {
	s := snapshot(1, 0)
	dir := filepath.Join(t.TempDir(), "deep", "model")
	require.NoError(t, WriteModel(dir, s.Config, s.Model, s.Extra))
	m, err := Resolve(dir + "/")
	require.NoError(t, err)
	defer m.Close()
	require.Equal(t, dir, m.Dir)
	require.Equal(t, string(s.Config), string(m.Config))
	require.Nil(t, m.Report)
	w, err := m.Tensors.Float32s("b.weight")
	require.NoError(t, err)
	require.Equal(t, s.Model[0].Data, w)
	require.FileExists(t, filepath.Join(dir, "tokenizer.json"))

	require.ErrorIs(t, WriteModel(dir, s.Config, s.Model, nil), ErrExists)
	empty := t.TempDir()
	require.NoError(t, WriteModel(empty, s.Config, s.Model, nil))
	require.ErrorIs(t, WriteModel(filepath.Join(empty, "x"), []byte("7"), s.Model, nil), ErrInvalid)
	require.ErrorIs(t, WriteModel(filepath.Join(empty, "x"), s.Config, s.Model, map[string][]byte{"a/b": nil}), ErrInvalid)

	// A fault leaves neither a part of a model nor a temporary folder.
	count := &faultFS{FS: newMemFS()}
	require.NoError(t, writeModel(count, "/m/x", s.Config, s.Model, nil))
	for at := 1; at <= count.calls; at++ {
		mem := newMemFS()
		err := writeModel(&faultFS{FS: mem, at: at, err: syscall.EIO}, "/m/x", s.Config, s.Model, nil)
		if n := mem.find("/m"); n != nil {
			for name, e := range n.entries {
				require.Equal(t, "x", name)
				require.Len(t, e.entries, 2)
			}
			require.True(t, err != nil || len(n.entries) == 1)
		}
	}
}

func TestResolve(t *testing.T) {
	run := t.TempDir()
	dir := filepath.Join(run, "checkpoints")
	require.NoError(t, WriteFile(filepath.Join(run, configFile), []byte("{}")))
	_, err := Resolve(run)
	require.ErrorIs(t, err, ErrNotFound)
	saveSteps(t, dir, -1, 2, 1, 2, 3)
	for path, step := range map[string]int{run: 2, dir: 2, StepDir(dir, 3): 3, StepDir(dir, 1): 1} {
		m, err := Resolve(path)
		require.NoError(t, err)
		require.Equal(t, step, m.Step)
		require.Equal(t, StepDir(dir, step), m.Dir)
		require.NoError(t, m.Close())
	}
	flipByte(t, filepath.Join(StepDir(dir, 2), modelFile), -1)
	m, err := Resolve(run)
	require.NoError(t, err)
	require.Equal(t, 3, m.Step)
	require.Contains(t, m.Report.String(), "skipped "+StepDir(dir, 2))
	require.NoError(t, m.Close())
	_, err = Resolve(StepDir(dir, 2))
	require.ErrorIs(t, err, ErrCorrupt)

	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, configFile), []byte("{}"), 0o666))
	_, err = Resolve(other)
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorContains(t, err, "neither")
	_, err = Resolve(filepath.Join(run, configFile))
	require.ErrorIs(t, err, ErrInvalid)
	_, err = Resolve(filepath.Join(run, "none"))
	require.ErrorIs(t, err, ErrNotFound)
	m, err = Resolve(filepath.Join("..", "testdata", "golden", "hf", "gpt2"))
	require.NoError(t, err)
	require.NoError(t, m.Close())
}

type line struct {
	Event string  `json:"event"`
	Step  int     `json:"step"`
	Loss  float64 `json:"loss"`
}

func appendLines(t testing.TB, path string, step int, lines ...line) {
	t.Helper()
	m, err := OpenMetrics(path, step)
	require.NoError(t, err)
	for _, l := range lines {
		require.NoError(t, m.Append(l))
	}
	require.NoError(t, m.Sync())
	require.NoError(t, m.Close())
}

func TestMetricsGoOnAsIfNeverStopped(t *testing.T) {
	dir := t.TempDir()
	whole, resumed := filepath.Join(dir, "a", "metrics.jsonl"), filepath.Join(dir, "b", "metrics.jsonl")
	l := func(i int) line { return line{"step", i, float64(i) / 3} }
	appendLines(t, whole, 0, l(1), l(2), line{"eval", 2, 9}, l(3), l(4), line{"done", 4, 0})
	appendLines(t, resumed, 0, l(1), l(2), line{"eval", 2, 9}, l(3), line{"done", 3, 0})
	f, err := os.OpenFile(resumed, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"event":"step","st`) // killed while writing
	require.NoError(t, err)
	require.NoError(t, f.Close())
	appendLines(t, resumed, 2, l(3), l(4), line{"done", 4, 0})
	a, err := os.ReadFile(whole)
	require.NoError(t, err)
	b, err := os.ReadFile(resumed)
	require.NoError(t, err)
	require.Equal(t, string(a), string(b))
	appendLines(t, resumed, 4)
	b, err = os.ReadFile(resumed)
	require.NoError(t, err)
	require.Equal(t, 5, strings.Count(string(b), "\n"), "only done goes")
	appendLines(t, resumed, 0)
	b, err = os.ReadFile(resumed)
	require.NoError(t, err)
	require.Empty(t, b)
}

// A line that was written in part is completed, and no line is lost.
func TestMetricsAfterAFullDisk(t *testing.T) {
	m := newMemFS()
	log, err := OpenMetricsFS(m, "/run/metrics.jsonl", 0)
	require.NoError(t, err)
	require.NoError(t, log.Append(line{"step", 1, 1}))
	m.limit = 7
	require.ErrorIs(t, log.Append(line{"step", 2, 1}), ErrNoSpace)
	require.ErrorIs(t, log.Append(line{"step", 3, 1}), ErrNoSpace)
	m.limit = -1
	require.NoError(t, log.Append(line{"step", 4, 1}))
	require.NoError(t, log.Append(line{"step", 5, 1}))
	require.Equal(t, `{"event":"step","step":1,"loss":1}
{"event":"step","step":2,"loss":1}
{"event":"step","step":3,"loss":1}
{"event":"step","step":4,"loss":1}
{"event":"step","step":5,"loss":1}
`, string(m.find("/run/metrics.jsonl").data))
	_, err = OpenMetricsFS(m, "/run/metrics.jsonl", 4)
	require.NoError(t, err)
	require.NotContains(t, string(m.find("/run/metrics.jsonl").data), `"step":5`)
}
