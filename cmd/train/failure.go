package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/train"
)

// Exit codes. One that a signal ended has 128 + its number.
const (
	exitOK       = 0
	exitFailure  = 1 // bad data, bad model, a bug
	exitUsage    = 2 // the command line or the configuration
	exitDiverged = 3
)

// usageError is a fault of the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// panicError is a bug that surfaced.
type panicError struct {
	value any
	stack string
}

func (e *panicError) Error() string {
	what := strings.Join(strings.Fields(fmt.Sprint(e.value)), " ")
	return fmt.Sprintf("internal error: %s; please report it with the command line (EURYALE_TRACE=1 prints where)", what)
}

func stack() string { return string(debug.Stack()) }

// exitCode is the code that an error ends the process with.
func exitCode(err error) int {
	var (
		diverged *train.DivergedError
		usage    *usageError
		file     *config.FileError
		field    *config.FieldError
		syntax   *config.SyntaxError
		pattern  *attention.SyntaxError
		exists   *train.ExistsError
		changed  *train.ChangedError
		signal   interrupted
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &signal):
		return 128 + int(signal.signal)
	case errors.As(err, &diverged):
		return exitDiverged
	case errors.As(err, &usage), errors.As(err, &file), errors.As(err, &field), errors.As(err, &syntax), errors.As(err, &pattern), errors.As(err, &exists), errors.As(err, &changed),
		errors.Is(err, data.ErrTokenizer), errors.Is(err, data.ErrUnknownTask), errors.Is(err, data.ErrTask):
		return exitUsage
	}
	return exitFailure
}

// fail reports an error, on one line where it is one, and returns the exit code.
func (a *app) fail(err error) int {
	a.out.endProgress()
	var run *runError
	inside := errors.As(err, &run)
	if !inside && !isPanic(err) { // cobra refused the command line
		err = &usageError{err}
	}
	code := exitCode(err)
	if code > 128 { // a signal is no error; what it stopped has said where it stands
		return code
	}
	text := strings.TrimRight(message(err), "\n")
	if !inside && !isPanic(err) && !strings.Contains(text, "--help") {
		text += fmt.Sprintf("; see %s --help", program())
	}
	_, _ = fmt.Fprintln(a.out.stderr, a.out.red("error:")+" "+text)
	if p := (*panicError)(nil); errors.As(err, &p) && os.Getenv("EURYALE_TRACE") != "" {
		_, _ = io.WriteString(a.out.stderr, p.stack)
	}
	a.out.event(map[string]any{"event": "error", "error": text, "exit": code})
	return code
}

// message is the text of an error; faults of a configuration each get a line.
func message(err error) string {
	if faults := config.Faults(unwrapped(err)); len(faults) > 1 {
		name := "configuration"
		if file := (*config.FileError)(nil); errors.As(err, &file) {
			name = file.Name
		}
		return (&config.FileError{Name: name, Err: errors.Join(faults...)}).Error()
	}
	return err.Error()
}

// unwrapped takes the wrappers of this package off.
func unwrapped(err error) error {
	for {
		switch e := err.(type) {
		case *runError:
			err = e.err
		case *usageError:
			err = e.err
		default:
			return err
		}
	}
}

func isPanic(err error) bool {
	var p *panicError
	return errors.As(err, &p)
}

// runError marks what a command itself returned, in contrast to what cobra has to say of its arguments.
type runError struct{ err error }

func (e *runError) Error() string { return e.err.Error() }
func (e *runError) Unwrap() error { return e.err }

// command gives a subcommand the shape that all share: panics become errors, and if a signal ended the context, that is the error.
func command(c *cobra.Command, run func(ctx context.Context, args []string) error) *cobra.Command {
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = &runError{&panicError{p, stack()}}
			}
		}()
		if err = emptyFlag(c.Flags()); err == nil {
			err = run(c.Context(), args)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, context.Canceled) {
			if cause := context.Cause(c.Context()); cause != nil {
				err = cause
			}
		}
		return &runError{err}
	}
	return c
}

// interruptible runs what does not look at a context by itself, and leaves it behind when that ends: the process does then, too.
func interruptible(ctx context.Context, run func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- &panicError{p, stack()}
			}
		}()
		done <- run()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// emptyFlag refuses a flag that is given and empty, as a script with an unset variable gives it: it would count as left out. An empty prompt is told of where
// it is read.
func emptyFlag(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && f.Name != "prompt" {
			err = usagef("--%s is empty: give it a value, or leave it out", f.Name)
		}
	})
	return err
}
