// Command train is Euryale's program: it trains, resumes, evaluates and samples long-context transformers.
// Without arguments it trains the default model on the embedded book. See `train help`.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := onSignals(context.Background())
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// interrupted is the cause of a context that a signal ended.
type interrupted struct{ signal syscall.Signal }

func (e interrupted) Error() string { return "stopped by " + e.signal.String() }

// sameSignal is the time within which a second signal counts as the first: timeout(1) and others send one to the process and
// one to its group.
const sameSignal = 500 * time.Millisecond

// onSignals returns a context that the first SIGINT or SIGTERM ends: training finishes its step and saves. The second ends the process
// at once; the last checkpoint is whole either way.
func onSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		var first time.Time
		for s := range signals {
			sig, _ := s.(syscall.Signal)
			if first.IsZero() {
				first = time.Now()
				fmt.Fprintf(os.Stderr, "\n%v: stopping (training finishes its step and saves); once more to leave at once\n", sig)
				cancel(interrupted{sig})
			} else if time.Since(first) > sameSignal {
				os.Exit(128 + int(sig))
			}
		}
	}()
	return ctx, func() { signal.Stop(signals) }
}

// execute runs one command line and returns the exit code. Nothing but it talks to the process.
func execute(ctx context.Context, args []string, in io.Reader, stdout, stderr io.Writer) (code int) {
	results := &watched{Writer: stdout}
	a := &app{in: in, out: &output{stdout: results, stderr: stderr}}
	defer func() {
		if p := recover(); p != nil {
			code = a.fail(&panicError{p, stack()})
		}
	}()
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(results)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil && results.err != nil {
		err = &runError{fmt.Errorf("standard output: cannot be written (%w); make room, or write elsewhere", cause(results.err))}
	}
	if err == nil {
		return exitOK
	}
	return a.fail(err)
}
