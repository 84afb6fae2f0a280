package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// output is where a command writes. Results go to stdout: text for people, or with --json one object a line, and then the text goes
// to stderr. Progress always goes to stderr.
type output struct {
	stdout, stderr io.Writer
	json           bool

	mu       sync.Mutex
	progress *progress
}

// watched remembers the first error of a writer, so that results that nobody got are no success.
type watched struct {
	io.Writer
	mu  sync.Mutex
	err error
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// event writes a line of JSON, if asked for.
func (o *output) event(v any) {
	if !o.json {
		return
	}
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false) // bars have < and >
	if err := e.Encode(v); err != nil {
		line.Reset()
		_ = e.Encode(map[string]string{"event": "error", "error": err.Error()})
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.stdout.Write(line.Bytes())
}

// text writes a result for people.
func (o *output) text(format string, args ...any) {
	o.endProgress()
	_, _ = fmt.Fprintf(o.people(), format, args...)
}

// people is where results for people go.
func (o *output) people() io.Writer {
	if o.json {
		return o.stderr
	}
	return o.stdout
}

// note writes a remark for people that is no result.
func (o *output) note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.progress != nil && o.progress.bar != nil {
		_ = o.progress.bar.Clear()
	}
	_, _ = fmt.Fprintf(o.stderr, format+"\n", args...)
}

// terminal reports whether stderr is one.
func (o *output) terminal() bool {
	f, ok := o.stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

func (o *output) color() bool { return o.terminal() && os.Getenv("NO_COLOR") == "" }

func (o *output) red(s string) string {
	if o.color() {
		return "\x1b[1;31m" + s + "\x1b[0m"
	}
	return s
}

// statusEvery is the time between two lines of progress where there is no terminal.
const statusEvery = 5 * time.Second

// progress is a bar on a terminal, and a line every few seconds elsewhere.
type progress struct {
	o     *output
	bar   *progressbar.ProgressBar
	what  string
	all   int
	last  time.Time
	begin time.Time
	start int // what was done before
}

// startProgress replaces the bar that is shown, if any.
func (o *output) startProgress(what string, done, all int) *progress {
	o.endProgress()
	p := &progress{o: o, what: what, all: all, begin: time.Now(), start: done}
	if o.terminal() {
		p.bar = progressbar.NewOptions(all,
			progressbar.OptionSetWriter(o.stderr),
			progressbar.OptionSetDescription(what),
			progressbar.OptionEnableColorCodes(o.color()),
			progressbar.OptionSetWidth(24),
			progressbar.OptionShowCount(),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionUseANSICodes(true),
		)
		_ = p.bar.Set(done)
	}
	o.mu.Lock()
	o.progress = p
	o.mu.Unlock()
	return p
}

// update says how much is done and what else is to be shown.
func (p *progress) update(done int, status string) {
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	if p.o.progress != p {
		return
	}
	if p.bar != nil {
		p.bar.Describe(strings.TrimRight(p.what+" "+status, " "))
		_ = p.bar.Set(done)
		return
	}
	now := time.Now()
	if p.last.IsZero() {
		p.last = p.begin
	}
	if now.Sub(p.last) < statusEvery && done < p.all {
		return
	}
	p.last = now
	_, _ = fmt.Fprintf(p.o.stderr, "%s %d/%d%s%s\n", p.what, done, p.all, space(status), p.left(done, now))
}

// left is the time that the rest will take at the speed so far.
func (p *progress) left(done int, now time.Time) string {
	if done <= p.start || done >= p.all {
		return ""
	}
	per := now.Sub(p.begin) / time.Duration(done-p.start)
	return "  left " + (per * time.Duration(p.all-done)).Round(time.Second).String()
}

func space(s string) string {
	if s == "" {
		return ""
	}
	return "  " + s
}

// endProgress takes the bar away.
func (o *output) endProgress() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.progress != nil && o.progress.bar != nil {
		_ = o.progress.bar.Clear()
	}
	o.progress = nil
}
