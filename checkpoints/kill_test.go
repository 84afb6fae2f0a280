package checkpoints

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// helperEnv makes the test binary a process to be killed: it holds "save:DIR" or "lock:DIR".
const helperEnv = "EURYALE_TEST_HELPER"

func TestMain(m *testing.M) {
	task := os.Getenv(helperEnv)
	if task == "" {
		os.Exit(m.Run())
	}
	err := helper(task[:4], task[5:])
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// helper trains without a model: it goes on from the newest checkpoint and saves every step until it is killed.
func helper(task, run string) error {
	if _, err := LockRun(run); err != nil {
		return err
	}
	dir := filepath.Join(run, "checkpoints")
	step := 0
	if s, _, err := Load(run); err == nil {
		step = s.Step
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	fmt.Println("ready", step)
	if task == "lock" {
		select {}
	}
	for {
		step++
		if err := Save(dir, snapshot(step, 0), Options{Keep: 2}); err != nil {
			return err
		}
		if step%3 == 0 { // replaced, too
			if err := Save(dir, snapshot(step, 0), Options{Keep: 2}); err != nil {
				return err
			}
		}
	}
}

// startHelper runs the helper until it is ready.
func startHelper(t *testing.T, task, run string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+task+":"+run)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	text, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "the helper stopped")
	require.Contains(t, text, "ready")
	return cmd
}

// A process that saves all the time is killed at random moments: nothing committed is lost, each start goes on from the last
// one, the lock of a killed process is no obstacle. EURYALE_TEST_KILLS sets the number.
func TestKill(t *testing.T) {
	kills := 20
	if v := os.Getenv("EURYALE_TEST_KILLS"); v != "" {
		var err error
		kills, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	run := filepath.Join(t.TempDir(), "run")
	rng := rand.New(rand.NewPCG(3, 5))
	last, swept := 0, 0
	for i := range kills {
		cmd := startHelper(t, "save", run)
		time.Sleep(time.Duration(rng.IntN(120)) * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		got, r, err := Load(run)
		if i == 0 && errors.Is(err, ErrNotFound) {
			continue
		}
		require.NoError(t, err, "kill %d", i)
		require.Empty(t, r.Skipped, "kill %d", i)
		require.GreaterOrEqual(t, got.Step, last, "kill %d", i)
		requireSame(t, snapshot(got.Step, 0), got)
		last = got.Step
		entries, err := os.ReadDir(filepath.Join(run, "checkpoints"))
		require.NoError(t, err)
		for _, e := range entries {
			if e.Name()[0] == '.' {
				swept++
			}
		}
	}
	require.Positive(t, last, "no progress")
	t.Logf("%d kills, %d steps, %d leftovers found", kills, last, swept)

	l, err := LockRun(run)
	require.NoError(t, err)
	require.NoError(t, l.Release())
	require.NoError(t, Sweep(filepath.Join(run, "checkpoints"), Options{}))
	entries, err := os.ReadDir(filepath.Join(run, "checkpoints"))
	require.NoError(t, err)
	for _, e := range entries {
		require.NotEqual(t, '.', rune(e.Name()[0]))
	}
}

func TestLock(t *testing.T) {
	run := filepath.Join(t.TempDir(), "deep", "run")
	cmd := startHelper(t, "lock", run)
	_, err := LockRun(run)
	require.ErrorIs(t, err, ErrInUse)
	require.EqualError(t, err, fmt.Sprintf("%s: run folder in use by pid %d; wait for it, stop it, or choose another run folder", run, cmd.Process.Pid))
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())

	require.NoError(t, os.WriteFile(filepath.Join(run, ".tmp-config.json-1-1"), nil, 0o666))
	l, err := LockRun(run) // what a killed process left means nothing
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(run, ".tmp-config.json-1-1"))
	_, err = LockRun(run)
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, fmt.Sprintf("pid %d", os.Getpid()))
	require.NoError(t, l.Release())
	l, err = LockRun(run)
	require.NoError(t, err)
	require.NoError(t, l.Release())
}
