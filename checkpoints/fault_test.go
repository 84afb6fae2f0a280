package checkpoints

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// snapshot is a small checkpoint whose every byte depends on the step and on the salt.
func snapshot(step, salt int) Snapshot {
	w := make([]float32, 3*5)
	m := make([]float64, 7)
	for i := range w {
		w[i] = float32(step*1000 + salt*100 + i)
	}
	for i := range m {
		m[i] = 1 / float64(step*1000+salt*100+i+1)
	}
	return Snapshot{
		Step: step, Config: json.RawMessage(fmt.Sprintf(`{"model":{"salt":%d}}`, salt)),
		Model:     []Tensor{{"b.weight", []int{3, 5}, w}, {"a.bias", []int{7}, m}},
		Optimizer: []Tensor{{"m.b.weight", []int{5, 3}, slices.Clone(w)}, {"count", []int{}, []int64{int64(step)}}},
		State:     map[string]any{"position": step * 17, "salt": salt, "seed": uint64(1<<63 + 5)},
		Extra:     map[string][]byte{"tokenizer.json": []byte(fmt.Sprintf(`{"t":%d}`, salt))},
	}
}

// requireSame demands that got is what Save was given.
func requireSame(t testing.TB, want Snapshot, got *Snapshot) {
	t.Helper()
	byName := func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) }
	sorted := func(in []Tensor) []Tensor { return slices.SortedFunc(slices.Values(in), byName) }
	require.Equal(t, want.Step, got.Step)
	require.Equal(t, want.Best, got.Best)
	require.Equal(t, string(want.Config), string(got.Config))
	require.Equal(t, sorted(want.Model), got.Model)
	require.Equal(t, sorted(want.Optimizer), got.Optimizer)
	state, err := json.Marshal(want.State)
	require.NoError(t, err)
	require.JSONEq(t, string(state), string(got.State.(json.RawMessage)))
	require.Equal(t, want.Extra, got.Extra)
}

const runDir = "/run/checkpoints"

// scenario is a run before a save, and the save.
type scenario struct {
	name   string
	before []Snapshot
	save   Snapshot
	keep   int
}

func scenarios() []scenario {
	best := snapshot(30, 0)
	best.Best = 10
	return []scenario{
		{"first", nil, snapshot(10, 0), 3},
		{"second", []Snapshot{snapshot(10, 0)}, snapshot(20, 0), 3},
		{"rotated away", []Snapshot{snapshot(10, 0)}, snapshot(20, 0), 1},
		{"best kept", []Snapshot{snapshot(10, 0), snapshot(20, 0)}, best, 1},
		{"same step", []Snapshot{snapshot(10, 0)}, snapshot(10, 1), 3},
	}
}

func (s scenario) prepare(t testing.TB) *memFS {
	m := newMemFS()
	for _, b := range s.before {
		require.NoError(t, Save(runDir, b, Options{FS: m, Keep: -1}))
	}
	return m
}

// requireOldOrNew demands that the newest loadable checkpoint is the one before the save or the saved one, whole.
func (s scenario) requireOldOrNew(t testing.TB, fsys FS) (isNew bool) {
	t.Helper()
	got, _, err := LoadFS(fsys, runDir)
	if len(s.before) == 0 && err != nil {
		require.ErrorIs(t, err, ErrNotFound)
		return false
	}
	require.NoError(t, err)
	old := s.save
	if n := len(s.before); n > 0 {
		old = s.before[n-1]
	}
	if string(got.Config) == string(old.Config) && got.Step == old.Step {
		requireSame(t, old, got)
		return len(s.before) == 0
	}
	requireSame(t, s.save, got)
	return true
}

// requireRecovers demands that a later save succeeds and leaves nothing but checkpoints.
func (s scenario) requireRecovers(t testing.TB, fsys FS) {
	t.Helper()
	next := snapshot(s.save.Step+1, 2)
	require.NoError(t, Save(runDir, next, Options{FS: fsys, Keep: 2, Warn: func(w string) { t.Errorf("warning: %s", w) }}))
	got, r, err := LoadFS(fsys, runDir)
	require.NoError(t, err)
	require.Empty(t, r.Skipped)
	requireSame(t, next, got)
	entries, err := fsys.ReadDir(runDir)
	require.NoError(t, err)
	for _, e := range entries {
		require.True(t, strings.HasPrefix(e.Name(), stepPrefix), e.Name())
	}
}

// Every call of a save fails once, or fails and goes on failing: the checkpoint before stays loadable, no part of one is taken.
func TestFaultAtEveryCall(t *testing.T) {
	states := 0
	for _, s := range scenarios() {
		count := &faultFS{FS: s.prepare(t)}
		require.NoError(t, Save(runDir, s.save, Options{FS: count, Keep: s.keep}))
		require.Greater(t, count.calls, 20)
		for at := 1; at <= count.calls; at++ {
			for _, f := range []faultFS{{err: syscall.ENOSPC}, {err: syscall.EIO}, {err: syscall.ENOSPC, always: true}, {err: syscall.EIO, always: true}, {err: syscall.EIO, short: true}} {
				m := s.prepare(t)
				f.FS, f.at = m, at
				err := Save(runDir, s.save, Options{FS: &f, Keep: s.keep})
				isNew := s.requireOldOrNew(t, m)
				if err == nil {
					require.True(t, isNew, "%s at %d", s.name, at)
				} else {
					var fe *FileError
					require.ErrorAs(t, err, &fe)
					require.NotContains(t, err.Error(), "\n")
				}
				s.requireRecovers(t, m)
				states++
			}
		}
	}
	require.Greater(t, states, 500)
}

// A disk that is full after n bytes, for many n.
func TestDiskFullAnywhere(t *testing.T) {
	for _, s := range scenarios() {
		for limit := int64(0); ; limit += 61 {
			m := s.prepare(t)
			m.limit = limit
			err := Save(runDir, s.save, Options{FS: m, Keep: s.keep})
			if err == nil {
				require.Greater(t, limit, int64(500))
				break
			}
			require.ErrorIs(t, err, ErrNoSpace)
			if len(s.before) > 0 {
				require.False(t, s.requireOldOrNew(t, m))
			}
			entries, rerr := m.ReadDir(runDir)
			require.NoError(t, rerr)
			require.Len(t, entries, len(s.before)) // what was begun is gone, so its space is free again
			m.limit = -1
			s.requireRecovers(t, m)
		}
	}
}

func TestFreeSpaceIsCheckedFirst(t *testing.T) {
	m := newMemFS()
	require.NoError(t, Save(runDir, snapshot(10, 0), Options{FS: m}))
	n := len(m.ops)
	m.free = 700
	err := Save(runDir, snapshot(20, 0), Options{FS: m})
	require.ErrorIs(t, err, ErrNoSpace)
	require.ErrorContains(t, err, "MB are free; free space or choose another run folder")
	require.Len(t, m.ops, n, "nothing may be written")
	m.free = 1 << 20
	require.NoError(t, Save(runDir, snapshot(20, 0), Options{FS: m}))
}

// crash rebuilds the file system as it may stand after the power fails behind the first `prefix` operations. Changes of a
// folder that were not synced are lost from the newest on (`lose` of them, of the folders that `only` names, or all); data that
// were not synced are kept, lost, cut in half or zero. It is nil if there is not that much to lose.
func crash(ops []memOp, prefix, lose int, only string, data string) *memFS {
	ops = ops[:prefix]
	synced := func(i int, dir string) bool {
		for _, o := range ops[i+1:] {
			if o.kind == opSyncDir && o.path == dir {
				return true
			}
		}
		return false
	}
	lost := map[int]bool{}
	for i := len(ops) - 1; i >= 0 && len(lost) < lose; i-- {
		switch ops[i].kind {
		case opMkdir, opCreate, opRename, opRemove:
			dir := filepath.Dir(ops[i].path)
			if !synced(i, dir) && (only == "" || filepath.Base(dir) == only) {
				lost[i] = true
			}
		}
	}
	if len(lost) < lose {
		return nil
	}
	m := newMemFS()
	files := map[int]*memFile{}
	for i, o := range ops {
		if lost[i] {
			continue
		}
		switch o.kind { // what hangs on something lost fails, and is lost too
		case opMkdir:
			_ = m.Mkdir(o.path, 0)
		case opCreate:
			if f, err := m.OpenFile(o.path, 0x40, 0); err == nil { // os.O_CREATE
				files[o.id] = f.(*memFile)
			}
		case opRename:
			_ = m.Rename(o.path, o.to)
		case opRemove:
			_ = m.Remove(o.path)
		case opWrite:
			f := files[o.id]
			if f == nil {
				continue
			}
			safe := slices.ContainsFunc(ops[i+1:], func(p memOp) bool { return p.kind == opSync && p.id == o.id })
			b := o.data
			switch {
			case safe || data == "kept":
			case data == "lost":
				b = nil
			case data == "half":
				b = b[:len(b)/2]
			default:
				b = make([]byte, len(b))
			}
			_, _ = f.Write(b)
		}
	}
	return m
}

// Power cuts: after every prefix of the operations of a save, with unsynced data and names lost in many ways, the newest
// loadable checkpoint is the old one or the new one, and the new one once Save has returned.
func TestCrashStates(t *testing.T) {
	for _, s := range scenarios() {
		m := s.prepare(t)
		from := len(m.ops)
		require.NoError(t, Save(runDir, s.save, Options{FS: m, Keep: s.keep}))
		states := 0
		for prefix := from; prefix <= len(m.ops); prefix++ {
			for _, data := range []string{"kept", "lost", "half", "zero"} {
				for _, only := range []string{"", "checkpoints"} {
					for lose := range 9 {
						if lose == 0 && only != "" {
							continue
						}
						c := crash(m.ops, prefix, lose, only, data)
						if c == nil {
							break
						}
						isNew := s.requireOldOrNew(t, c)
						if prefix == len(m.ops) {
							require.True(t, isNew, "%s: lost after Save returned", s.name)
						}
						if lose%3 == 0 {
							s.requireRecovers(t, c)
						}
						states++
					}
				}
			}
		}
		require.Greater(t, states, 400, s.name)
		t.Logf("%s: %d states", s.name, states)
	}
}

// A changed checkpoint is refused, or loads as if it were not changed; the older one is taken instead.
func TestMutationsAreDetected(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	build := func() *memFS {
		m := newMemFS()
		for _, step := range []int{10, 20} {
			require.NoError(t, Save(runDir, snapshot(step, 0), Options{FS: m}))
		}
		return m
	}
	names := []string{configFile, modelFile, optimFile, stateFile, manifestFile, "tokenizer.json"}
	m := build()
	victim := StepDir(runDir, 20)
	for range 1000 {
		path := filepath.Join(victim, names[rng.IntN(len(names))])
		n := m.find(path)
		whole := slices.Clone(n.data)
		switch rng.IntN(8) {
		case 0:
			n.data = n.data[:rng.IntN(len(n.data))]
		case 1:
			n.data = append(slices.Clone(n.data), byte(rng.IntN(256)))
		case 2: // a block of zeros, as after a lost write
			at := rng.IntN(len(n.data))
			n.data = slices.Clone(n.data)
			clear(n.data[at:min(at+64, len(n.data))])
		default:
			n.data = slices.Clone(n.data)
			n.data[rng.IntN(len(n.data))] ^= 1 << rng.IntN(8)
		}
		changed := string(n.data) != string(whole)
		_, _, err := LoadFS(m, victim)
		require.Equal(t, changed, err != nil, path)
		got, r, err := LoadFS(m, runDir)
		require.NoError(t, err)
		if changed {
			requireSame(t, snapshot(10, 0), got)
			require.Len(t, r.Skipped, 1)
			require.Contains(t, r.String(), "skipped "+victim)
		} else {
			requireSame(t, snapshot(20, 0), got)
		}
		n.data = whole
	}
	for _, name := range names {
		m := build()
		require.NoError(t, m.Remove(filepath.Join(victim, name)))
		_, _, err := LoadFS(m, victim)
		require.ErrorIs(t, err, ErrNotFound, name)
	}
}
