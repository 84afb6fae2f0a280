package checkpoints

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Metrics appends lines of JSON to metrics.jsonl.
type Metrics struct {
	f    File
	path string
	rest []byte // not written yet
}

// OpenMetrics opens a metrics file for appending, and makes it if it is not there. A run that goes on from a checkpoint of
// some step passes that step: lines of later steps, a torn last line and lines `"event":"done"` are removed, so that the file
// ends as if the run had never stopped. A new run passes 0.
//
// Lines count by their field "step"; a line without one belongs to the line before.
func OpenMetrics(path string, step int) (*Metrics, error) { return OpenMetricsFS(OSFS{}, path, step) }

// OpenMetricsFS is OpenMetrics on another file system.
func OpenMetricsFS(fsys FS, path string, step int) (*Metrics, error) {
	if err := mkdirAll(fsys, filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := trimMetrics(fsys, path, step); err != nil {
		return nil, err
	}
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, ioError(path, "cannot be opened", err)
	}
	return &Metrics{f: f, path: path}, nil
}

// trimMetrics rewrites the file without what a resumed run will write again. It is left alone if nothing has to go.
func trimMetrics(fsys FS, path string, step int) error {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return ioError(path, "cannot be opened", err)
	}
	defer f.Close()
	whole, err := keepLines(f, step, io.Discard)
	if err != nil {
		return ioError(path, "cannot be read", err)
	}
	if whole {
		return nil
	}
	return replaceFile(fsys, path, func(w io.Writer) error {
		_, err := keepLines(io.NewSectionReader(f, 0, 1<<62), step, w)
		return err
	})
}

// keepLines copies the lines that stay; whole means that all of them do.
func keepLines(r io.Reader, step int, w io.Writer) (whole bool, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	out := bufio.NewWriterSize(w, 1<<16)
	whole = true
	for later := false; ; {
		line, err := in.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return false, err
		}
		if err == io.EOF {
			whole = whole && len(line) == 0 // a torn line goes
			return whole, out.Flush()
		}
		var head struct {
			Event string `json:"event"`
			Step  *int   `json:"step"`
		}
		bad := json.Unmarshal(line, &head) != nil
		if head.Step != nil {
			later = *head.Step > step
		}
		if bad || later || head.Event == "done" {
			whole = false
			continue
		}
		if _, err := out.Write(line); err != nil {
			return false, err
		}
	}
}

// Append writes one value as a line of JSON, with one write, so that a reader sees whole lines. What could not be written (a full
// disk, say) is written before the next line: nothing is lost, and no line is torn for good.
func (m *Metrics) Append(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	m.rest = append(append(m.rest, b...), '\n')
	return m.flush()
}

func (m *Metrics) flush() error {
	if len(m.rest) == 0 {
		return nil
	}
	n, err := m.f.Write(m.rest)
	n = max(0, min(n, len(m.rest)))
	m.rest = m.rest[:copy(m.rest, m.rest[n:])]
	if err == nil && len(m.rest) > 0 {
		err = io.ErrShortWrite
	}
	if err != nil {
		return ioError(m.path, "cannot be written", err)
	}
	return nil
}

// Sync makes the lines durable. Call it before a checkpoint is saved, or a power cut may leave the log behind the weights.
func (m *Metrics) Sync() error {
	if err := m.flush(); err != nil {
		return err
	}
	if err := m.f.Sync(); err != nil {
		return ioError(m.path, "cannot be synced", err)
	}
	return nil
}

// Close closes the file.
func (m *Metrics) Close() error { return m.f.Close() }
