package kernels

import "syscall"

// yield lets another thread have the core: one of this process that has the task which is waited for, if both share a core, or one of another program.
func yield() { syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }
