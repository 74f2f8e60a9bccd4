package cli_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// cuttingNode accepts requests and closes the connection instead of responding, so the client cannot know what became of them.
func cuttingNode(t *testing.T) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

// Every command goes on with another node when the first one is down, whatever it does: the request was never sent.
func TestEveryCommandTriesTheNextNode(t *testing.T) {
	gone := newScriptedHub(t, accepted)
	gone.Close()
	for line, args := range hubCommands(t) {
		hub := newScriptedHub(t, answering(400, "", "no"))
		if line == "cluster leave" {
			if got := run(t, "", append(args, "--hub", gone.URL, "--hub", hub.URL)...); got.code != 2 || !strings.Contains(got.err, "expected the one that is to leave") {
				t.Errorf("%s: %+v", line, got)
			}
			continue
		}
		for _, list := range [][]string{{"--hub", gone.URL + "/hub," + hub.URL + "/hub"}, {"--hub", gone.URL, "--hub", hub.URL}} {
			if got := run(t, "", append(args, list...)...); got.code != 4 || !strings.Contains(got.err, "400 no") {
				t.Errorf("%s: %+v", line, got)
			}
		}
		for _, r := range hub.requests() {
			if topic := r.Form.Get("hub.topic") + r.Query.Get("hub.topic"); topic != "" && topic != hub.URL+"/topics/news" {
				t.Errorf("%s: the second node was asked for topic %s", line, topic)
			}
		}
	}
}

// When a node may have acted on a request, or answers that it cannot serve, the next one is asked only for what has the same effect
// twice as once.
func TestOnlySafeRequestsAreRepeated(t *testing.T) {
	unsafe := []string{
		"subscriptions rewind", "subscriptions end", "dead-letters replay", "dead-letters drop", "auth keys create", "auth keys revoke", "auth rules remove",
		"keys rotate", "keys drop", "cluster add", "cluster remove", "cluster transfer-leadership", "topics deregister",
	}
	isUnsafe := func(line string) bool {
		for _, u := range unsafe {
			if strings.HasPrefix(line, u) {
				return true
			}
		}
		return false
	}
	busy := newScriptedHub(t, answering(503, "", "no leader"))
	for line, args := range hubCommands(t) {
		if line == "cluster leave" {
			continue
		}
		cut, asked := cuttingNode(t)
		for name, first := range map[string]string{"cut off": cut, "busy": busy.URL} {
			hub := newScriptedHub(t, answering(400, "", "no"))
			got := run(t, "", append(args, "--hub", first+","+hub.URL)...)
			repeated := len(hub.requests()) > 0
			if want := !isUnsafe(line); repeated != want || want && got.code != 4 || !want && got.code != 3 {
				t.Errorf("%s, %s: repeated %t, want %t; %+v", line, name, repeated, want, got)
			}
			if !repeated && !strings.Contains(got.err, first) {
				t.Errorf("%s, %s: does not name the node: %s", line, name, got.err)
			}
		}
		if asked.Load() == 0 {
			t.Errorf("%s did not ask the first node", line)
		}
	}
}

// A publish through several nodes has an idempotency key of its own, the same at each node, so the message cannot exist twice.
func TestAPublishThroughSeveralNodesIsOneMessage(t *testing.T) {
	cut, _ := cuttingNode(t)
	busy := newScriptedHub(t, answering(503, "", "no leader"))
	hub := newScriptedHub(t, accepted)
	var keys []string
	for range 2 {
		if got := run(t, "", "publish", "news", "--data", "x", "--hub", cut+","+busy.URL+","+hub.URL); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	for _, r := range append(busy.requests(), hub.requests()...) {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
	}
	if len(keys) != 4 || keys[0] == "" || keys[0] != keys[2] || keys[1] != keys[3] || keys[0] == keys[1] {
		t.Errorf("the keys are %q", keys)
	}
	run(t, "", "publish", "news", "--data", "x", "--hub", hub.URL)
	if asked := hub.requests(); asked[len(asked)-1].Header.Get("Idempotency-Key") != "" {
		t.Error("a publish to one node got a key")
	}
}

func TestEveryNodeThatFailedIsNamed(t *testing.T) {
	busy := newScriptedHub(t, answering(503, "Retry-After: 2", "no leader"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + l.Addr().String()
	l.Close()
	got := run(t, "", "topics", "--hub", gone+","+busy.URL)
	if got.code != 3 || !strings.Contains(got.err, gone+" is unreachable") || !strings.Contains(got.err, busy.URL+": hub unavailable: 503 no leader (retry in 2 s)") ||
		strings.Count(got.err, "\n") != 1 {
		t.Errorf("%+v", got)
	}
	if got := run(t, "", "topics", "--hub", busy.URL+",127.0.0.1:8080"); got.code != 2 || !strings.Contains(got.err, `--hub: got "127.0.0.1:8080"`) {
		t.Errorf("%+v", got)
	}
}

// listen accepts the confirmation of the topic at the node that took the request.
func TestListenSubscribesThroughTheNextNode(t *testing.T) {
	gone := newScriptedHub(t, accepted)
	gone.Close()
	hub, confirmed := confirmingHub(t)
	l := startListen(t, "--hub", gone.URL+","+hub.URL, "--topic", "news")
	l.callback(t)
	var seen sync.Map
	for range 2 {
		seen.Store(strings.Fields(l.line(t))[0], true)
	}
	if _, ok := seen.Load("confirmed:"); !ok {
		t.Error("the intent was not confirmed")
	}
	l.stop()
	if code := l.code(t); code != 0 || confirmed() != "subscribe 200 <nil> unsubscribe 200 <nil> " {
		t.Errorf("exit code %d after %s: %s", code, confirmed(), l.errs)
	}
}
