//go:build !windows

package node

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ReadableByOthers says so if a file can be read by all users of the machine; else it is empty.
func ReadableByOthers(path string) string {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0 {
		return ""
	}
	return fmt.Sprintf("%s has mode %04o, so everybody on this machine can read the secrets in it; expected 0640 or less", path, info.Mode().Perm())
}

// WritableByOthers says so if others than the owner can change what is at path, or put something else there; else it is empty. What
// does not exist yet is judged by the directory it will be in.
func WritableByOthers(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err == nil {
			mode := info.Mode()
			// In a sticky directory such as /tmp nobody can rename or remove what belongs to somebody else.
			if mode.Perm()&0o002 != 0 && (at == path || mode&fs.ModeSticky == 0) || at == path && mode.Perm()&0o020 != 0 && mode.IsDir() {
				return fmt.Sprintf("%s has mode %04o, so others on this machine can replace what the node keeps there; expected 0755 or less", at, mode.Perm())
			}
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}
