package bench

import (
	"fmt"
	"os"
	"syscall"
)

// childAttributes puts a hub into its own process group, so that Ctrl-C reaches it only through its parent, and kills it when the thread
// that started it ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func syncData(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// diskUsage returns the bytes that a file occupies on the disk, not counting holes.
func diskUsage(path string) (int64, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return 0, err
	}
	return st.Blocks * 512, nil
}

// filesystem names the file system of a directory.
func filesystem(dir string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "an unknown file system"
	}
	switch uint32(st.Type) { // its size differs between architectures
	case 0xEF53:
		return "ext4"
	case 0x01021994:
		return "tmpfs (nothing is written to a disk)"
	case 0x58465342:
		return "xfs"
	case 0x9123683E:
		return "btrfs"
	case 0x794C7630:
		return "overlayfs"
	default:
		return fmt.Sprintf("file system %#x", uint32(st.Type))
	}
}
