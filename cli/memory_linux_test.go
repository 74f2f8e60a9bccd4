package cli_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// memoryGroup makes a cgroup with a memory limit, if this machine lets the test do so.
func memoryGroup(t *testing.T, limit int64) (dir string) {
	t.Helper()
	for _, v := range []struct{ root, file string }{{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}} {
		dir, err := os.MkdirTemp(v.root, "quorumhub-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		f, err := os.OpenFile(filepath.Join(dir, v.file), os.O_WRONLY, 0) // it exists if this is a cgroup
		if err != nil {
			continue
		}
		_, err = fmt.Fprint(f, limit)
		if err = errors.Join(err, f.Close()); err == nil {
			return dir
		}
	}
	t.Skip("no cgroup with a memory limit can be made here")
	return ""
}

// A hub takes its memory limit from its cgroup, and says so.
func TestServeKnowsTheMemoryLimitOfItsCgroup(t *testing.T) {
	group := memoryGroup(t, 512<<20)
	for _, c := range []struct{ env, says string }{
		{"", "limit=483183820 cgroup=536870912"}, {"GOMEMLIMIT=300MiB", `from GOMEMLIMIT" limit=300MiB`},
	} {
		dir := t.TempDir()
		config := writeText(t, filepath.Join(dir, "hub.yaml"), fmt.Sprintf("http.addr: 127.0.0.1:0\ndata_dir: %q\n", filepath.Join(dir, "data")))
		hub := serving(t, config, []string{"sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, group}, []string{"GOMEMLIMIT=", c.env})
		if !strings.Contains(hub.log.String(), c.says) {
			t.Errorf("with %q it logs\n%s", c.env, hub.log)
		}
		hub.stop()
	}
}
