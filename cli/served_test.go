package cli_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumhub/auth"
)

// served is a hub in a process of its own, with what it logs.
type served struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *syncBuffer
	url  string // by the address that the log names
	done chan error
}

// serving starts quorumhub serve with a configuration file, a command in front of it and variables of the environment, and waits until it
// serves.
func serving(t *testing.T, config string, front, env []string) *served {
	t.Helper()
	args := append(append([]string{}, front...), os.Args[0], "serve", "--config", config)
	s := &served{t: t, cmd: exec.Command(args[0], args[1:]...), log: new(syncBuffer), done: make(chan error, 1)}
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Env = s.log, s.log, append(os.Environ(), env...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("its log:\n%s", s.log)
		}
	})
	listens := regexp.MustCompile(`msg=serving url=(https?)://\S+ listen=(\S+)`)
	eventually(t, "it serves", func() bool {
		select {
		case err := <-s.done:
			t.Fatalf("it has ended: %v\n%s", err, s.log)
		default:
		}
		if m := listens.FindStringSubmatch(s.log.String()); m != nil {
			s.url = m[1] + "://" + m[2]
		}
		return s.url != ""
	})
	return s
}

// hangup sends SIGHUP and returns what was logged because of it.
func (s *served) hangup() string {
	s.t.Helper()
	before := len(s.log.String())
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	text := ""
	eventually(s.t, "it has read everything again", func() bool {
		text = s.log.String()[before:]
		return strings.Contains(text, `msg="read again"`)
	})
	return text
}

// stop ends it in good order.
func (s *served) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if err := <-s.done; err != nil {
		s.t.Errorf("it ended with %v", err)
	}
}

// do makes a request with an API key and returns the status and the body.
func (s *served) do(method, path, key, body string) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-API-Key", key)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// keyLine makes an API key and returns it with its line for auth.file.
func keyLine(t *testing.T, name, role string) (key, line string) {
	t.Helper()
	key, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, fmt.Sprintf("  - {id: %q, name: %s, sha256: %x, roles: [%s]}\n", id, name, hash, role)
}

func writeText(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const reloadRules = `rules:
  - {name: operate, may: ["admin.*"], who: [{role: operator}]}
  - {name: register, may: [topic.register], topics: ["**"], who: [{role: operator}]}
  - {name: use, may: [publish, subscribe, unsubscribe, read], topics: ["**"], who: [{role: user}]}
`

// On SIGHUP a hub takes over what can be taken over, says so and what it cannot, and goes on whatever it finds.
func TestHangupReadsAgain(t *testing.T) {
	dir := t.TempDir()
	root, rootLine := keyLine(t, "root", "operator")
	former, formerLine := keyLine(t, "former", "user")
	next, nextLine := keyLine(t, "next", "user")
	authFile, config := filepath.Join(dir, "auth.yaml"), filepath.Join(dir, "hub.yaml")
	writeText(t, authFile, "api_keys:\n"+rootLine+formerLine+reloadRules)
	settings := func(more string) {
		writeText(t, config, fmt.Sprintf("http.addr: 127.0.0.1:0\nhttp.public_url: http://hub.example.org\ndata_dir: %q\nauth: {mode: required, file: %q}\nstreams.heartbeat: 200ms\n"+
			"delivery.egress.mode: dev-loopback\n%s", filepath.Join(dir, "data"), authFile, more))
	}
	settings("")
	s := serving(t, config, nil, nil)
	cb := newCallbacks(t, nil)
	form := url.Values{"hub.mode": {"register"}, "hub.topic": {"http://hub.example.org/topics/news"}, "hub.callback": {cb.URL + "/cb"}}
	if status, text := s.do("POST", "/hub", root, form.Encode()); status/100 != 2 {
		t.Fatalf("register: %d %s", status, text)
	}
	form.Set("hub.mode", "subscribe")
	if status, text := s.do("POST", "/hub", former, form.Encode()); status != http.StatusAccepted {
		t.Fatalf("subscribe: %d %s", status, text)
	}
	subscriptions := func() string { _, text := s.do("GET", "/v1/subscriptions", root, ""); return text }
	eventually(t, "the subscription is active", func() bool { return strings.Contains(subscriptions(), `"active"`) })
	ended := s.stream(former)

	// Nothing has changed.
	if text := s.hangup(); !strings.Contains(text, "changed=0 failed=0 need_restart=0") {
		t.Errorf("nothing has changed, but it says\n%s", text)
	}

	writeText(t, authFile, "api_keys:\n"+rootLine+nextLine+reloadRules)
	settings("log.level: debug\nretention.max_age: 1d\n")
	text := s.hangup()
	for _, want := range []string{"auth.file has changed: rules: 3, issuers: 0, API keys: 2, subscriptions paused: 1", "log.level has changed: info → debug",
		"takes effect only with a restart\" key=retention.max_age running=7d configured=1d", "changed=2 failed=0 need_restart=1"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "key=log.level") || strings.Contains(text, "key=auth.file") {
		t.Errorf("what was taken over needs no restart:\n%s", text)
	}
	for key, want := range map[string]int{former: http.StatusUnauthorized, next: http.StatusOK} {
		if status, _ := s.do("GET", "/topics/news", key, ""); status != want && (want != http.StatusOK || status == http.StatusUnauthorized) {
			t.Errorf("a key gets %d, want %d", status, want)
		}
	}
	if list := subscriptions(); !strings.Contains(list, `"owner_ended"`) {
		t.Errorf("the subscription of the key that is gone goes on: %s", list)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the stream of the key that is gone goes on")
	}
	if text := s.hangup(); !strings.Contains(text, "level=DEBUG") && !strings.Contains(text, "changed=0 failed=0 need_restart=1") {
		t.Errorf("the second time it says\n%s", text)
	}

	// What cannot be used is an error, and changes nothing.
	writeText(t, authFile, "api_keys: [\n")
	if text := s.hangup(); !strings.Contains(text, "level=ERROR msg=\"auth.file cannot be used; the previous one stays in force\"") || !strings.Contains(text, "failed=1") {
		t.Errorf("a broken auth.file: it says\n%s", text)
	}
	settings("log.level: loud\nnonsense: 1\n")
	if text := s.hangup(); strings.Count(text, "the configuration cannot be used; the previous one stays in force") != 2 {
		t.Errorf("a broken configuration: it says\n%s", text)
	}
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	if text := s.hangup(); !strings.Contains(text, "the configuration cannot be used") {
		t.Errorf("no configuration: it says\n%s", text)
	}
	if status, _ := s.do("GET", "/topics/news", next, ""); status == http.StatusUnauthorized {
		t.Error("the previous settings are not in force any more")
	}
	s.stop()
}

// stream follows a topic and returns a channel that is closed when the stream ends.
func (s *served) stream(key string) <-chan struct{} {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+"/topics/news", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-API-Key", key)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("stream: %v, %v", resp, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
	}()
	return ended
}

// Certificates of the listener and rules for callbacks are taken over, under the same names and under others.
func TestHangupReadsCertificatesAgain(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"init-ca"}, {"issue-cert", "--node", "a", "--host", "127.0.0.1"}, {"issue-cert", "--node", "b", "--host", "127.0.0.1"}} {
		if got := run(t, "", append(append([]string{"cluster"}, args...), "--dir", dir)...); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	config, rules := filepath.Join(dir, "hub.yaml"), filepath.Join(dir, "rules.yaml")
	settings := func(name, more string) {
		writeText(t, config, fmt.Sprintf("http.addr: 127.0.0.1:0\nhttp.tls: {cert: %q, key: %q}\ndata_dir: %q\n%s",
			filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"), filepath.Join(dir, "data"), more))
	}
	settings("a", "")
	s := serving(t, config, nil, nil)
	shows := func() string {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := shows(); got != "a" {
		t.Fatalf("it shows the certificate of %s", got)
	}
	writeText(t, rules, fmt.Sprintf("- {hosts: [127.0.0.1], ca: %q}\n", filepath.Join(dir, "ca.pem")))
	settings("b", fmt.Sprintf("delivery.tls_file: %q\n", rules))
	if text := s.hangup(); !strings.Contains(text, "http.tls has changed") || !strings.Contains(text, "delivery.tls_file has changed: rules: 1") || !strings.Contains(text, "need_restart=0") {
		t.Errorf("it says\n%s", text)
	}
	if got := shows(); got != "b" {
		t.Errorf("it shows the certificate of %s", got)
	}
	// Another certificate under the same name is noticed even if a connection has picked it up before.
	for _, ext := range []string{".pem", ".key"} {
		data, err := os.ReadFile(filepath.Join(dir, "a"+ext))
		if err != nil {
			t.Fatal(err)
		}
		writeText(t, filepath.Join(dir, "b"+ext), string(data))
	}
	eventually(t, "a connection has picked it up", func() bool { return shows() == "a" })
	if text := s.hangup(); !strings.Contains(text, "http.tls has changed") {
		t.Errorf("it says\n%s", text)
	}
	writeText(t, filepath.Join(dir, "b.key"), "broken")
	writeText(t, rules, "- {hosts: [127.0.0.1], ca: nowhere.pem}\n")
	if text := s.hangup(); !strings.Contains(text, "http.tls cannot be used") || !strings.Contains(text, "delivery.tls_file cannot be used") || !strings.Contains(text, "failed=2") {
		t.Errorf("it says\n%s", text)
	}
	if got := shows(); got != "a" {
		t.Errorf("with a broken key it shows the certificate of %s", got)
	}
	settings("a", "auth.mode: open\n")
	s.hangup()
	// From HTTPS to HTTP only with a restart.
	writeText(t, config, fmt.Sprintf("http.addr: 127.0.0.1:0\ndata_dir: %q\n", filepath.Join(dir, "data")))
	if text := s.hangup(); !strings.Contains(text, "key=http.tls.cert") || !strings.Contains(text, "need_restart=2") {
		t.Errorf("it says\n%s", text)
	}
	s.stop()
}

// Rates are taken over while callers are being counted.
func TestHangupChangesRates(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "hub.yaml")
	settings := func(more string) {
		writeText(t, config, fmt.Sprintf("http.addr: 127.0.0.1:0\ndata_dir: %q\n%s", filepath.Join(dir, "data"), more))
	}
	settings("")
	s := serving(t, config, nil, nil)
	read := func() int { status, _ := s.do("GET", "/v1/topics", "", ""); return status }
	for range 5 {
		if status := read(); status != http.StatusOK {
			t.Fatalf("before: %d", status)
		}
	}
	settings("limits.read: 2/1h\nlimits.pending: 7\n")
	if text := s.hangup(); !strings.Contains(text, "limits has changed: publish: 600000/1m, subscribe: 6000/1m, read: 2/1h,") || !strings.Contains(text, "key=limits.pending") ||
		!strings.Contains(text, "changed=1 failed=0 need_restart=1") {
		t.Errorf("it says\n%s", text)
	}
	eventually(t, "reads are limited", func() bool { return read() == http.StatusTooManyRequests })
	settings("limits.read: 0\n")
	s.hangup()
	if status := read(); status != http.StatusOK {
		t.Errorf("without a limit: %d", status)
	}
	s.stop()
}

// A hub that a terminal leaves behind goes on, with nohup and without; other commands end unless they were started with nohup.
func TestHangups(t *testing.T) {
	const nohup = `trap "" HUP; exec "$@"`
	// Whoever runs the tests under nohup ignores the signal, and so would what they start.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for _, front := range [][]string{nil, {"sh", "-c", nohup, "sh"}} {
		dir := t.TempDir()
		s := serving(t, writeText(t, filepath.Join(dir, "hub.yaml"), fmt.Sprintf("http.addr: 127.0.0.1:0\ndata_dir: %q\n", filepath.Join(dir, "data"))), front, nil)
		for range 3 {
			s.hangup()
		}
		if status, text := s.do("GET", "/health/live", "", ""); status != http.StatusOK {
			t.Errorf("with %v it answers %d %s", front, status, text)
		}
		s.stop()

		args := append(append([]string{}, front...), os.Args[0], "listen", "--forward-to", s.url)
		listen, out := exec.Command(args[0], args[1:]...), new(syncBuffer)
		listen.Stdout, listen.Stderr = out, out
		if err := listen.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- listen.Wait() }()
		eventually(t, "it listens", func() bool { return out.String() != "" })
		_ = listen.Process.Signal(syscall.SIGHUP)
		patience := 15 * time.Second
		if front != nil {
			patience = 500 * time.Millisecond // far longer than it takes to end
		}
		select {
		case <-ended:
			if front != nil {
				t.Errorf("a command that was started with nohup has ended:\n%s", out)
			}
		case <-time.After(patience):
			if front == nil {
				t.Error("a command goes on without its terminal")
			}
			_ = listen.Process.Signal(syscall.SIGTERM)
			<-ended
		}
	}
}

// dev passes hangups on to its nodes.
func TestHangupOfDev(t *testing.T) {
	dir := t.TempDir()
	dev, out := exec.Command(os.Args[0], "dev", "--http", "127.0.0.1:0", "--data-dir", dir), new(syncBuffer)
	dev.Stdout, dev.Stderr = out, out
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- dev.Wait() }()
	t.Cleanup(func() { _ = dev.Process.Kill() })
	eventually(t, "it is ready", func() bool { return strings.Contains(out.String(), "ready") })
	for n := 1; n <= 2; n++ {
		if err := dev.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "its node has read everything again", func() bool {
			log, _ := os.ReadFile(filepath.Join(dir, "node-1", "quorumhub.log"))
			return bytes.Count(log, []byte(`msg="read again"`)) == n
		})
	}
	if err := dev.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("%v:\n%s", err, out)
	}
}
