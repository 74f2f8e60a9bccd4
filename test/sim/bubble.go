package sim

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// Bubble runs f in a bubble, with a directory for the files of its nodes. A killed node sometimes leaves raft's
// NetworkTransport.listen or a future behind that nobody answers any more; a process that is killed takes them along, so
// that what is left blocked at the end is only noted.
func Bubble(t *testing.T, f func(t *testing.T, dir string)) {
	t.Helper()
	dir, err := memoryDir()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if !strings.Contains(fmt.Sprint(p), "deadlock: main bubble goroutine has exited") {
			panic(p)
		}
		for frames, n := range leftBehind() {
			t.Logf("left behind: %d%s", n, frames)
		}
	}()
	synctest.Test(t, func(t *testing.T) { f(t, dir) })
}

// leftBehind counts the goroutines of bubbles by what they wait in.
func leftBehind() map[string]int {
	out := map[string]int{}
	buf := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		lines := strings.Split(g, "\n")
		if !strings.Contains(lines[0], "bubble") {
			continue
		}
		frames := ""
		for i := 1; i < min(len(lines), 8); i += 2 {
			name, _, _ := strings.Cut(lines[i], "(0x")
			frames += " < " + name
		}
		out[frames]++
	}
	return out
}
