package cli_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestSubscriptionCommands(t *testing.T) {
	answer := func(w http.ResponseWriter, r request) {
		switch {
		case r.Method == http.MethodDelete:
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
