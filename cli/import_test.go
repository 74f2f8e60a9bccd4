package cli_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

const twoRecords = `{"topics":[{"topic":"a"}],"subscriptions":[{"hubTopic":"a","hubCallback":"http://x/","hubSecret":"s3cret"}]}`

// importing responds to an import as a hub does.
func importing(w http.ResponseWriter, r request) {
	if strings.Contains(r.Body, `"topics":["a"]`) && strings.Contains(r.Body, "http://x/") {
		fmt.Fprint(w, `{"topics":[{"topic":"a","outcome":"created"}],"subscriptions":[{"topic":"a","callback":"http://x/","outcome":"created","id":"s-1"}],"dry_run":false}`)
		return
	}
	w.WriteHeader(http.StatusBadRequest)
}

// A request is repeated if a hub that has responded before is briefly unavailable, but not if it refuses or responds with something else.
func TestImportMeetsTheHub(t *testing.T) {
	var asked atomic.Int32
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, request)
		code   int
		asked  int32
		out    string
		err    string
	}{
		"at once": {importing, 0, 1, "created   subscription a to http://x/ (s-1)", ""},
		"choosing a leader": {func(w http.ResponseWriter, r request) {
			if asked.Load() == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			importing(w, r)
		}, 0, 2, "created   topic a", ""},
		"not allowed":    {answering(403, "", "forbidden"), 4, 1, "not sent  topic a", "run the same command again"},
		"something else": {answering(200, "", `{"topics":[]}`), 1, 1, "not sent  subscription a to http://x/", "unexpected response"},
		"an older hub":   {answering(404, "", "no such path"), 4, 1, "subscriptions: 0 created, 0 unchanged, 1 not sent", "404"},
		"no JSON at all": {answering(200, "", "<html>"), 1, 1, "not sent", "unexpected response"},
		"half an answer": {answering(200, "", `{"topics":[{"topic":"a","outcome":"created"}],"subscriptions":[]}`), 1, 1, "not sent", "unexpected response"},
	} {
		asked.Store(0)
		hub := newScriptedHub(t, func(w http.ResponseWriter, r request) {
			asked.Add(1)
			c.answer(w, r)
		})
		got := run(t, twoRecords, "import", "--from", "ballerina", "--hub", hub.URL)
		if got.code != c.code || asked.Load() != c.asked || !strings.Contains(got.out, c.out) || !strings.Contains(got.err, c.err) {
			t.Errorf("%s: exit code %d after %d requests, %s%s; want %d after %d with %q and %q", name, got.code, asked.Load(), got.out, got.err, c.code, c.asked, c.out, c.err)
		}
		if strings.Contains(got.out+got.err, "s3cret") {
			t.Errorf("%s: the secret is printed", name)
		}
	}
	gone := newScriptedHub(t, importing)
	gone.Close()
	if got := run(t, twoRecords, "import", "--from", "ballerina", "--hub", gone.URL); got.code != 3 || !strings.Contains(got.out, "not sent  topic a") {
		t.Errorf("an unreachable hub: %+v", got)
	}
	for _, args := range [][]string{{"--from", "kafka"}, {}, {"--from", "mosip", "--batch", "0"}, {"--from", "mosip", "--url", "ftp://x/"}, {"--from", "mosip", "--url", "http://x/", "file"}, {"--from", "mosip", "/no/such/file"}} {
		if got := run(t, twoRecords, append([]string{"import", "--hub", gone.URL}, args...)...); got.code != 2 || strings.Contains(got.err, "panic") {
			t.Errorf("%v: %+v, want exit code 2", args, got)
		}
	}
}
