package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/checkpoints"
)

// asProgram, in the environment, makes the binary of the tests the program: nothing is built for a test that needs a process.
const asProgram = "EURYALE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// binary is the program, for processes that the test starts.
func binary(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("signals are those of Unix")
	}
	path, err := os.Executable()
	require.NoError(t, err)
	t.Setenv(asProgram, "1")
	return path
}

// shared is a buffer that is read while a process writes to it.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs the program and waits until it has done some steps.
func start(t *testing.T, program string, args ...string) (*exec.Cmd, *shared, *json.Decoder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, program, args...)
	var stderr shared
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	d := json.NewDecoder(out)
	for step := 0.0; step < 6; {
		var e map[string]any
		require.NoError(t, d.Decode(&e), stderr.String())
		if e["event"] == "step" {
			step = e["step"].(float64)
		}
	}
	return c, &stderr, d
}

// drain reads the rest of the events and returns the last.
func drain(d *json.Decoder) map[string]any {
	var last map[string]any
	for {
		var e map[string]any
		if d.Decode(&e) != nil {
			return last
		}
		last = e
	}
}

func TestSignals(t *testing.T) {
	corpus := text(t)
	program := binary(t)
	t.Chdir(t.TempDir())
	long := append(append([]string{"fit", "--json", "--data", corpus}, tiny...), "--set", "train.steps=100000", "--set", "train.eval_every=0", "--set", "train.save_every=3")
	fit(t, "--data", corpus, "--run", "whole", "--set", "train.steps=100000", "--set", "train.eval_every=0", "--set", "train.save_every=0", "--set", "train.save_total_limit=1000", "--steps", "6")
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143, syscall.SIGKILL: -1} {
		run := fmt.Sprint("r", int(sig))
		c, stderr, d := start(t, program, append(long, "--run", run)...)
		if sig == syscall.SIGINT { // while it runs, the folder is its own
			r := euryale(t, "resume", run)
			require.Equal(t, 1, r.code)
			require.Contains(t, r.stderr, "in use")
		}
		require.NoError(t, c.Process.Signal(sig))
		last := drain(d)
		_ = c.Wait()
		require.Equal(t, code, c.ProcessState.ExitCode(), stderr.String())
		if sig != syscall.SIGKILL {
			require.Contains(t, stderr.String(), "resume "+run)
			require.Equal(t, "done", last["event"])
			require.Equal(t, "interrupted", last["stopped"])
		}
		euryale(t, "inspect", run, "--check").ok(t)
		r := euryale(t, "resume", run, "--json", "--steps", "1").ok(t)
		at := int(r.last(t)["steps"].(float64))
		require.GreaterOrEqual(t, at, 3)
		// The same as a run that was never stopped.
		target := fmt.Sprint(at + 2)
		euryale(t, "resume", run, "--json", "--steps", target).ok(t)
		euryale(t, "resume", "whole", "--json", "--steps", target)
		if dir := checkpoints.StepDir("whole/checkpoints", at+2); exists(dir) {
			same(t, dir, checkpoints.StepDir(run+"/checkpoints", at+2))
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestTwoSignalsAtOnceAreOne(t *testing.T) {
	corpus := text(t)
	program := binary(t)
	t.Chdir(t.TempDir())
	c, stderr, d := start(t, program, append(append([]string{"fit", "--json", "--data", corpus, "--run", "r"}, tiny...), "--set", "train.steps=100000")...)
	require.NoError(t, c.Process.Signal(syscall.SIGTERM))
	_ = c.Process.Signal(syscall.SIGTERM)
	last := drain(d)
	_ = c.Wait()
	require.Equal(t, 143, c.ProcessState.ExitCode(), stderr.String())
	require.Equal(t, "interrupted", last["stopped"])
	euryale(t, "inspect", "r", "--check").ok(t)
}

func TestSecondSignalLeavesAtOnce(t *testing.T) {
	program := binary(t)
	t.Chdir(t.TempDir())
	// A step that takes long: generic kernels, long sequences.
	c := exec.CommandContext(t.Context(), program, "fit", "--set", "train.sequence_length=8192", "--set", "train.global_batch=64", "--run", "r")
	c.Env = append(os.Environ(), "EURYALE_CPU=generic")
	var stderr shared
	c.Stderr = &stderr
	require.NoError(t, c.Start())
	wait := func(what string) {
		require.Eventually(t, func() bool { return strings.Contains(stderr.String(), what) }, 20*time.Second, 5*time.Millisecond)
	}
	wait("writing r")
	require.NoError(t, c.Process.Signal(syscall.SIGINT))
	wait("once more")
	time.Sleep(sameSignal + 100*time.Millisecond)
	require.NoError(t, c.Process.Signal(syscall.SIGTERM))
	start := time.Now()
	_ = c.Wait()
	require.Less(t, time.Since(start), 5*time.Second)
	require.Equal(t, 143, c.ProcessState.ExitCode(), "the code of the second signal")
	require.NotContains(t, stderr.String(), "stopped after step")
}

func TestSweep(t *testing.T) {
	small := []string{"bench", "--sweep", "--variant", "band", "--json", "--steps", "1", "--set", "model.num_hidden_layers=1", "--set", "model.hidden_size=16",
		"--set", "model.num_attention_heads=1", "--set", "model.intermediate_size=16"}
	out, err := exec.Command(binary(t), append(small, "--window", "16")...).Output()
	require.NoError(t, err)
	r := result{stdout: string(out)}
	require.Len(t, r.events(t), len(sweepLengths)+1)
	require.ElementsMatch(t, []string{"event", "variant", "time_exponent", "memory_exponent"}, keys(r.last(t)))
	require.Equal(t, 2, euryale(t, append(small, "--set", "model.hiden_size=3")...).code)
}
