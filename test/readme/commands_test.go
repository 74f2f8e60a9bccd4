package readme_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// blocksOf returns the sh blocks below a heading of the README.
func blocksOf(t *testing.T, heading string) []string {
	t.Helper()
	page, err := openRepo(t).read("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, blocks := prose(page)
	var out []string
	for _, b := range blocks {
		if b.section == heading && b.language == "sh" {
			out = append(out, b.text)
		}
	}
	if len(out) == 0 {
		t.Fatalf("README.md has no sh blocks below %q", heading)
	}
	return out
}

// terminal is where a reader types: a directory with the binary in it, and the addresses that stand for those of the page.
type terminal struct {
	t         *testing.T
	dir       string
	addresses map[string]string // documented host:port → the one in use
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("curl is not installed")
	}
	dir := t.TempDir()
	if err := os.Symlink(hubtest.Binary(t), filepath.Join(dir, "quorumhub")); err != nil {
		t.Fatal(err)
	}
	return &terminal{t: t, dir: dir, addresses: map[string]string{}}
}

func (term *terminal) substitute(text string) string {
	for documented, actual := range term.addresses {
		text = strings.ReplaceAll(text, documented, actual)
	}
	return text
}

func (term *terminal) command(script string) *exec.Cmd {
	cmd := exec.Command("bash", "-eu", "-o", "pipefail", "-c", term.substitute(script))
	cmd.Dir = term.dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "QUORUMHUB_") }),
		"TMPDIR="+term.dir, "HOME="+term.dir, "no_proxy=*")
	return cmd
}

// run runs a block as it stands, with addresses substituted, and returns what it prints. A block that limits its time
// with --max-time may end with curl's exit code for that.
func (term *terminal) run(script string) string {
	term.t.Helper()
	cmd := term.command(script)
	out, err := cmd.CombinedOutput()
	const timedOut = 28
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == timedOut && strings.Contains(script, "--max-time") {
		err = nil
	}
	if err != nil {
		term.t.Fatalf("%v\n$ %s%s", err, script, out)
	}
	return string(out)
}

// output is what a program that goes on has printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start starts a program that goes on until the end of the test. It ends with the test process, too: the kernel signals the
// child when the thread that started it ends, so that thread waits for it.
func (term *terminal) start(script string) *output {
	term.t.Helper()
	out := new(output)
	cmd := term.command("exec " + script)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = hubtest.Patience
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ends is not what is tried here
		}
	}()
	if err := <-started; err != nil {
		term.t.Fatal(err)
	}
	term.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(hubtest.Patience):
			_ = cmd.Process.Kill()
			<-ended
		}
		if term.t.Failed() {
			term.t.Logf("$ %s%s", script, out)
		}
	})
	return out
}

var hubAddress = regexp.MustCompile(`(?m)^node-\d+\s+http://(127\.0\.0\.1:\d+)/hub`)

// dev starts the hub of a block on free ports. The nodes' addresses stand for 127.0.0.1:8080 and the following ports.
func (term *terminal) dev(block string) {
	term.t.Helper()
	script := strings.TrimPrefix(block, "go build . && ") // hubtest has built it
	out := term.start(strings.Replace(script, "./quorumhub dev", "./quorumhub dev --http 127.0.0.1:0", 1))
	hubtest.Eventually(term.t, "the hub is ready", func() error {
		if !strings.Contains(out.String(), "ready; ") {
			return fmt.Errorf("it printed %q", out)
		}
		return nil
	})
	for i, m := range hubAddress.FindAllStringSubmatch(out.String(), -1) {
		term.addresses[fmt.Sprintf("127.0.0.1:%d", 8080+i)] = m[1]
	}
	if len(term.addresses) == 0 {
		term.t.Fatalf("no address in %q", out)
	}
}

// listen starts the subscriber of a block on a free port, which stands for 127.0.0.1:9000.
func (term *terminal) listen(block string) *output {
	term.t.Helper()
	const documented = "127.0.0.1:9000"
	if !strings.Contains(block, documented) {
		term.t.Fatalf("%q does not listen on %s", block, documented)
	}
	out := term.start(strings.Replace(block, documented, "127.0.0.1:0", 1))
	listening := regexp.MustCompile(`listening as http://(127\.0\.0\.1:\d+)/`)
	hubtest.Eventually(term.t, "the subscriber listens", func() error {
		m := listening.FindStringSubmatch(out.String())
		if m == nil {
			return fmt.Errorf("it printed %q", out)
		}
		term.addresses[documented] = m[1]
		return nil
	})
	return out
}

// promises are what a reader is told to see, in this order.
func promises(out string, texts ...string) error {
	rest := out
	for _, text := range texts {
		_, after, found := strings.Cut(rest, text)
		if !found {
			return fmt.Errorf("%q is not in (or not in this order in)\n%s", text, out)
		}
		rest = after
	}
	return nil
}

func want(t *testing.T, out string, texts ...string) {
	t.Helper()
	if err := promises(out, texts...); err != nil {
		t.Error(err)
	}
}

func wantEventually(t *testing.T, what string, out func() string, texts ...string) {
	t.Helper()
	hubtest.Eventually(t, what, func() error { return promises(out(), texts...) })
}

// step is what a block of the page is recognised by, and what trying it means.
type step struct {
	marker string
	try    func(block string)
}

// walk tries all blocks in their order. A block that no step knows, and a step without a block, are mistakes.
func walk(blocks []string, steps []step) error {
	if len(blocks) != len(steps) {
		return fmt.Errorf("README.md has %d blocks here and this test has %d steps", len(blocks), len(steps))
	}
	for i, s := range steps {
		if !strings.Contains(blocks[i], s.marker) {
			return fmt.Errorf("block %d does not hold %q:\n%s", i+1, s.marker, blocks[i])
		}
	}
	for i, s := range steps {
		s.try(blocks[i])
	}
	return nil
}

func TestSixtySecondsWithCurl(t *testing.T) {
	term := newTerminal(t)
	var subscriber *output
	err := walk(blocksOf(t, "Sixty seconds with curl"), []step{
		{"go build . && ./quorumhub dev", term.dev},
		{"./quorumhub listen", func(block string) { subscriber = term.listen(block) }},
		{"hub.mode=subscribe", func(block string) {
			want(t, term.run(block), "202 Accepted", `"topic":"news"`)
			list := block[strings.LastIndex(block, "curl"):]
			wantEventually(t, "the subscription is active", func() string { return term.run(list) }, `"topic":"news"`, `"state":"active"`)
			wantEventually(t, "the subscriber confirmed", subscriber.String, "confirmed: subscribe")
		}},
		{"hub.mode=publish", func(block string) {
			want(t, term.run(block), "200 OK", "X-Hub-Message-Id: ", "hub.mode=accepted")
			wantEventually(t, "the delivery", subscriber.String, "signature ok (sha256)", `{"hello":"world"}`)
		}},
		{"curl -i http://127.0.0.1:8080/topics/news", func(block string) {
			out := term.run(block)
			want(t, out, "200 OK", "\r\n\r\n", `{"hello":"world"}`)
			want(t, out, "Link: ", term.substitute(`<http://127.0.0.1:8080/hub>; rel="hub"`), term.substitute(`<http://127.0.0.1:8080/topics/news>; rel="self"`))
		}},
		{"hub.batch=true", func(block string) {
			want(t, term.run(block), `"offset":2`, `"offset":3`)
			wantEventually(t, "the batch", subscriber.String, `{"n":1}`, "signature ok (sha256)", `{"n":2}`)
		}},
		{"text/event-stream", func(block string) {
			want(t, term.run(block), `hello`, "id: ", `\"n\":1`, "id: ", `\"n\":2`)
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestThreeNodes(t *testing.T) {
	term := newTerminal(t)
	err := walk(blocksOf(t, "Three nodes"), []step{
		{"./quorumhub dev --nodes 3", func(block string) {
			term.dev(block)
			if len(term.addresses) != 3 {
				t.Fatalf("%d nodes, expected 3", len(term.addresses))
			}
		}},
		{"kill -9", func(block string) {
			want(t, term.run(block), "200 OK", "hub.mode=accepted", "before", "200 OK", "hub.mode=accepted", "after", `"leader":"node-`)
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCommandChecksFindMistakes plants what the tests above are there to find.
func TestCommandChecksFindMistakes(t *testing.T) {
	for name, out := range map[string]string{
		"a listener without the secret": "message 1-1  application/json  17 bytes  signature not checked\n    {\"hello\":\"world\"}\n",
		"a wrong secret":                "message 1-1  application/json  17 bytes  signature WRONG (sha256)\n    {\"hello\":\"world\"}\n",
		"no delivery":                   "listening as http://127.0.0.1:9000/callback\n",
		"another order":                 "{\"hello\":\"world\"}\nsignature ok (sha256)\n",
	} {
		if promises(out, "signature ok (sha256)", `{"hello":"world"}`) == nil {
			t.Errorf("%s: not found", name)
		}
	}
	none := func(string) {}
	for name, blocks := range map[string][]string{
		"a new block nobody checks": {"curl a\n", "curl b\n", "curl c\n"},
		"a block that is gone":      {"curl a\n"},
		"another command":           {"curl a\n", "wget b\n"},
	} {
		if walk(blocks, []step{{"curl a", none}, {"curl b", none}}) == nil {
			t.Errorf("%s: not found", name)
		}
	}
	if err := walk([]string{"curl a\n"}, []step{{"curl a", none}}); err != nil {
		t.Error(err)
	}
}
