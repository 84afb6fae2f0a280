//go:build unix

package main

import (
	"runtime"
	"syscall"
)

// peakMiB is the largest resident set of this process so far, in MiB.
func peakMiB() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return float64(u.Maxrss) / (1 << 20) // bytes there, kilobytes elsewhere
	}
	return float64(u.Maxrss) / (1 << 10)
}
