package cli_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPublishSendsContentAsItIs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "feed.json")
	if err := os.WriteFile(file, []byte("{\"a\": 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, stdin string
		args        []string
		topic, body string
		contentType string
	}{
		{"text", "", []string{"news", "--data", "héllo"}, "{hub}/topics/news", "héllo", "text/plain; charset=utf-8"},
		{"empty text", "", []string{"news", "--data="}, "{hub}/topics/news", "", "text/plain; charset=utf-8"},
		{"file", "", []string{"a b/c", "--file", file}, "{hub}/topics/a%20b/c", "{\"a\": 1}\n", "application/json"},
		{"standard input", "raw\x00bytes\n", []string{"news"}, "{hub}/topics/news", "raw\x00bytes\n", "application/octet-stream"},
		{"dash", "raw", []string{"news", "-f", "-", "-t", "x/y"}, "{hub}/topics/news", "raw", "x/y"},
		{"foreign topic", "", []string{"https://example.org/feed?a=b&c=d", "-d", "x"}, "https://example.org/feed?a=b&c=d", "x", "text/plain; charset=utf-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			hub := newScriptedHub(t, accepted)
			got := run(t, tt.stdin, append([]string{"publish", "--hub", hub.URL + "/hub", "-k", "key-1"}, tt.args...)...)
			if got.code != 0 || !strings.Contains(got.out, "7-42") {
				t.Fatalf("got %+v", got)
			}
			r := hub.requests()[0]
			topic := strings.ReplaceAll(tt.topic, "{hub}", hub.URL)
			if r.Method != "POST" || r.Path != "/hub" || r.Query.Get("hub.mode") != "publish" || r.Query.Get("hub.topic") != topic {
				t.Errorf("got %s %s %v, expected hub.topic %s", r.Method, r.Path, r.Query, topic)
			}
			if r.Body != tt.body || r.Header.Get("Content-Type") != tt.contentType || r.Header.Get("Idempotency-Key") != "key-1" {
				t.Errorf("got body %q, header %v", r.Body, r.Header)
			}
		})
	}
}

func TestThinPublishSendsTheURLOnly(t *testing.T) {
	hub := newScriptedHub(t, answering(http.StatusNoContent, "", ""))
	got := run(t, "", "publish", "https://example.org/feed", "--thin", "--hub", hub.URL, "--json")
	if got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	r := hub.requests()[0]
	want := url.Values{"hub.mode": {"publish"}, "hub.url": {"https://example.org/feed"}}
	if r.Path != "/hub" || r.Form.Encode() != want.Encode() || len(r.Query) != 0 {
		t.Errorf("got %s ? %v with form %v", r.Path, r.Query, r.Form)
	}
	var out struct {
		Topic string `json:"topic"`
		Thin  bool   `json:"thin"`
	}
	decode(t, got.out, &out)
	if out.Topic != "https://example.org/feed" || !out.Thin {
		t.Errorf("got %s", got.out)
	}
}

func TestSubscribeAndUnsubscribeSendTheForm(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		want map[string]string
	}{
		{[]string{"subscribe", "news", "http://127.0.0.1:9/cb?a=b"}, map[string]string{"hub.mode": "subscribe", "hub.topic": "{hub}/topics/news", "hub.callback": "http://127.0.0.1:9/cb?a=b"}},
		{
			[]string{"subscribe", "http://t.example/", "http://127.0.0.1:9/cb", "--lease", "1d12h", "--secret", "s", "--start", "earliest", "--mode", "keyed", "--window", "8", "--key", "json:/id", "--group", "g", "--rate", "2.5"},
			map[string]string{"hub.mode": "subscribe", "hub.topic": "http://t.example/", "hub.callback": "http://127.0.0.1:9/cb", "hub.lease_seconds": "129600", "hub.secret": "s", "hub.start": "earliest",
				"hub.delivery_mode": "keyed", "hub.delivery_window": "8", "hub.delivery_key": "json:/id", "hub.consumer_group": "g", "hub.rate": "2.5"},
		},
		{
			[]string{"subscribe", "news", "http://127.0.0.1:9/cb", "--secret-file", secret},
			map[string]string{"hub.mode": "subscribe", "hub.topic": "{hub}/topics/news", "hub.callback": "http://127.0.0.1:9/cb", "hub.secret": "from a file"},
		},
		{[]string{"subscribe", "news", "http://127.0.0.1:9/cb", "--lease", "0"}, map[string]string{"hub.mode": "subscribe", "hub.topic": "{hub}/topics/news", "hub.callback": "http://127.0.0.1:9/cb"}},
		{[]string{"subscribe", "news", "http://127.0.0.1:9/cb", "--lease="}, map[string]string{"hub.mode": "subscribe", "hub.topic": "{hub}/topics/news", "hub.callback": "http://127.0.0.1:9/cb"}},
		{[]string{"subscribe", "news", "http://127.0.0.1:9/cb", "--signature-method", "sha1"}, map[string]string{"hub.mode": "subscribe", "hub.topic": "{hub}/topics/news", "hub.callback": "http://127.0.0.1:9/cb", "hub.signature_method": "sha1"}},
		{[]string{"subscribe", "news", "http://127.0.0.1:9/cb", "--content", "reference"}, map[string]string{"hub.mode": "subscribe", "hub.topic": "{hub}/topics/news", "hub.callback": "http://127.0.0.1:9/cb", "hub.content": "reference"}},
		{[]string{"unsubscribe", "news", "http://127.0.0.1:9/cb"}, map[string]string{"hub.mode": "unsubscribe", "hub.topic": "{hub}/topics/news", "hub.callback": "http://127.0.0.1:9/cb"}},
	}
	for _, tt := range tests {
		hub := newScriptedHub(t, accepted)
		got := run(t, "", append(tt.args, "--hub", hub.URL+"/hub/")...)
		if got.code != 0 || !strings.Contains(got.out, "confirm") {
			t.Errorf("%v: got %+v", tt.args, got)
			continue
		}
		form := hub.requests()[0].Form
		if len(form) != len(tt.want) {
			t.Errorf("%v: got %v", tt.args, form)
		}
		for name, value := range tt.want {
			if value = strings.ReplaceAll(value, "{hub}", hub.URL); form.Get(name) != value {
				t.Errorf("%v: %s is %q, expected %q", tt.args, name, form.Get(name), value)
			}
		}
	}
}

func TestListsFollowEveryPage(t *testing.T) {
	answer := func(w http.ResponseWriter, r request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.Path + " " + r.Query.Get("cursor") {
		case "/v1/topics ":
			_, _ = w.Write([]byte(`{"items":[{"name":"news","head_offset":12,"first_offset":3,"subscriptions":2,"extra":"kept"}],"next":"p 2"}`))
		case "/v1/topics p 2":
			_, _ = w.Write([]byte(`{"items":[{"name":"https://x.example/\u001b[31m","head_offset":0,"first_offset":1,"subscriptions":0}],"next":""}`))
		case "/v1/subscriptions ":
			_, _ = w.Write([]byte(`{"items":[{"id":"s-1","topic":"news","callback":"http://127.0.0.1:9/cb","state":"active","node":"node-1","lease_expires_at":"` + time.Now().Add(240*time.Hour).UTC().Format(time.RFC3339Nano) + `","cursor":4,"lag":8,"mode":"ordered"}],"next":""}`))
		}
	}
	hub := newScriptedHub(t, answer)
	got := run(t, "", "topics", "--hub", hub.URL)
	if got.code != 0 || !strings.Contains(got.out, "news") || !strings.Contains(got.out, "https://x.example/") {
		t.Fatalf("got %+v", got)
	}
	if strings.Contains(got.out, "\x1b") {
		t.Error("an escape sequence from the hub reaches the terminal")
	}
	if fields := strings.Fields(strings.Split(got.out, "\n")[1]); strings.Join(fields, " ") != "news 10 3 12 2 - active" {
		t.Errorf("got %v", fields)
	}

	got = run(t, "", "topics", "--hub", hub.URL, "--json")
	var list struct {
		Items []map[string]any `json:"items"`
	}
	decode(t, got.out, &list)
	if len(list.Items) != 2 || list.Items[0]["extra"] != "kept" {
		t.Errorf("got %s", got.out)
	}

	got = run(t, "", "subscriptions", "--hub", hub.URL, "--topic", "news", "--callback", "http://127.0.0.1:9/cb")
	for _, want := range []string{"s-1", "active", "node-1", "LEASE ENDS", "in 10 d"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%s is missing in %s", want, got.out)
		}
	}
	asked := hub.requests()
	last := asked[len(asked)-1]
	if last.Query.Get("topic") != "news" || last.Query.Get("callback") != "http://127.0.0.1:9/cb" {
		t.Errorf("the hub received %v", last.Query)
	}
}

func TestPagesThatDoNotEndAreAnError(t *testing.T) {
	hub := newScriptedHub(t, answering(200, "", `{"items":[],"next":"again"}`))
	if got := run(t, "", "topics", "--hub", hub.URL); got.code != 1 || !strings.Contains(got.err, "repeats") {
		t.Errorf("got %+v", got)
	}
}

func TestExitCodesTellWhatFailed(t *testing.T) {
	long := strings.Repeat("é", 100)
	gone := newScriptedHub(t, accepted)
	gone.Close()
	refusing := newScriptedHub(t, answering(400, "", "hub.topic: unknown topic \"x\"\nmore"))
	busy := newScriptedHub(t, answering(503, "Retry-After: 3", "no leader\n"))
	moved := newScriptedHub(t, answering(307, "Location: http://127.0.0.1:1/", ""))
	noHub := newScriptedHub(t, answering(200, "", "<html>"))
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 64<<20+1); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"unknown command", []string{"publsh"}, 2, "publsh"},
		{"missing argument", []string{"publish"}, 2, "topic"},
		{"two contents", []string{"publish", "x", "-d", "a", "-f", "b"}, 2, "can't be used together"},
		{"thin with content", []string{"publish", "x", "-d", "a", "--thin"}, 2, "can't be used together"},
		{"thin with key", []string{"publish", "x", "-k", "a", "--thin"}, 2, "--idempotency-key"},
		{"missing file", []string{"publish", "x", "-f", "/nonexistent"}, 2, "--file"},
		{"too much", []string{"publish", "x", "-f", big}, 2, "larger than 67108864 bytes"},
		{"other scheme", []string{"publish", "ftp://x/y", "-d", "a"}, 2, "TOPIC: got \"ftp://x/y\""},
		{"bad hub", []string{"topics", "--hub", "127.0.0.1:8080"}, 2, "--hub"},
		{"long secret", []string{"subscribe", "x", "http://c/", "--secret", long}, 2, "200 bytes long, expected at most 199"},
		{"bad lease", []string{"subscribe", "x", "http://c/", "--lease", "soon"}, 2, "expected a duration"},
		{"short lease", []string{"subscribe", "x", "http://c/", "--lease", "10ms"}, 2, "--lease"},
		{"bad configuration", []string{"check", "--set", "delivery.timeuot=1s"}, 2, "delivery.timeout"},
		{"too many nodes", []string{"dev", "--nodes", "6"}, 2, "expected at most 5"},
		{"no nodes", []string{"dev", "--nodes", "0"}, 2, "--nodes"},
		{"dev for others", []string{"dev", "--http", "0.0.0.0:0"}, 2, "loopback"},
		{"dev without port", []string{"dev", "--http", "127.0.0.1"}, 2, "HOST:PORT"},
		{"dev with an owned key", []string{"dev", "--http", "127.0.0.1:0", "--set", "data_dir=/x"}, 2, "data_dir is set for each node"},
		{"dev with an unknown key", []string{"dev", "--http", "127.0.0.1:0", "--set", "nonsense=1"}, 2, "unknown key"},
		{"unreachable", []string{"publish", "x", "-d", "a", "--hub", gone.URL}, 3, "is unreachable"},
		{"busy", []string{"publish", "x", "-d", "a", "--hub", busy.URL}, 3, "503 no leader (retry in 3 s)"},
		{"refused", []string{"subscribe", "x", "http://c/", "--hub", refusing.URL}, 4, "400 hub.topic: unknown topic \"x\"\n"},
		{"redirected", []string{"publish", "x", "-d", "a", "--hub", moved.URL}, 4, "307"},
		{"no hub", []string{"topics", "--hub", noHub.URL}, 1, "unexpected response"},
		{"listen refused", []string{"listen", "--topic", "x", "--hub", refusing.URL}, 4, "400"},
		{"listen everywhere", []string{"listen", "--addr", "0.0.0.0:0"}, 2, "--callback-url"},
		{"listen with a bad callback", []string{"listen", "--callback-url", "x"}, 2, "--callback-url"},
		{"unsubscribe from nothing", []string{"listen", "--unsubscribe-on-exit"}, 2, "--topic"},
		{"keep nothing", []string{"listen", "--keep"}, 2, "--keep needs --topic"},
		{"keep and leave", []string{"listen", "--topic", "x", "--keep", "--unsubscribe-on-exit"}, 2, "can't be used together"},
		{"keep a stream", []string{"listen", "--stream", "http://h/topics/x", "--keep"}, 2, "--stream makes no subscription"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := run(t, "", tt.args...)
			if got.code != tt.code || !strings.Contains(got.err, tt.want) {
				t.Errorf("got code %d, expected %d; said %q, expected %q in it", got.code, tt.code, got.err, tt.want)
			}
			if !strings.HasPrefix(got.err, "quorumhub: ") {
				t.Errorf("the error does not start with the program name: %q", got.err)
			}
		})
	}
}

func TestHelpListsEveryExitCodeAndEndsWell(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"publish", "--help"}} {
		got := run(t, "", args...)
		if got.code != 0 || got.out == "" || got.err != "" {
			t.Errorf("%v: got %+v", args, got)
		}
	}
	got := run(t, "", "--help")
	for _, want := range []string{"the hub is unreachable", "  130  ", "publish", "demo"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("the help lacks %q", want)
		}
	}
}

func TestVersionNamesTheToolchain(t *testing.T) {
	got := run(t, "", "version", "--json")
	var v map[string]any
	decode(t, got.out, &v)
	if got.code != 0 || !strings.HasPrefix(v["go"].(string), "go1.") || v["version"] == "" {
		t.Errorf("got %+v", got)
	}
	want := run(t, "", "version")
	if !strings.HasPrefix(want.out, "quorumhub ") || !strings.Contains(want.out, ", commit ") || !strings.Contains(want.out, ", go1.") {
		t.Errorf("got %+v", want)
	}
	for _, word := range []string{"-v", "-V", "--version", "-version"} {
		if got := run(t, "", word); got != want {
			t.Errorf("%s: got %+v, want %+v", word, got, want)
		}
	}
}

func TestHelpIsACommandToo(t *testing.T) {
	for _, c := range [][2][]string{
		{{"help"}, {"--help"}},
		{{"help", "publish"}, {"publish", "--help"}},
		{{"help", "cluster", "add"}, {"cluster", "add", "--help"}},
		{{"help", "--help"}, {"--help"}},
	} {
		got, want := run(t, "", c[0]...), run(t, "", c[1]...)
		if want.code != 0 || want.out == "" || got != want {
			t.Errorf("%v: got %+v, want %+v", c[0], got, want)
		}
	}
	if got := run(t, "", "help", "publsh"); got.code != 2 || !strings.Contains(got.err, "publsh") {
		t.Errorf("an unknown command: %+v", got)
	}
	if got := run(t, "", "check", "-v", "--set", "hub.name=x"); strings.HasPrefix(got.out, "quorumhub ") {
		t.Errorf("-v of a command is not the version: %+v", got)
	}
}
