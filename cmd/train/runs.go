package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/checkpoints"
)

func runsCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "runs [FOLDER]",
		Short:   "List the training runs of a folder (default: runs)",
		Long:    "Runs lists the training runs of a folder, the newest last: how far they are, their losses, their newest checkpoint.",
		Example: examples("runs", "those in runs/", "runs elsewhere --json", "for a script"),
		Args:    cobra.MaximumNArgs(1),
	}
	return command(c, func(_ context.Context, args []string) error {
		dir := "runs"
		if len(args) > 0 {
			dir = args[0]
		}
		return a.runs(dir)
	})
}

// runInfo is what can be told of a run without reading its weights.
type runInfo struct {
	Name       string    `json:"name"`
	Path       string    `json:"path"`
	State      string    `json:"state"` // "done", "unfinished", "broken"
	ModelType  string    `json:"model_type,omitempty"`
	Step       int       `json:"step"`            // last one in metrics.jsonl
	Steps      int       `json:"steps,omitempty"` // train.steps
	Loss       *float64  `json:"loss"`
	ValBPB     *float64  `json:"val_bpb"`
	TestBPB    *float64  `json:"test_bpb"`
	ValBPD     *float64  `json:"val_bits_per_dim,omitempty"` // of images
	TestBPD    *float64  `json:"bits_per_dim,omitempty"`     // of images, of the test part
	Checkpoint string    `json:"checkpoint,omitempty"`       // newest
	Changed    time.Time `json:"changed"`
	Problem    string    `json:"problem,omitempty"`
}

func (a *app) runs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && dir == "runs" {
		a.out.text("no runs yet: start one with `%s fit`\n", program())
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: cannot be listed (%w); give a folder of runs", dir, cause(err))
	}
	var all []runInfo
	for _, e := range entries {
		if r, ok := readRun(filepath.Join(dir, e.Name())); ok && e.IsDir() {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(x, y runInfo) int { return cmp.Or(x.Changed.Compare(y.Changed), cmp.Compare(x.Name, y.Name)) })
	if len(all) == 0 {
		a.out.text("no runs in %s\n", dir)
		return nil
	}
	w := tabwriter.NewWriter(a.out.people(), 0, 0, 2, ' ', 0)
	images := slices.ContainsFunc(all, func(r runInfo) bool { return r.ValBPD != nil })
	dims := func(val, test string) string {
		if !images {
			return ""
		}
		return val + "\t" + test + "\t"
	}
	_, _ = fmt.Fprintf(w, "RUN\tMODEL\tSTEP\tLOSS\tVAL BPB\tTEST BPB\t%sSTATE\tCHANGED\n", dims("VAL BITS/DIM", "TEST BITS/DIM"))
	for _, r := range all {
		a.out.event(r)
		state := r.State
		if r.Problem != "" {
			state += ": " + r.Problem
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d/%d\t%s\t%s\t%s\t%s%s\t%s\n", r.Path, r.ModelType, r.Step, r.Steps, number(r.Loss), number(r.ValBPB), number(r.TestBPB),
			dims(number(r.ValBPD), number(r.TestBPD)), state, r.Changed.Format("2006-01-02 15:04"))
	}
	return w.Flush()
}

// readRun reads config.json and metrics.jsonl of a run folder; false if it is none.
func readRun(path string) (runInfo, bool) {
	r := runInfo{Name: filepath.Base(path), Path: path, State: "unfinished"}
	list, err := checkpoints.List(filepath.Join(path, "checkpoints"))
	if err == nil && len(list) > 0 {
		r.Checkpoint = list[0]
	}
	text, err := os.ReadFile(filepath.Join(path, "config.json"))
	if err != nil {
		return r, r.Checkpoint != ""
	}
	var config struct {
		Model struct {
			Type string `json:"model_type"`
		} `json:"model"`
		Train struct {
			Steps int `json:"steps"`
		} `json:"train"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		r.State, r.Problem = "broken", "config.json: "+err.Error()
	}
	r.ModelType, r.Steps = config.Model.Type, config.Train.Steps
	if info, err := os.Stat(filepath.Join(path, "config.json")); err == nil {
		r.Changed = info.ModTime()
	}
	metrics := filepath.Join(path, "metrics.jsonl")
	if info, err := os.Stat(metrics); err == nil {
		r.Changed = info.ModTime()
		r.readMetrics(metrics)
	} else if r.Checkpoint == "" && config.Train.Steps == 0 {
		return r, false // some folder with a config.json
	}
	return r, true
}

// readMetrics takes the last word of each kind. Lines that cannot be read are passed over: the run may be writing.
func (r *runInfo) readMetrics(path string) {
	f, err := os.Open(path)
	if err != nil {
		r.State, r.Problem = "broken", cause(err).Error()
		return
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Event   string   `json:"event"`
			Step    int      `json:"step"`
			Loss    *float64 `json:"loss"`
			ValBPB  *float64 `json:"val_bpb"`
			TestBPB *float64 `json:"test_bpb"`
			ValBPD  *float64 `json:"val_bits_per_dim"`
			Dims    *float64 `json:"bits_per_dim"` // of the validation part, at the end of the test part
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		r.Step = max(r.Step, e.Step)
		r.Loss, r.ValBPB, r.TestBPB = cmp.Or(e.Loss, r.Loss), cmp.Or(e.ValBPB, r.ValBPB), cmp.Or(e.TestBPB, r.TestBPB)
		if e.Event == "done" {
			r.ValBPD, r.TestBPD = cmp.Or(e.ValBPD, r.ValBPD), e.Dims
		} else {
			r.ValBPD = cmp.Or(e.Dims, r.ValBPD)
		}
		if r.State != "broken" {
			r.State = "unfinished"
			if e.Event == "done" {
				r.State = "done"
			}
		}
	}
}

func number(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.4f", *x)
}

// cause leaves the path out of an error of the operating system, where the message names it already.
func cause(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}
