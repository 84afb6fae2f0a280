package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/internal/kernels"
)

func doctorCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the machine: processor, kernel sets and their speed, memory, disk, versions",
		Long: `Doctor prints what Euryale found: the processor, the kernel sets it can run with a quick timing of each, memory, free disk space and versions.

EURYALE_CPU=avx512|avx2|generic forces a kernel set. Results have the same bits within one set only.`,
		Example: examples("doctor", "all of it", "doctor --json", "for a script"),
		Args:    cobra.NoArgs,
	}
	return command(c, func(ctx context.Context, _ []string) error { return a.doctor(ctx) })
}

// machine is what doctor finds.
type machine struct {
	Event    string            `json:"event"` // "done"
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Workers  int               `json:"workers"` // of a kernel: the smaller of cores and GOMAXPROCS
	OS       string            `json:"os"`
	Set      string            `json:"kernel_set"`
	MemoryMB int64             `json:"memory_mb,omitempty"` // free for use
	DiskMB   int64             `json:"disk_mb,omitempty"`   // free below the current folder
	Versions map[string]string `json:"versions"`
	Problems []string          `json:"problems"`
}

// setSpeed is the timing of a kernel set.
type setSpeed struct {
	Event     string  `json:"event"` // "kernels"
	Set       string  `json:"set"`
	Used      bool    `json:"used"`
	GemmGF    float64 `json:"gemm_gflops"`
	SoftmaxGB float64 `json:"softmax_gb_per_s"`
}

func (a *app) doctor(ctx context.Context) error {
	m := machine{Event: "done", CPU: cpuName(), Cores: runtime.NumCPU(), Workers: kernels.Workers(), OS: runtime.GOOS + "/" + runtime.GOARCH,
		Set: kernels.Set(), MemoryMB: availableMemory(), Versions: versions(), Problems: []string{}}
	if free, err := (checkpoints.OSFS{}).Free("."); err == nil {
		m.DiskMB = int64(free >> 20)
	}
	if err := kernels.SetError(); err != nil {
		m.Problems = append(m.Problems, err.Error())
	}
	if m.DiskMB > 0 && m.DiskMB < 500 {
		m.Problems = append(m.Problems, fmt.Sprintf("only %d MB of disk space left here: checkpoints may not fit", m.DiskMB))
	}
	a.out.text("processor  %s, %d cores, %s; kernels use %d workers\n", m.CPU, m.Cores, m.OS, m.Workers)
	if m.MemoryMB > 0 {
		a.out.text("memory     %d MB free for use\n", m.MemoryMB)
	}
	if m.DiskMB > 0 {
		a.out.text("disk       %d MB free here\n", m.DiskMB)
	}
	for _, name := range []string{"euryale", "go", "gorgonia.org/gorgonia", "gorgonia.org/tensor"} {
		a.out.text("version    %s %s\n", name, m.Versions[name])
	}
	for _, name := range kernels.Sets() {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := timeSet(name, m.Set)
		if err != nil {
			return err
		}
		used := ""
		if s.Used {
			used = "   <- in use"
		}
		a.out.event(s)
		a.out.text("kernels    %-8s matrix product %6.1f GFLOP/s, softmax %5.1f GB/s%s\n", s.Set, s.GemmGF, s.SoftmaxGB, used)
	}
	for _, p := range m.Problems {
		a.out.text("problem    %s\n", p)
	}
	a.out.event(m)
	if err := kernels.SetError(); err != nil {
		return &usageError{err}
	}
	return nil
}

// timeSet measures a set on shapes of the default model and leaves the set that was in use in use.
func timeSet(name, used string) (setSpeed, error) {
	if err := kernels.Use(name); err != nil {
		return setSpeed{}, err
	}
	defer func() { _ = kernels.Use(used) }()
	const m, n, k = 512, 256, 1024
	x, y, z := make([]float32, m*k), make([]float32, k*n), make([]float32, m*n)
	for i := range x {
		x[i] = float32(i%17) / 16
	}
	for i := range y {
		y[i] = float32(i%13) / 12
	}
	gemm := fastest(func() { kernels.Gemm(false, false, m, n, k, x, k, y, n, z, n, false, nil) })
	softmax := fastest(func() { kernels.Softmax(m, k, x, x) })
	return setSpeed{"kernels", name, name == used, 2 * m * n * k / gemm.Seconds() / 1e9, 2 * 4 * m * k / softmax.Seconds() / 1e9}, nil
}

// fastest is the shortest of the runs that fit into a tenth of a second, at least 2.
func fastest(f func()) time.Duration {
	f()
	best := time.Duration(1<<63 - 1)
	begin := time.Now()
	for i := 0; i < 2 || time.Since(begin) < 100*time.Millisecond; i++ {
		t := time.Now()
		f()
		best = min(best, time.Since(t))
	}
	return max(best, 1)
}

// cpuName is the model of the processor as Linux tells it, else the architecture.
func cpuName() string {
	if name := procField("/proc/cpuinfo", "model name"); name != "" {
		return name
	}
	return runtime.GOARCH
}

// availableMemory is in MB; 0 if the system does not tell.
func availableMemory() int64 {
	kb, _ := strconv.ParseInt(strings.TrimSuffix(procField("/proc/meminfo", "MemAvailable"), " kB"), 10, 64)
	return kb >> 10
}

// procField reads "name : value" from a file of Linux's /proc.
func procField(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// versions are those of what the results depend on.
func versions() map[string]string {
	v := map[string]string{"euryale": version(), "go": runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if strings.HasPrefix(dep.Path, "gorgonia.org/") {
				v[dep.Path] = dep.Version
			}
		}
	}
	return v
}
