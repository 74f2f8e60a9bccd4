package hubtest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
)

// BinaryEnv is the environment variable that points the tests at an existing binary.
const BinaryEnv = "QUORUMHUB_BIN"

// parallelTests is how many tests of a package run in parallel unless -parallel is given. They spend most of
// their time waiting for the network and timers, so more than one per core pays off.
const parallelTests = 8

// Main runs the tests of a package and removes the binary they built. Call it from TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(hubtest.Main(m)) }
//
// The functions in after run once all tests are done.
func Main(m *testing.M, after ...func()) int {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := f.Value.Set(strconv.Itoa(parallelTests)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	code := m.Run()
	for _, f := range after {
		f()
	}
	if path, err := builtBinary(); err == nil && os.Getenv(BinaryEnv) == "" {
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return code
}

// Binary returns the path of the quorumhub binary: the one named by QUORUMHUB_BIN, or one built once per test
// process.
func Binary(tb testing.TB) string {
	tb.Helper()
	path, err := builtBinary()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

var builtBinary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(BinaryEnv); path != "" {
		return filepath.Abs(path)
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "quorumhub-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "quorumhub")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("go build in %s: %w\n%s", root, err, out), os.RemoveAll(dir))
	}
	return path, nil
})

// Root returns the module's root directory, searching upwards from the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = parent
	}
}
