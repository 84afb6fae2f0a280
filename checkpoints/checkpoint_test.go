package checkpoints

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func saveSteps(t testing.TB, dir string, keep, best int, steps ...int) {
	t.Helper()
	for _, step := range steps {
		s := snapshot(step, 0)
		if step >= best {
			s.Best = best
		}
		require.NoError(t, Save(dir, s, Options{Keep: keep, Warn: func(w string) { t.Errorf("warning: %s", w) }}))
	}
}

func bases(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := List(dir)
	require.NoError(t, err)
	for i, p := range paths {
		paths[i] = filepath.Base(p)
	}
	return paths
}

func flipByte(t testing.TB, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[(at+len(b))%len(b)] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o666))
}

func TestSaveAndLoad(t *testing.T) {
	run := t.TempDir()
	dir := filepath.Join(run, "checkpoints")
	saveSteps(t, dir, 3, 0, 7, 1200)
	for _, path := range []string{run, dir, StepDir(dir, 1200)} {
		got, r, err := Load(path)
		require.NoError(t, err)
		requireSame(t, snapshot(1200, 0), got)
		require.Equal(t, 1200, r.Step)
		require.Equal(t, filepath.Join(dir, "step-00001200"), r.Path)
		require.Empty(t, r.String())
	}
	var state struct {
		Position int
		Seed     uint64
	}
	got, _, err := Load(StepDir(dir, 7))
	require.NoError(t, err)
	require.NoError(t, got.DecodeState(&state))
	require.Equal(t, 119, state.Position)
	require.Equal(t, uint64(1<<63+5), state.Seed) // a float64 would lose it

	// A copy under another name is still a checkpoint; under another step it is not.
	require.NoError(t, os.Rename(StepDir(dir, 7), filepath.Join(dir, "mine")))
	_, _, err = Load(filepath.Join(dir, "mine"))
	require.NoError(t, err)
	require.NoError(t, os.Rename(filepath.Join(dir, "mine"), StepDir(dir, 8)))
	require.ErrorIs(t, Verify(StepDir(dir, 8)), ErrCorrupt)
}

func TestSameSnapshotSameBytes(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	saveSteps(t, a, 3, 0, 5)
	saveSteps(t, b, 3, 0, 5)
	for _, name := range []string{manifestFile, modelFile, optimFile, stateFile, configFile} {
		x, err := os.ReadFile(filepath.Join(StepDir(a, 5), name))
		require.NoError(t, err)
		y, err := os.ReadFile(filepath.Join(StepDir(b, 5), name))
		require.NoError(t, err)
		require.Equal(t, string(x), string(y))
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	saveSteps(t, dir, 2, 0, 1, 2, 3, 4)
	require.Equal(t, []string{"step-00000004", "step-00000003"}, bases(t, dir))
	saveSteps(t, dir, 2, 3, 5, 6, 7)
	require.Equal(t, []string{"step-00000007", "step-00000006", "step-00000003"}, bases(t, dir))
	saveSteps(t, dir, -1, 3, 8, 9)
	require.Len(t, bases(t, dir), 5)
	// A damaged one does not count, so that two valid ones stay.
	require.NoError(t, os.Truncate(filepath.Join(StepDir(dir, 9), modelFile), 3))
	saveSteps(t, dir, 2, 3, 10)
	require.Equal(t, []string{"step-00000010", "step-00000009", "step-00000008", "step-00000003"}, bases(t, dir))
}

func TestWalkBack(t *testing.T) {
	dir := t.TempDir()
	saveSteps(t, dir, -1, 2, 1, 2, 3, 4)
	r, err := Best(dir)
	require.NoError(t, err)
	require.Equal(t, 2, r.Step)

	flipByte(t, filepath.Join(StepDir(dir, 4), optimFile), -1)
	r, err = Latest(dir)
	require.NoError(t, err)
	require.Equal(t, 3, r.Step)
	require.Contains(t, r.String(), "skipped "+StepDir(dir, 4)+": "+filepath.Join(StepDir(dir, 4), optimFile)+": has sha256 ")
	require.Contains(t, r.String(), "using "+StepDir(dir, 3))

	flipByte(t, filepath.Join(StepDir(dir, 2), modelFile), 40)
	r, err = Best(dir)
	require.NoError(t, err)
	require.Equal(t, 3, r.Step)
	require.Len(t, r.Skipped, 2)

	flipByte(t, filepath.Join(StepDir(dir, 3), stateFile), 5)
	flipByte(t, filepath.Join(StepDir(dir, 1), configFile), 5)
	_, r, err = Load(dir)
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "none of 4 checkpoints can be read")
	require.Len(t, r.Skipped, 4)
	require.NotContains(t, err.Error(), "\n")

	_, _, err = Load(t.TempDir())
	require.ErrorIs(t, err, ErrNotFound)
	_, _, err = Load(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, ErrNotFound)
}

func TestWithoutManifestIsNoCheckpoint(t *testing.T) {
	dir := t.TempDir()
	saveSteps(t, dir, 3, 0, 1, 2)
	require.NoError(t, os.Remove(filepath.Join(StepDir(dir, 2), manifestFile)))
	_, r, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, 1, r.Step)
	_, _, err = Load(StepDir(dir, 2))
	require.ErrorIs(t, err, ErrNotFound)
	_, err = Resolve(StepDir(dir, 2))
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorContains(t, err, manifestFile)
}

func TestManifestIsNotTrusted(t *testing.T) {
	dir := t.TempDir()
	saveSteps(t, dir, 3, 0, 1)
	path := filepath.Join(StepDir(dir, 1), manifestFile)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	edit := func(change func(m *manifest)) {
		m := &manifest{}
		require.NoError(t, json.Unmarshal(good, m))
		change(m)
		require.NoError(t, os.WriteFile(path, m.encode(), 0o666))
	}
	for name, c := range map[string]struct {
		kind   error
		change func(m *manifest)
	}{
		"version": {ErrVersion, func(m *manifest) { m.Version = 2 }},
		"format":  {ErrCorrupt, func(m *manifest) { m.Format = "other" }},
		"missing": {ErrCorrupt, func(m *manifest) { delete(m.Files, stateFile) }},
		"path":    {ErrCorrupt, func(m *manifest) { m.Files["../../x"] = fileEntry{} }},
		"drive":   {ErrCorrupt, func(m *manifest) { m.Files[`C:\x`] = fileEntry{} }},
		"dots":    {ErrCorrupt, func(m *manifest) { m.Files[".."] = fileEntry{} }},
		"itself":  {ErrCorrupt, func(m *manifest) { m.Files[manifestFile] = fileEntry{} }},
		"absent":  {ErrNotFound, func(m *manifest) { m.Files["vocab.json"] = fileEntry{} }},
		"short":   {ErrCorrupt, func(m *manifest) { m.Files[modelFile] = fileEntry{1, "x"} }},
		"long":    {ErrIncomplete, func(m *manifest) { m.Files[modelFile] = fileEntry{1 << 62, "x"} }},
		"minus":   {ErrCorrupt, func(m *manifest) { m.Files[modelFile] = fileEntry{-1, "x"} }},
	} {
		edit(c.change)
		require.ErrorIs(t, Verify(StepDir(dir, 1)), c.kind, name)
	}
	for _, b := range []string{"", "{", "null", "[]", " " + string(good), string(good) + "\n", strings.Repeat("x", maxManifest+1)} {
		require.NoError(t, os.WriteFile(path, []byte(b), 0o666))
		require.Error(t, Verify(StepDir(dir, 1)))
	}
	require.NoError(t, os.WriteFile(path, good, 0o666))
	require.NoError(t, Verify(StepDir(dir, 1)))
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	saveSteps(t, dir, 3, 0, 1, 2)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, ".tmp-step-00000003-99-1", "deep"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".tmp-step-00000003-99-1", modelFile), []byte("x"), 0o666))
	require.NoError(t, os.Rename(StepDir(dir, 2), filepath.Join(dir, ".old-step-00000002"))) // killed while it was replaced
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".old-step-00000001"), 0o777))
	_, r, err := Load(dir) // readers find it without sweeping
	require.NoError(t, err)
	require.Equal(t, 2, r.Step)
	require.NoError(t, Sweep(dir, Options{}))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, []string{"step-00000002", "step-00000001"}, bases(t, dir))
	require.NoError(t, Sweep(filepath.Join(dir, "none"), Options{}))
}

func TestNamesThatAreNoCheckpoints(t *testing.T) {
	dir := t.TempDir()
	saveSteps(t, dir, 3, 0, 1)
	for _, name := range []string{"step-2", "step--0000003", "step-0000000a", "step-+0000009", "other", "step-00000004.bak"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o777))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "step-00000009"), nil, 0o666))
	require.Equal(t, []string{"step-00000001"}, bases(t, dir))
	require.Equal(t, "step-123456789", filepath.Base(StepDir(dir, 123456789)))
	step, ok := parseStep("step-123456789")
	require.True(t, ok)
	require.Equal(t, 123456789, step)
}

func TestSaveRefuses(t *testing.T) {
	for name, change := range map[string]func(s *Snapshot){
		"config":      func(s *Snapshot) { s.Config = json.RawMessage("[1]") },
		"no config":   func(s *Snapshot) { s.Config = nil },
		"null config": func(s *Snapshot) { s.Config = json.RawMessage("null") },
		"step":        func(s *Snapshot) { s.Step = -1 },
		"state":       func(s *Snapshot) { s.State = func() {} },
		"extra":       func(s *Snapshot) { s.Extra = map[string][]byte{"../x": nil} },
		"extra state": func(s *Snapshot) { s.Extra = map[string][]byte{stateFile: nil} },
		"extra huge":  func(s *Snapshot) { s.Extra = map[string][]byte{"x.json": make([]byte, maxJSON+1)} },
		"tensor":      func(s *Snapshot) { s.Model[0].Shape = []int{4} },
	} {
		s := snapshot(1, 0)
		change(&s)
		dir := filepath.Join(t.TempDir(), "checkpoints")
		require.ErrorIs(t, Save(dir, s, Options{}), ErrInvalid, name)
		require.NoDirExists(t, dir, name)
	}
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o666))
	require.ErrorIs(t, Save(path, snapshot(1, 0), Options{}), ErrExists)
}

func TestCloseErrorIsSeen(t *testing.T) {
	m := newMemFS()
	f := &faultFS{FS: m, at: 4, err: syscall.EIO} // open, write, sync, close
	_, err := writeFile(f, "/x", bytesFile("", []byte("abc")).write)
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorIs(t, err, ErrIO)
}

func TestErrorText(t *testing.T) {
	err := error(&FileError{Kind: ErrCorrupt, File: "a/model.safetensors", Tensor: "h.0.w", What: "ends early", Do: "copy it again", Cause: syscall.EIO})
	require.EqualError(t, err, `a/model.safetensors: tensor "h.0.w": ends early: input/output error; copy it again`)
	require.True(t, errors.Is(err, ErrCorrupt) && errors.Is(err, syscall.EIO) && !errors.Is(err, ErrIO))
}
