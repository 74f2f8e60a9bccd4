package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/cli"
)

const (
	testSecret = "s3cret"
	testBody   = "{\"a\": \"ä\"}\n"
)

// signatures holds digests of testBody with testSecret, made with openssl dgst -hmac.
func signatures() map[string]string {
	return map[string]string{
		"sha1":   "f82ad36453b724a84d58531ac8146a7ecff4bef1",
		"sha256": "8f2760a9c22a54189a1d73a5eec620b3a90fada8c7ee0f740460e2ec58bd8718",
		"sha384": "0445778a37b9b3e13cc66232d6215f6e4516151686b47909774b0a5a809165a15109c6fa1633ac88c3240a481125effe",
		"sha512": "faa62fb1c2b73bd92e5648ef43e680a624f1199f48f10c302454c9dfb4fd99e8880b2778a8a14d4fc6fb91b1f9c0bf3440b100030302ac018a932d54fb03a46f",
	}
}

// sign signs bodies other than testBody.
func sign(body string) string {
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// listener is a running listen command.
type listener struct {
	lines <-chan string
	done  <-chan int
	stop  context.CancelFunc
	errs  *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func startListen(t *testing.T, args ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	lines, done := make(chan string, 100), make(chan int, 1)
	l := &listener{lines: lines, done: done, stop: cancel, errs: new(syncBuffer)}
	var wg sync.WaitGroup
	wg.Go(func() {
		code := cli.Run(ctx, append([]string{"listen"}, args...), cli.Streams{In: strings.NewReader(""), Out: w, Err: l.errs})
		w.Close()
		done <- code
	})
	wg.Go(func() {
		scanner := bufio.NewScanner(r)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
		close(lines)
	})
	t.Cleanup(func() {
		cancel()
		// Drain the output, so that the command can exit.
		for range lines {
		}
		wg.Wait()
	})
	return l
}

func (l *listener) line(t *testing.T) string {
	t.Helper()
	select {
	case line, ok := <-l.lines:
		if !ok {
			t.Fatalf("the output ended; standard error: %s", l.errs)
		}
		return line
	case <-time.After(10 * time.Second):
		t.Fatalf("timed out waiting for a line; standard error: %s", l.errs)
	}
	return ""
}

func (l *listener) code(t *testing.T) int {
	t.Helper()
	select {
	case code := <-l.done:
		return code
	case <-time.After(10 * time.Second):
		t.Fatal("listen does not exit")
		return -1
	}
}

// callback reads the callback from the first line.
func (l *listener) callback(t *testing.T) string {
	t.Helper()
	callback, ok := strings.CutPrefix(l.line(t), "listening as ")
	if !ok {
		t.Fatal("the first line does not name the callback")
	}
	return callback
}

func post(t *testing.T, callback, body string, header map[string]string) {
	t.Helper()
	status, err := deliver(t.Context(), callback, body, header)
	if err != nil || status/100 != 2 {
		t.Fatalf("the delivery got status %d, %v", status, err)
	}
}

func intentOf(mode, topic, challenge string) url.Values {
	return url.Values{"hub.mode": {mode}, "hub.topic": {topic}, "hub.challenge": {challenge}, "hub.lease_seconds": {"864000"}}
}

func TestListenChecksSignaturesOfEveryMethod(t *testing.T) {
	l := startListen(t, "--secret", testSecret)
	callback := l.callback(t)
	n := 0
	send := func(header, want string) {
		t.Helper()
		n++
		headers := map[string]string{"Content-Type": "application/json", "X-Hub-Message-Id": fmt.Sprintf("1-%d", n)}
		if header != "" {
			headers["X-Hub-Signature"] = header
		}
		post(t, callback, testBody, headers)
		line := l.line(t)
		for _, w := range []string{fmt.Sprintf("message 1-%d", n), "application/json", "12 bytes", "signature " + want} {
			if !strings.Contains(line, w) {
				t.Errorf("%q: got %q, expected %q in it", header, line, w)
			}
		}
		if body := l.line(t); body != `    {"a": "ä"}` {
			t.Errorf("got body %q", body)
		}
	}
	for method, digest := range signatures() {
		send(method+"="+digest, "ok ("+method+")")
		send(strings.ToUpper(method)+"="+strings.ToUpper(digest), "ok ("+method+")")
		flipped := "0"
		if digest[0] == '0' {
			flipped = "1"
		}
		send(method+"="+flipped+digest[1:], "bad")
		send(method+"="+digest[:len(digest)-2], "bad")
	}
	send("", "absent")
	send("md5=00", "bad")
	send("sha256", "bad")
	send("sha256=zz", "bad")
}

func TestListenSubscribesAndEndsAfterTheWantedMessages(t *testing.T) {
	topicOf := func(hub *scriptedHub) string { return hub.URL + "/topics/news" }
	var hub *scriptedHub
	problems := make(chan error, 10)
	var work sync.WaitGroup
	hub = newScriptedHub(t, func(w http.ResponseWriter, r request) {
		w.WriteHeader(http.StatusAccepted)
		mode, callback := r.Form.Get("hub.mode"), r.Form.Get("hub.callback")
		if r.Form.Get("hub.secret") != testSecret && mode == "subscribe" || r.Form.Get("hub.topic") != topicOf(hub) {
			problems <- fmt.Errorf("the hub received %v", r.Form)
		}
		work.Go(func() {
			status, body, err := ask(context.Background(), callback, intentOf(mode, topicOf(hub), "ch<a>llenge"))
			if err != nil || status != 200 || body != "ch<a>llenge" {
				problems <- fmt.Errorf("%s: got %d %q %w", mode, status, body, err)
			}
			if mode != "subscribe" {
				return
			}
			if status, _, _ := ask(context.Background(), callback, intentOf("subscribe", "http://other.example/", "x")); status != 404 {
				problems <- fmt.Errorf("an unknown intent got status %d", status)
			}
			if status, _, _ := ask(context.Background(), callback, intentOf("unsubscribe", topicOf(hub), "x")); status != 404 {
				problems <- fmt.Errorf("an unrequested unsubscribe got status %d", status)
			}
			deliverAll(hub.URL, topicOf(hub), callback, problems)
		})
	})
	l := startListen(t, "--hub", hub.URL+"/hub", "--topic", "news", "--secret", testSecret, "--count", "2", "--timeout", "20s", "--json")
	var got []string
	for range 5 {
		var d struct {
			MessageID   string `json:"message_id"`
			Topic       string `json:"topic"`
			ContentType string `json:"content_type"`
			Size        int    `json:"size"`
			Signature   string `json:"signature"`
			Duplicate   bool   `json:"duplicate"`
			Body        string `json:"body"`
		}
		line := l.line(t)
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		got = append(got, fmt.Sprintf("%s %s %s %v", d.MessageID, d.Body, d.Signature, d.Duplicate))
		if d.Topic != topicOf(hub) || d.ContentType != "text/plain" || d.Size != len(d.Body) {
			t.Errorf("got %+v", d)
		}
	}
	want := "1-1 one ok false,1-1 one ok true,1-2 forged bad false,1-2 unsigned absent false,1-2 two ok false"
	if strings.Join(got, ",") != want {
		t.Errorf("got\n%s\nexpected\n%s", strings.Join(got, ","), want)
	}
	if code := l.code(t); code != 0 {
		t.Errorf("exit code %d: %s", code, l.errs)
	}
	work.Wait()
	close(problems)
	for p := range problems {
		t.Error(p)
	}
	modes := ""
	for _, r := range hub.requests() {
		modes += r.Form.Get("hub.mode") + " "
	}
	if modes != "subscribe unsubscribe " {
		t.Errorf("the hub received %s", modes)
	}
}

// deliverAll delivers a message, its duplicate, a forged and an unsigned message, and a second message.
func deliverAll(hub, topic, callback string, problems chan<- error) {
	for i, signature := range []string{sign("one"), sign("one"), "sha256=00", "", sign("two")} {
		body := []string{"one", "one", "forged", "unsigned", "two"}[i]
		header := map[string]string{
			"Content-Type": "text/plain", "X-Hub-Message-Id": []string{"1-1", "1-1", "1-2", "1-2", "1-2"}[i],
			"Link": fmt.Sprintf(`<%s/hub>; rel="hub", <%s>; rel="self"`, hub, topic),
		}
		if signature != "" {
			header["X-Hub-Signature"] = signature
		}
		if status, err := deliver(context.Background(), callback, body, header); err != nil || status/100 != 2 {
			problems <- fmt.Errorf("delivery %d got status %d, %w", i, status, err)
		}
	}
}

func TestListenFailsWhenTimeIsUp(t *testing.T) {
	l := startListen(t, "--count", "2", "--timeout", "300ms")
	post(t, l.callback(t), "one", nil)
	if code := l.code(t); code != 5 || !strings.Contains(l.errs.String(), "timed out after 300ms") {
		t.Errorf("exit code %d: %s", code, l.errs)
	}
}

func TestListenEndsOnInterrupt(t *testing.T) {
	for args, want := range map[string]int{"": 0, "--count=1": 130} {
		l := startListen(t, strings.Fields(args)...)
		l.callback(t)
		l.stop()
		if code := l.code(t); code != want {
			t.Errorf("%q: exit code %d, expected %d", args, code, want)
		}
	}
}

func TestListenReportsADenial(t *testing.T) {
	var hub *scriptedHub
	var work sync.WaitGroup
	hub = newScriptedHub(t, func(w http.ResponseWriter, r request) {
		w.WriteHeader(http.StatusAccepted)
		work.Go(func() {
			_, _, _ = ask(context.Background(), r.Form.Get("hub.callback"), url.Values{
				"hub.mode": {"denied"}, "hub.topic": {r.Form.Get("hub.topic")}, "hub.reason": {"not for you\x1b[2J"},
			})
		})
	})
	l := startListen(t, "--hub", hub.URL, "--topic", "news", "--timeout", "20s")
	if code := l.code(t); code != 4 || !strings.Contains(l.errs.String(), "not for you") || strings.Contains(l.errs.String(), "\x1b") {
		t.Errorf("exit code %d: %q", code, l.errs)
	}
	work.Wait()
}

func TestListenShowsBodiesSafely(t *testing.T) {
	l := startListen(t)
	callback := l.callback(t)
	for _, tt := range []struct{ body, want string }{
		{"plain\x1b[31m", "    plain·[31m"},
		{"\xff\xfe\x00", "    (binary)"},
		{strings.Repeat("ä", 300), "    " + strings.Repeat("ä", 200)},
	} {
		post(t, callback, tt.body, nil)
		l.line(t)
		if got := l.line(t); got != tt.want {
			t.Errorf("got %q, expected %q", got, tt.want)
		}
	}
	if got := l.line(t); got != "    … 200 bytes more" {
		t.Errorf("got %q", got)
	}
}

func TestListenWithoutTopicConfirmsAnyIntent(t *testing.T) {
	l := startListen(t)
	callback := l.callback(t)
	status, body, err := ask(t.Context(), callback, intentOf("subscribe", "http://t.example/", "abc"))
	if err != nil || status != 200 || body != "abc" {
		t.Errorf("got %d %q %v", status, body, err)
	}
	if line := l.line(t); line != "confirmed: subscribe http://t.example/ for 10d" {
		t.Errorf("got %q", line)
	}
	if status, _, _ := ask(t.Context(), callback, intentOf("nonsense", "http://t.example/", "abc")); status != 400 {
		t.Errorf("an unknown mode got status %d", status)
	}
}

// confirmingHub accepts every intent and asks the callback to confirm it. It records what was
// confirmed, subscribe first.
func confirmingHub(t *testing.T) (hub *scriptedHub, confirmed func() string) {
	var mu sync.Mutex
	var work sync.WaitGroup
	var modes []string
	hub = newScriptedHub(t, func(w http.ResponseWriter, r request) {
		w.WriteHeader(http.StatusAccepted)
		work.Go(func() {
			status, _, err := ask(context.Background(), r.Form.Get("hub.callback"), intentOf(r.Form.Get("hub.mode"), r.Form.Get("hub.topic"), "x"))
			mu.Lock()
			defer mu.Unlock()
			modes = append(modes, fmt.Sprintf("%s %d %v ", r.Form.Get("hub.mode"), status, err))
		})
	})
	return hub, func() string {
		work.Wait()
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(modes) // the answers to the hub's questions arrive in any order
		return strings.Join(modes, "")
	}
}

// However listen ends, it leaves no subscription behind; with --keep it leaves one and says how to end it. What cannot be ended is
// told, too.
func TestListenLeavesNoSubscriptionBehind(t *testing.T) {
	const both = "subscribe 200 <nil> unsubscribe 200 <nil> "
	for name, c := range map[string]struct {
		args      []string
		stop      bool
		code      int
		confirmed string
		last      string
	}{
		"interrupted":                {nil, true, 0, both, "unsubscribed"},
		"interrupted while counting": {[]string{"--count", "1"}, true, 130, both, "unsubscribed"},
		"timed out":                  {[]string{"--count", "1", "--timeout", "300ms"}, false, 5, both, "unsubscribed"},
		"kept":                       {[]string{"--keep"}, true, 0, "subscribe 200 <nil> ", "end it with: quorumhub unsubscribe news http://127.0.0.1:"},
	} {
		t.Run(name, func(t *testing.T) {
			hub, confirmed := confirmingHub(t)
			l := startListen(t, append([]string{"--hub", hub.URL, "--topic", "news"}, c.args...)...)
			l.callback(t)
			for range 2 { // that it asked, and that it confirmed, in any order
				l.line(t)
			}
			if c.stop {
				l.stop()
			}
			code := l.code(t)
			last := ""
			for line := range l.lines {
				last = line
			}
			if got := confirmed(); code != c.code || got != c.confirmed || !strings.Contains(last, c.last) {
				t.Errorf("exit code %d after %q, the last line %q; want %d, %q, %q; %s", code, got, last, c.code, c.confirmed, c.last, l.errs)
			}
		})
	}
	t.Run("the hub is gone", func(t *testing.T) {
		hub, confirmed := confirmingHub(t)
		l := startListen(t, "--hub", hub.URL, "--topic", "news")
		l.callback(t)
		l.line(t)
		l.line(t)
		confirmed()
		hub.Close()
		l.stop()
		if code := l.code(t); code != 3 || !strings.Contains(l.errs.String(), "may stay until its lease ends; end it with: quorumhub unsubscribe news") {
			t.Errorf("exit code %d: %s", code, l.errs)
		}
	})
}
