package cli_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestTopicCommands(t *testing.T) {
	answer := func(w http.ResponseWriter, r request) {
		switch {
		case r.Form.Get("hub.mode") == "register" && strings.HasSuffix(r.Form.Get("hub.topic"), "/taken"):
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte("topic \"taken\" is already registered\n"))
		case strings.HasSuffix(r.Form.Get("hub.topic"), "/mosip"):
			_, _ = w.Write([]byte("hub.mode=denied&hub.reason=Publisher is not authorized"))
		default:
			_, _ = w.Write([]byte("hub.mode=accepted"))
		}
	}
	for _, tc := range []struct {
		args              []string
		mode, topic, says string
		code              int
	}{
		{[]string{"register", "news/eu"}, "register", "{hub}/topics/news/eu", "registered {hub}/topics/news/eu\n", 0},
		{[]string{"register", "https://example.com/feed"}, "register", "https://example.com/feed", "registered https://example.com/feed\n", 0},
		{[]string{"register", "news", "--json"}, "register", "{hub}/topics/news", "{\n  \"registered\": true,\n  \"topic\": \"{hub}/topics/news\"\n}\n", 0},
		{[]string{"deregister", "news"}, "deregister", "{hub}/topics/news", "deregistered {hub}/topics/news\n", 0},
		{[]string{"register", "taken"}, "register", "{hub}/topics/taken", "already registered", 4},
		{[]string{"register", "mosip"}, "register", "{hub}/topics/mosip", "Publisher is not authorized", 4},
		{[]string{"register", "ftp://x"}, "", "", "expected an http(s) URL or the name of a topic", 2},
		{[]string{"register"}, "", "", "topic", 2},
	} {
		hub := newScriptedHub(t, answer)
		got := run(t, "", append(append([]string{"topics"}, tc.args...), "--hub", hub.URL)...)
		says := strings.ReplaceAll(tc.says, "{hub}", hub.URL)
		if got.code != tc.code || tc.code == 0 && got.out != says || tc.code != 0 && !strings.Contains(got.err, says) {
			t.Errorf("%v: got %+v, want %q", tc.args, got, says)
		}
		if tc.mode == "" {
			continue
		}
		form := hub.requests()[0].Form
		if form.Get("hub.mode") != tc.mode || form.Get("hub.topic") != strings.ReplaceAll(tc.topic, "{hub}", hub.URL) {
			t.Errorf("%v sends %v", tc.args, form)
		}
	}
}

// A lease other than the one that was asked for is not granted in silence.
func TestAnotherLeaseThanAskedFor(t *testing.T) {
	for _, tc := range []struct{ asked, granted, says string }{
		{"1s", "300", "the lease will be 5m, not 1s"},
		{"90d", "2592000", "the lease will be 30d, not 90d"},
		{"10d", "864000", ""},
		{"0", "864000", ""},
		{"1h", "", ""}, // another hub does not say
	} {
		hub := newScriptedHub(t, func(w http.ResponseWriter, r request) {
			if tc.granted != "" {
				w.Header().Set("X-Hub-Lease-Seconds", tc.granted)
			}
			accepted(w, r)
		})
		got := run(t, "", "subscribe", "news", "http://127.0.0.1:9/cb", "--lease", tc.asked, "--hub", hub.URL)
		if got.code != 0 || tc.says == "" && got.err != "" || !strings.Contains(got.err, tc.says) {
			t.Errorf("asked %s, granted %s: %+v, want %q", tc.asked, tc.granted, got, tc.says)
		}
	}
}
