package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/train"
)

func resumeCommand(a *app) *cobra.Command {
	steps := 0
	c := &cobra.Command{
		Use:   "resume RUN",
		Short: "Go on with a run, exactly as if it had not stopped",
		Long: `Resume goes on from the newest whole checkpoint of a run: weights, moments, schedule and place in the data are those of a run
that never stopped, to the last bit (on the same kernel set). A damaged checkpoint is passed over, and that is said.

--steps goes on to that step, also past train.steps; the learning rate then stays at its floor. A finished run ends with 0 at once.`,
		Example: examples("resume runs/default", "go on to train.steps", "resume runs/default --steps 2000", "go on to step 2000"),
		Args:    exactly(1, "a run folder, such as runs/default"),
	}
	c.Flags().IntVar(&steps, "steps", 0, "go on to this step (default: train.steps)")
	return command(c, func(ctx context.Context, args []string) error { return a.resume(ctx, args[0], steps) })
}

func (a *app) resume(ctx context.Context, dir string, steps int) error {
	if steps < 0 {
		return usagef("--steps is %d: give at least 1", steps)
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); errors.Is(err, fs.ErrNotExist) {
		return usagef("%s is not a run folder (it has no config.json); give one that `%s runs` lists", dir, program())
	}
	if run := filepath.Dir(filepath.Dir(filepath.Clean(dir))); isCheckpoint(dir) {
		return usagef("%s is a checkpoint, and a run goes on from its newest: give its run folder, %s", dir, run)
	}
	run, err := train.Resume(dir, nil, train.Options{Hooks: a.hooks(train.Config{})})
	if err != nil {
		return err
	}
	return a.drive(ctx, run, steps, false)
}

// isCheckpoint tells a checkpoint from a run folder.
func isCheckpoint(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "manifest.json"))
	return err == nil
}
