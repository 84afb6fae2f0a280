//go:build !unix

package main

import "runtime"

// peakMiB is what the runtime has taken from the system, in MiB: this system does not tell the peak of a process.
func peakMiB() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Sys) / (1 << 20)
}
