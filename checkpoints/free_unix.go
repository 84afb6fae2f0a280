//go:build darwin || freebsd || linux

package checkpoints

import "golang.org/x/sys/unix"

func freeBytes(name string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}
