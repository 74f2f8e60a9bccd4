package web_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"quorumhub/hub"
)

func (f *fixture) imports(t *testing.T, body string, status int) string {
	t.Helper()
	return strings.TrimSpace(want(t, f.send("POST", "/v1/import", body, "Content-Type", "application/json"), status))
}

func TestImportAPI(t *testing.T) {
	f := newFixture(t)
	body := `{"topics":["orgA","hub.x"],"subscriptions":[` +
		`{"topic":"orgA","callback":"https://a.example/cb","secret":"top-secret","lease_seconds":"864000","since":"2020-01-01T00:00:00Z","fields":{"topicPartitions":"0,1"}},` +
		`{"topic":"orgA","callback":"https://forbidden.example/cb"}]%s}`
	const refused = `{"topic":"orgA","callback":"https://forbidden.example/cb","outcome":"refused","param":"hub.callback","reason":"the address is not allowed"}`
	const reserved = `{"topic":"hub.x","outcome":"refused","param":"hub.topic","reason":"\"hub.x\" does not exist; of the names that begin with hub. there is hub.events"}`
	dry := f.imports(t, fmt.Sprintf(body, `,"dry_run":true`), 200)
	if want := `{"topics":[{"topic":"orgA","outcome":"created"},` + reserved + `],"subscriptions":[{"topic":"orgA","callback":"https://a.example/cb","outcome":"created","fresh_lease":true},` +
		refused + `],"dry_run":true}`; dry != want {
		t.Errorf("dry run:\n%s\nwant\n%s", dry, want)
	}
	if got := f.items(t, "/v1/topics", url.Values{}); len(got) != 0 {
		t.Fatalf("the dry run created %v", got)
	}
	got := f.imports(t, fmt.Sprintf(body, ""), 200)
	if want := `{"topics":[{"topic":"orgA","outcome":"created"},` + reserved + `],"subscriptions":[{"topic":"orgA","callback":"https://a.example/cb","outcome":"created","id":"s-1","fresh_lease":true},` +
		refused + `],"dry_run":false}`; got != want {
		t.Errorf("import:\n%s\nwant\n%s", got, want)
	}
	again := f.imports(t, fmt.Sprintf(body, ""), 200)
	if !strings.Contains(again, `{"topic":"orgA","callback":"https://a.example/cb","outcome":"unchanged","id":"s-1"}`) || !strings.Contains(again, `{"topic":"orgA","outcome":"unchanged"}`) {
		t.Errorf("again: %s", again)
	}
	if strings.Contains(got+again+f.logged.String(), "top-secret") {
		t.Error("the secret is shown")
	}
	f.ledger.View(func(s *hub.State) {
		sub, _ := s.Subscription(1)
		if string(sub.SealedSecret) != sealedMark+"top-secret" {
			t.Errorf("sealed secret is %q", sub.SealedSecret)
		}
	})
	for text, words := range map[string]string{
		"":                   "body:",
		"{":                  "body: cannot be decoded",
		"{}":                 "has neither topics",
		`{"topics":["a"]} x`: "has data after",
		`{"topic":["a"]}`:    "unknown field",
		`{"topics":[1]}`:     "cannot be decoded",
		`{"subscriptions":[{"topic":"a","callback":"https://a.example/","since":"yesterday"}]}`: "cannot be decoded",
		`{"topics":["` + strings.Repeat(`a","`, 1000) + `a"]}`:                                  "at most 1000",
	} {
		var p struct{ Detail string }
		if err := json.Unmarshal([]byte(f.imports(t, text, 400)), &p); err != nil || !strings.Contains(p.Detail, words) {
			t.Errorf("%.40s: %v %q, want %q", text, err, p.Detail, words)
		}
	}
}
