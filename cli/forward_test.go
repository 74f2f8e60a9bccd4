package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// program is a local program to which deliveries are forwarded. It answers with the given functions in turn, then with 204.
type program struct {
	*httptest.Server
	mu      sync.Mutex
	got     []request
	answers []func(http.ResponseWriter)
}

func newProgram(t *testing.T, answers ...func(http.ResponseWriter)) *program {
	p := &program{answers: answers}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.got = append(p.got, request{Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header, Body: string(body)})
		answer := func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }
		if len(p.answers) > 0 {
			answer, p.answers = p.answers[0], p.answers[1:]
		}
		p.mu.Unlock()
		answer(w)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *program) bodies() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, r := range p.got {
		out = append(out, r.Body)
	}
	return strings.Join(out, " ")
}

// send delivers to a callback and returns the whole response.
func send(t *testing.T, callback, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, callback, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// The program gets what the hub sent, byte for byte, and the hub gets what the program answered.
func TestListenForwardsAndGivesTheAnswerBack(t *testing.T) {
	p := newProgram(t,
		func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			http.Error(w, "busy", http.StatusTooManyRequests)
		},
		func(w http.ResponseWriter) { w.Header().Set("Location", "/x"); w.WriteHeader(http.StatusFound) },
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusGone) },
	)
	l := startListen(t, "--forward-to", p.URL+"/hook?a=b%2Fc", "--count", "1", "--secret", testSecret)
	callback := l.callback(t)
	header := func() http.Header {
		return http.Header{"Content-Type": {"application/json"}, "X-Hub-Message-Id": {"1-1"}, "X-Hub-Signature": {sign("one")}, "Link": {`<http://h/t>; rel="self"`},
			"Webhook-Id": {"1-1"}, "Connection": {"X-Hop"}, "X-Hop": {"x"}}
	}
	for _, want := range []struct {
		status     int
		name, text string
		body       string
	}{{429, "Retry-After", "7", "busy\n"}, {302, "Location", "/x", ""}, {410, "", "", ""}, {204, "", "", ""}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, callback, strings.NewReader("one"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header()
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want.status || resp.Header.Get(want.name) != want.text || string(body) != want.body {
			t.Errorf("the hub got %d %v %q, want %+v", resp.StatusCode, resp.Header, body, want)
		}
		if line := l.line(t); !strings.Contains(line, fmt.Sprintf("signature ok (sha256)  answered %d in ", want.status)) {
			t.Errorf("printed %q", line)
		}
		l.line(t)
	}
	if code := l.code(t); code != 0 { // only the accepted message counts
		t.Errorf("exit code %d: %s", code, l.errs)
	}
	if len(p.got) != 4 {
		t.Fatalf("the program got %d deliveries", len(p.got))
	}
	for _, r := range p.got {
		if r.Method != "POST" || r.Path != "/hook?a=b%2Fc" || r.Body != "one" || r.Header.Get("X-Hop") != "" {
			t.Errorf("the program got %+v", r)
		}
		for name, values := range header() {
			if name != "Connection" && name != "X-Hop" && strings.Join(r.Header[name], ",") != strings.Join(values, ",") {
				t.Errorf("%s is %q, want %q", name, r.Header[name], values)
			}
		}
	}
}

// A program that does not respond is a 502 for the hub, which then tries again; intents stay with the listener, also while the program
// is slow.
func TestListenForwardsToAProgramThatIsNotThere(t *testing.T) {
	gone := newProgram(t)
	gone.Close()
	l := startListen(t, "--forward-to", gone.URL, "--json")
	var callback string
	eventually(t, "listen is ready", func() bool {
		line, _, _ := strings.Cut(l.errs.String(), "\n")
		var ok bool
		callback, ok = strings.CutPrefix(line, "listening as ")
		return ok
	})
	if resp, body := send(t, callback, "one", http.Header{}); resp.StatusCode != 502 || !strings.Contains(body, "did not respond") {
		t.Errorf("the hub got %d %q", resp.StatusCode, body)
	}
	var d struct {
		Status int    `json:"answer_status"`
		Error  string `json:"answer_error"`
	}
	decode(t, l.line(t), &d)
	if d.Status != 502 || !strings.Contains(d.Error, "connection refused") {
		t.Errorf("got %+v", d)
	}

	gate := make(chan struct{})
	slow := newProgram(t, func(http.ResponseWriter) { <-gate })
	l = startListen(t, "--forward-to", slow.URL)
	callback = l.callback(t)
	done := make(chan int, 1)
	go func() {
		status, _ := deliver(t.Context(), callback, "slow", nil)
		done <- status
	}()
	eventually(t, "the program has it", func() bool { return slow.bodies() == "slow" })
	if status, body, err := ask(t.Context(), callback, intentOf("subscribe", "http://t.example/", "abc")); err != nil || status != 200 || body != "abc" {
		t.Errorf("the intent got %d %q %v", status, body, err)
	}
	close(gate)
	if status := <-done; status != 200 {
		t.Errorf("the slow delivery got %d", status)
	}
	if got := run(t, "", "listen", "--forward-to", "localhost:3000"); got.code != 2 || !strings.Contains(got.err, "--forward-to: got") {
		t.Errorf("%+v", got)
	}
}

// Messages of a stream are repeated until the program accepts them, in order.
func TestListenForwardsAStream(t *testing.T) {
	refuse := func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }
	p := newProgram(t, refuse, refuse)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "id: 1-%d\ndata: {\"id\":\"1-%d\",\"content_type\":\"text/plain\",\"body\":\"m%d\"}\n\n", i, i, i)
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer srv.Close()
	l := startListen(t, "--stream", srv.URL+"/topics/news", "--forward-to", p.URL, "--count", "3", "--timeout", "20s")
	if code := l.code(t); code != 0 || p.bodies() != "m0 m0 m0 m1 m2" {
		t.Errorf("exit code %d, the program got %s: %s", code, p.bodies(), l.errs)
	}
	if r := p.got[0]; r.Header.Get("X-Hub-Message-Id") != "1-0" || r.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("the program got %+v", r)
	}
	p = newProgram(t, refuse, refuse, refuse, refuse, refuse)
	l = startListen(t, "--stream", srv.URL+"/topics/news", "--forward-to", p.URL, "--timeout", "300ms")
	begin := time.Now()
	if code := l.code(t); code != 5 || time.Since(begin) > 3*time.Second {
		t.Errorf("exit code %d after %s", code, time.Since(begin))
	}
}
