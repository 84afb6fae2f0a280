package kernels

// attnKernels are the attention kernels of a set.
type attnKernels struct{}

func attnGeneric() attnKernels { return attnKernels{} }
