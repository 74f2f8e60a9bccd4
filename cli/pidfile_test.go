package cli_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A node that was killed and is started again without dev has its PID file again, and removes it when it stops.
func TestPIDFileOfServe(t *testing.T) {
	c := startDevCluster(t, 2)
	file := filepath.Join(c.node(1), "quorumhub.pid")
	first := pidIn(c.node(1))
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is gone", func() bool { return !isAlive(first) })

	again := exec.Command(os.Args[0], "serve", "--config", filepath.Join(c.node(1), "config.yaml"))
	again.Stdout, again.Stderr = io.Discard, io.Discard
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- again.Wait() }()
	eventually(t, "the file names the new process", func() bool { return pidIn(c.node(1)) == again.Process.Pid })
	eventually(t, "it serves", func() bool { return c.same(1) })
	if err := again.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file is left behind (%v)", err)
	}
}
