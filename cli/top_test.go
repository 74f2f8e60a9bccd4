package cli_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"quorumhub/cli/exit"
)

func TestTop(t *testing.T) {
	const answer = `{"at":"2026-01-02T03:04:05Z","leader":"node-1","missing":[],"now":{"published":17,"publish_p50":null},"nodes":[{"node":"node-1","status":{"state":"leader"}}],"failing":[],"concerns":[],"counts":{"topics":5},"series":[]}`
	hub := newScriptedHub(t, func(w http.ResponseWriter, _ request) { fmt.Fprint(w, answer) })
	got := run(t, "", "top", "--once", "--hub", hub.URL)
	if got.code != 0 || !strings.Contains(got.out, "All is well.") || !strings.Contains(got.out, "published 17/s") || strings.Contains(got.out, "\x1b") {
		t.Errorf("--once: %+v", got)
	}
	if r := hub.requests()[0]; r.Path != "/v1/figures" || r.Query.Get("minutes") != "0" {
		t.Errorf("asked %+v", r)
	}
	if got := run(t, "", "top", "--json", "--hub", hub.URL); got.code != 0 || !strings.Contains(got.out, `"leader": "node-1"`) {
		t.Errorf("--json: %+v", got)
	}
	if got := run(t, "", "top", "--hub", hub.URL); got.code != exit.Usage || !strings.Contains(got.err, "--once") {
		t.Errorf("without a terminal: %+v", got)
	}
	if got := run(t, "", "top", "--sort", "size", "--hub", hub.URL); got.code != exit.Usage {
		t.Errorf("an unknown column: %+v", got)
	}
	if got := run(t, "", "top", "--once", "--hub", "http://127.0.0.1:1"); got.code != exit.Unreachable {
		t.Errorf("no hub: %+v", got)
	}
}
