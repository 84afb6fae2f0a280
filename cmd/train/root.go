package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// app is what all commands share.
type app struct {
	in  io.Reader
	out *output

	training *progress // of the training loop
}

// newRoot builds the command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   program(),
		Short: "Train, resume, evaluate and sample long-context transformers",
		Long: `Euryale trains long-context transformers on the CPU, in Go.

Without a command it trains the default model on the embedded book (Moby-Dick), which takes some minutes,
evaluates it and prints a sample. Everything is written to runs/default/.`,
		Example: examples(
			"", "train the default model",
			"fit --data my.txt --steps 500", "train on your own text",
			"generate runs/default --prompt 'Call me'", "write with it",
			"eval runs/default --data other.txt", "score it on another text",
			"pattern 'causal(band(128,0) + global(0))' --length 4096", "look at an attention pattern"),
		Args:          noCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if err := kernels.SetError(); err != nil && c.Name() != "doctor" {
				return err
			}
			return nil
		},
	}
	root.PersistentFlags().BoolVar(&a.out.json, "json", false, "write one JSON object a line to stdout, text for people to stderr")
	root.SetVersionTemplate("euryale {{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(fitCommand(a), resumeCommand(a), evalCommand(a), generateCommand(a), benchCommand(a), recipesCommand(a), verifyCommand(a), predictCommand(a), patternCommand(a), doctorCommand(a), runsCommand(a), inspectCommand(a), importCommand(a), exportCommand(a))
	command(root, func(ctx context.Context, _ []string) error { return a.fit(ctx, fitFlags{sample: true}) })
	return root
}

// program is how the user started this, for messages that can be copied.
func program() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/train"
	}
	return filepath.Base(os.Args[0])
}

// examples lays out pairs of arguments and explanation.
func examples(pairs ...string) string {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		width = max(width, len(pairs[i]))
	}
	var lines []string
	for i := 0; i < len(pairs); i += 2 {
		lines = append(lines, fmt.Sprintf("  %s %-*s   # %s", program(), width, pairs[i], pairs[i+1]))
	}
	return strings.Join(lines, "\n")
}

// version is the version of the module, the commit and the toolchain.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown) " + runtime.Version()
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	var revision, modified string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = " " + s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				modified = "+changes"
			}
		}
	}
	return v + revision + modified + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
}
