package node

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// writePID writes the number of this process to a file, for scripts; an empty path is no file. The function that it returns removes
// the file unless it names another process by then.
func writePID(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	own := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(path, []byte(own+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("pid_file: %w", err)
	}
	return func() {
		if data, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(data)) == own {
			_ = os.Remove(path) // a stale number does no harm: the next start replaces it
		}
	}, nil
}
