package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/train"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{&panicError{"x", ""}, 1},
		{&data.Error{Kind: data.ErrEmpty}, 1},
		{&data.Error{Kind: data.ErrUnknownTask}, 2},
		{usagef("x"), 2},
		{&runError{errors.Join(errors.New("x"), &config.FieldError{})}, 2},
		{fmt.Errorf("x: %w", &config.FileError{Name: "f", Err: &config.SyntaxError{}}), 2},
		{&train.ExistsError{}, 2},
		{&runError{&train.DivergedError{}}, 3},
		{&runError{interrupted{syscall.SIGINT}}, 130},
		{&runError{interrupted{syscall.SIGTERM}}, 143},
	} {
		require.Equal(t, c.code, exitCode(c.err), "%v", c.err)
	}
}

func TestFreeRun(t *testing.T) {
	t.Chdir(t.TempDir())
	require.Equal(t, filepath.Join("runs", "a"), freeRun("a"))
	require.NoError(t, os.MkdirAll("runs/a", 0o755))
	require.Equal(t, filepath.Join("runs", "a"), freeRun("a"), "an empty folder is free")
	for _, dir := range []string{"a", "a-2"} {
		require.NoError(t, os.MkdirAll("runs/"+dir, 0o755))
		require.NoError(t, os.WriteFile("runs/"+dir+"/config.json", nil, 0o644))
	}
	require.Equal(t, filepath.Join("runs", "a-3"), freeRun("a"))
}

func TestNames(t *testing.T) {
	for path, want := range map[string]string{"my.txt": "my", "/a/b/Book.txt.gz": "Book", "folder/": "folder", ".hidden.txt": "hidden", "/": "run", "task:copy": "task-copy"} {
		require.Equal(t, want, stem(path), path)
	}
	require.Equal(t, "n", (&fitFlags{name: "n", jobFlags: jobFlags{config: "c.json", data: "d.txt"}}).runName())
	require.Equal(t, "c", (&fitFlags{jobFlags: jobFlags{config: "c.json", data: "d.txt"}}).runName())
	require.Equal(t, "d", (&fitFlags{jobFlags: jobFlags{data: "d.txt"}}).runName())
	require.Equal(t, "default", (&fitFlags{}).runName())
	for arg, want := range map[string]string{"runs/a-2": "runs/a-2", "my run": "'my run'", "it's": `'it'\''s'`, "": "''"} {
		require.Equal(t, want, quoteArg(arg))
	}
	require.Equal(t, []string{"9999", "10.0k", "12.3M"}, []string{thousands(9999), thousands(10_000), thousands(12_345_678)})
}

func TestStatistics(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{1, 2, 7}))
	require.Equal(t, 3.0, median([]float64{1, 2, 4, 7}))
	require.Equal(t, 1.235, round(1.23456, 3))
	lines := []benchLine{{T: 100, TimeMin: 3}, {T: 200, TimeMin: 3 * 2.828427}, {T: 400, TimeMin: 3 * 8}}
	require.InDelta(t, 1.5, exponent(lines, func(l benchLine) float64 { return l.TimeMin }), 1e-6)
}

func TestWriterKeepsCharactersWhole(t *testing.T) {
	var out, people bytes.Buffer
	w := &writer{out: &output{stdout: &out, stderr: &people, json: true}}
	for _, b := range []byte("aé\xff日\xe6") {
		w.token(string([]byte{b}))
	}
	w.flush()
	var texts []string
	for line := range strings.Lines(out.String()) {
		var e struct{ Event, Text string }
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		require.Equal(t, "token", e.Event)
		texts = append(texts, e.Text)
	}
	require.Equal(t, []string{"a", "é", "\uFFFD", "日", "\uFFFD"}, texts)
	require.Equal(t, "aé\uFFFD日\uFFFD", people.String())
	require.Equal(t, people.String(), w.all.String())
}

func TestProgressWithoutTerminal(t *testing.T) {
	var people bytes.Buffer
	o := &output{stdout: &people, stderr: &people}
	p := o.startProgress("step", 2, 10)
	p.update(3, "loss 1")
	require.Empty(t, people.String(), "not every step")
	p.last = time.Now().Add(-statusEvery)
	p.begin = time.Now().Add(-20 * time.Second)
	p.update(4, "loss 2")
	require.Equal(t, "step 4/10  loss 2  left 1m0s\n", people.String())
	people.Reset()
	p.update(10, "")
	require.Equal(t, "step 10/10\n", people.String(), "the last one always")
	o.startProgress("other", 0, 1)
	p.update(11, "")
	require.Equal(t, "step 10/10\n", people.String(), "a bar that was replaced is silent")
}

func TestPanicIsAnErrorOnOneLine(t *testing.T) {
	a := &app{out: &output{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, json: true}}
	c := command(doctorCommand(a), func(context.Context, []string) error { panic("boom\nboom") })
	c.SetContext(t.Context())
	c.SetArgs(nil)
	err := c.RunE(c, nil)
	require.Equal(t, 1, a.fail(err))
	require.Equal(t, 1, strings.Count(a.out.stderr.(*bytes.Buffer).String(), "\n"))
	require.Contains(t, a.out.stdout.(*bytes.Buffer).String(), `"exit":1`)
}

func TestCommandsSayWhatTheyDo(t *testing.T) {
	root := newRoot(&app{out: &output{}})
	for _, c := range root.Commands() {
		require.NotEmpty(t, c.Short, c.Name())
		require.NotEmpty(t, c.Long, c.Name())
		require.NotEmpty(t, c.Example, c.Name())
		require.Contains(t, c.Example, c.Name())
		require.NotNil(t, c.RunE, c.Name())
	}
	require.Len(t, root.Commands(), 14)
}

// TestSweepOfSystems measures every system in small: lengths double, and memory grows as they do.
func TestSweepOfSystems(t *testing.T) {
	events := euryale(t, "bench", "--sweep", "--length", "1024", "--steps", "1", "--json").ok(t).events(t)
	require.Len(t, events, 6*len(swept)+1)
	for k, s := range swept {
		for i, n := range []float64{64, 128, 256, 512, 1024} {
			e := events[6*k+i]
			require.Equal(t, []any{s.name, n}, []any{e["system"], e["T"]})
			require.Positive(t, e["attention_time_s_med"], s.name)
			require.Less(t, e["attention_time_s_med"], e["time_s_med"], s.name)
		}
		done := events[6*k+5]
		require.Equal(t, "exponents", done["event"])
		require.InDelta(t, 1, done["memory_exponent"], 0.25, s.name)
		require.Contains(t, done, "attention_time_exponent")
	}
	require.Equal(t, 2, euryale(t, "bench", "--sweep", "--length", "100").code)
	require.Equal(t, 2, euryale(t, "bench", "--sweep", "--set", "model.hidden_size=8").code)
}
