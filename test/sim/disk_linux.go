package sim

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// breakDisk makes every later write to the files that this process has open below dir fail, as on a disk that has died.
// What is mapped can still be read. It puts descriptors that are open for reading only in the place of the files' own.
// Files opened later are not affected, so dir must be left alone but for closing what is open.
func breakDisk(dir string) error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range open {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err != nil {
			continue
		}
		path, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || !strings.HasPrefix(path, dir+"/") {
			continue
		}
		if err := replaceDescriptor(fd, path); err != nil {
			return err
		}
	}
	return nil
}

func replaceDescriptor(fd int, path string) error {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil // a temporary file that was removed meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return syscall.Dup3(int(f.Fd()), fd, syscall.O_CLOEXEC)
}
