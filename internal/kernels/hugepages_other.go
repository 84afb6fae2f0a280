//go:build !linux

package kernels

// AdviseHugePages does nothing here: large pages are asked for on Linux only.
func AdviseHugePages([]byte) {}
