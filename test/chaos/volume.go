package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Volume is a small file system that belongs to one test.
type Volume struct {
	Dir     string
	ballast string
}

// ErrNoVolume reports that no file system can be mounted here.
var ErrNoVolume = errors.New("cannot mount a file system here")

// NewVolume mounts an ext4 file system of this size in the test's temporary directory, or a tmpfs where there
// are no loop devices. It needs root. The volume is unmounted with the test.
func NewVolume(tb testing.TB, mebibytes int) (*Volume, error) {
	tb.Helper()
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: it needs root", ErrNoVolume)
	}
	dir := filepath.Join(tb.TempDir(), "volume")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	kind := "ext4"
	err := mountImage(filepath.Join(tb.TempDir(), "image"), dir, mebibytes)
	if err != nil {
		tb.Logf("no ext4 on a loop device, using tmpfs: %v", err)
		kind = "tmpfs"
		err = syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mebibytes))
	}
	if err != nil {
		return nil, errors.Join(ErrNoVolume, err)
	}
	tb.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			tb.Errorf("unmount %s: %v", dir, err)
		}
	})
	v := &Volume{Dir: dir, ballast: filepath.Join(dir, "ballast")}
	tb.Logf("%s of %d MiB, %d MiB free", kind, mebibytes, v.Free()>>20)
	return v, nil
}

func mountImage(image, dir string, mebibytes int) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(mebibytes)<<20), f.Close()); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-m", "0", image},
		{"mount", "-o", "loop", image, dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

// Free returns the free space in bytes.
func (v *Volume) Free() int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(v.Dir, &st); err != nil {
		return 0
	}
	return int64(st.Bavail) * st.Bsize
}

// Fill writes ballast until at most leave bytes are free.
func (v *Volume) Fill(leave int64) error {
	f, err := os.OpenFile(v.ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	for v.Free() > leave {
		if _, err = f.Write(make([]byte, min(64<<10, max(v.Free()-leave, 512)))); err != nil {
			break
		}
		if err = f.Sync(); err != nil {
			break
		}
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil // the hub used the last bytes first
	}
	return errors.Join(err, f.Close())
}

// Relieve removes the ballast.
func (v *Volume) Relieve() error {
	return os.Remove(v.ballast)
}
