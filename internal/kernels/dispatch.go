package kernels

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// set holds the kernels of one instruction set. Each family has its own struct, made by a function of the same name in the
// family's files: gemmAVX2, elemAVX2, attnAVX2 and so on.
type set struct {
	name string
	gemm gemmKernels[float32]
	elemKernels
	attnKernels
}

var generic = &set{"generic", gemmGeneric[float32](), elemGeneric(), attnGeneric()}

var (
	kn       = generic // the set in use
	sets     []*set    // what this CPU can run, best first
	setError error
)

func init() {
	sets = append(nativeSets(), generic)
	setError = start(os.Getenv(envCPU))
}

const envCPU = "EURYALE_CPU"

// start selects the set that the environment asks for, or the best.
func start(want string) error {
	if want == "" {
		kn = sets[0]
		return nil
	}
	if err := Use(want); err != nil {
		return fmt.Errorf("%s=%s: %w", envCPU, want, err)
	}
	return nil
}

// Set is the name of the kernel set in use: "avx512", "avx2" or "generic". Results have the same bits within one set only.
func Set() string { return kn.name }

// Sets names the sets this CPU can run, best first.
func Sets() []string {
	names := make([]string, len(sets))
	for i, s := range sets {
		names[i] = s.name
	}
	return names
}

// Use selects a set by name. No kernel may be running.
func Use(name string) error {
	i := slices.IndexFunc(sets, func(s *set) bool { return s.name == strings.ToLower(name) })
	if i < 0 {
		return &UnknownSetError{name}
	}
	kn = sets[i]
	return nil
}

// SetError is non-nil if the environment asked for a set that this CPU cannot run or that there is none of; the generic set
// is in use then.
func SetError() error { return setError }

// UnknownSetError says that there is no such set on this CPU.
type UnknownSetError struct{ Name string }

func (e *UnknownSetError) Error() string {
	return fmt.Sprintf("kernel set %q is not one this CPU can run: choose %s", e.Name, strings.Join(Sets(), ", "))
}
