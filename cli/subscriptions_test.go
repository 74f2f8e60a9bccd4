package cli_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestSubscriptionCommands(t *testing.T) {
	answer := func(w http.ResponseWriter, r request) {
		w.Header().Set("X-Correlation-Id", "0123456789abcdef")
		switch {
		case r.Method == http.MethodDelete:
			w.Header().Set("X-Correlation-Id", "0123456789abcdef")
			w.WriteHeader(http.StatusNoContent)
		case strings.HasSuffix(r.Path, "/rewind") && strings.Contains(r.Body, "99"):
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"status":400,"detail":"to: 99 is past the end of the topic","param":"to"}`))
		case strings.HasSuffix(r.Path, "/rewind"):
			_, _ = w.Write([]byte(`{"id":"s-3","next_offset":4,"sent_again":7,"skipped":0,"dry_run":false}`))
		default:
			_, _ = w.Write([]byte(`{"id":"s-3","state":"paused"}`))
		}
	}
	for _, tc := range []struct {
		args []string
		asks string
		code int
		says string
	}{
		{[]string{"sign", "s-3", "--method", "sha1"}, "PUT /v1/subscriptions/s-3/signature {\"method\":\"sha1\"}", 0, "s-3 is signed with sha1\n"},
		{[]string{"sign", "s-3", "--method", "default"}, "PUT /v1/subscriptions/s-3/signature {\"method\":\"\"}", 0, "s-3 is signed with what its subscriber asked for, or else the hub's default\n"},
		{[]string{"sign", "s-3", "--method", "md5"}, "", 2, "--method"},
		{[]string{"pause", "s-3"}, "POST /v1/subscriptions/s-3/pause ", 0, "s-3 paused\n"},
		{[]string{"resume", "s-3"}, "POST /v1/subscriptions/s-3/resume ", 0, "s-3 resumed\n"},
		{[]string{"end", "s-3"}, "DELETE /v1/subscriptions/s-3 ", 0, "s-3 ended; the hub notifies its callback\n"},
		{[]string{"end", "s-3", "--json"}, "DELETE /v1/subscriptions/s-3 ", 0, "{}\n"},
		{[]string{"rewind", "s-3", "--to", "earliest"}, `POST /v1/subscriptions/s-3/rewind {"to":"earliest","dry_run":false}`, 0, "s-3 continues with message 4: 7 sent again, 0 skipped\n"},
		{[]string{"rewind", "s-3", "--to", "4", "--dry-run"}, `POST /v1/subscriptions/s-3/rewind {"to":"4","dry_run":true}`, 0, "s-3 would continue with message 4: 7 sent again, 0 skipped\n"},
		{[]string{"rewind", "s-3", "--to", "99"}, `POST /v1/subscriptions/s-3/rewind {"to":"99","dry_run":false}`, 3, "the hub refused: 400 to: 99 is past the end of the topic"},
		{[]string{"rewind", "s-3"}, "", 2, "--to"},
		{[]string{"pause", "news"}, "", 2, "expected the ID of a subscription such as s-17"},
	} {
		hub := newScriptedHub(t, answer)
		got := run(t, "", append(append([]string{"subscriptions"}, tc.args...), "--hub", hub.URL)...)
		asked := ""
		for _, r := range hub.requests() {
			asked += r.Method + " " + r.Path + " " + r.Body
		}
		if asked != tc.asks || !strings.Contains(got.out+got.err, tc.says) || (got.code == 0) != (tc.code == 0) {
			t.Errorf("%v: asked %q, got %+v", tc.args, asked, got)
		}
	}
}

// What the owner knows of the deliveries comes first, and what is replicated is explained beside it.
func TestShownProgress(t *testing.T) {
	const of = `{"id":"s-1","topic":"news","callback":"http://127.0.0.1:9/cb","state":"active","node":"node-1","mode":"ordered","cursor":8,"lag":4,"delivered":8,"oldest_undelivered_seconds":0,"options":{"window":1},`
	delivering := func(progress string) string {
		return `"delivery":{"state":"idle","window_now":1,"success_rate":1,"attempts":[],"progress":` + progress + `}}`
	}
	for name, c := range map[string]struct {
		rest string
		want []string
	}{
		"just delivered": {delivering(`{"acknowledged":12,"ahead":0,"lag":0,"head_offset":12,"delivered":12}`),
			[]string{"acknowledged  message 12 of 12, 0 to go\n", "cursor        8: the cluster has yet to record 4 acknowledgements, which a node that took over now would repeat\n", "delivered     12\n"}},
		"recorded": {delivering(`{"acknowledged":8,"ahead":0,"lag":4,"head_offset":12,"delivered":8}`),
			[]string{"acknowledged  message 8 of 12, 4 to go\n", "cursor        8, as acknowledged\n"}},
		"out of order":     {delivering(`{"acknowledged":8,"ahead":2,"lag":2,"head_offset":12,"delivered":10}`), []string{"acknowledged  message 8 of 12 and 2 after it, 2 to go\n"}},
		"an older program": {delivering(`null`), []string{"cursor        8, lag 4, as last recorded in the cluster\n", "delivered     8\n"}},
		"nobody answers":   {`"delivery":null,"delivery_error":"node-1 cannot be reached"}`, []string{"8, lag 4, as last recorded in the cluster\n", "unknown: node-1 cannot be reached"}},
	} {
		hub := newScriptedHub(t, answering(200, "Content-Type: application/json", of+c.rest))
		got := run(t, "", "subscriptions", "show", "s-1", "--hub", hub.URL)
		for _, want := range c.want {
			if got.code != 0 || !strings.Contains(got.out, want) {
				t.Errorf("%s: %+v, want %q", name, got, want)
			}
		}
	}
}
