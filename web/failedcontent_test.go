package web_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
)

const (
	pullCallback = "http://localhost:8080/callback"
	pullSecret   = "OIUAShdasoi"
)

// puller is a hub with the mosip profile and one subscriber. Of five messages of demo, a minute apart, the first is a dead letter,
// the second and fourth are acknowledged, and the third and fifth (which is binary) are undelivered.
func puller(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, func(r *hub.Policy, o *web.Options) { r.Clock, o.Profile = o.Clock, web.ProfileMOSIP })
	f.subscribe(t, "demo", pullCallback, "hub.secret", pullSecret)
	f.ledger.verify(t)
	f.subscribe(t, "demo", "http://localhost:8080/unsigned")
	f.ledger.verify(t)
	for i, body := range []string{`{"n":1}`, `{"n":2}`, `{"n":3}`, `{"n":4}`, "\xff\x00"} {
		want(t, f.send("POST", "/hub?hub.mode=publish&hub.topic=demo", body, "Content-Type", []string{"application/json", "application/octet-stream"}[i/4]), 200)
		f.clock.advance(time.Minute)
	}
	f.ledger.must(t,
		&hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{Subscription: 1, Offset: 1, Attempts: 3, Status: 404}}},
		&hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{Cursors: []*hubpb.Cursor{
			{Subscription: 1, Offset: 2, Through: 4, Open: []*hubpb.OpenMessage{{Offset: 3, Attempts: 1}}}}}}})
	return f
}

// pull requests failed content like MOSIP's client.
func (f *fixture) pull(secret, topic, callback string, since time.Time, more ...string) (int, string) {
	at := since.UTC().Format("2006-01-02T15:04:05.000000000Z")
	text, query := topic+callback+at, ""
	for i, name := range []string{"pageindex", "messageCount"}[:len(more)] {
		text += more[i]
		query += "&" + name + "=" + more[i]
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	w := f.send("GET", "/hub?topic="+url.QueryEscape(topic)+"&callback="+base64.URLEncoding.EncodeToString([]byte(callback))+"&timestamp="+at+query, "",
		"X-Subscriber-Signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return w.Code, w.Body.String()
}

// A request with a signature from the reference implementation.
func TestFailedContentVector(t *testing.T) {
	f := puller(t)
	const query = "?topic=demo&callback=aHR0cDovL2xvY2FsaG9zdDo4MDgwL2NhbGxiYWNr&timestamp=2021-08-30T12:39:23.511446100Z&pageindex=0&messageCount=10"
	const golden = `{"failedcontents":[{"message":"{\"n\":1}","timestamp":"2026-11-01T12:00:00.250000000Z"},` +
		`{"message":"{\"n\":3}","timestamp":"2026-11-01T12:02:00.250000000Z"},` +
		`{"message":"/wA=","timestamp":"2026-11-01T12:04:00.250000000Z"}]}`
	for _, path := range []string{"/hub", "/hub/", "/websub/sync/failedmessage"} {
		w := f.send("GET", path+query, "", "Accept", "application/json", "X-Subscriber-Signature", "4wvF3EMCX9+dJq4PpolHcmG4pWnnTe6SYhGimb8OgA4=")
		if body := want(t, w, 200); body != golden || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s %s, want %s", path, w.Header().Get("Content-Type"), body, golden)
		}
	}
	for _, p := range []web.Profile{web.ProfileNative, web.ProfileBallerina} {
		other := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Profile = p })
		want(t, other.send("GET", "/hub"+query, ""), 405)
		want(t, other.send("GET", "/websub/sync/failedmessage"+query, ""), 404)
	}
}

func TestFailedContentPages(t *testing.T) {
	f := puller(t)
	start := f.clock.Now().Add(-5 * time.Minute)
	for _, c := range []struct {
		since time.Time
		more  []string
		want  string
	}{
		{start, nil, "1 3 5"},
		{start, []string{"0"}, "1 3 5"},
		{start, []string{"0", "1"}, "1"},
		{start, []string{"1", "1"}, "3"},
		{start, []string{"2", "1"}, "5"},
		{start, []string{"3", "1"}, ""},
		{start, []string{"0", "2"}, "1 3"},
		{start, []string{"1", "2"}, "5"},
		{start, []string{"0", "1000"}, "1 3 5"},
		{start, []string{"4294967295", "1000"}, ""},
		// Dead letters are selected by the time they were given up.
		{start.Add(time.Minute), nil, "1 3 5"},
		{start.Add(2*time.Minute + time.Second), nil, "1 5"},
		{start.Add(5*time.Minute + time.Second), nil, ""},
	} {
		status, body := f.pull(pullSecret, "demo", pullCallback, c.since, c.more...)
		var got struct {
			FailedContents []struct{ Message, Timestamp string } `json:"failedcontents"`
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
			t.Fatalf("%v %d %s", err, status, body)
		}
		var list []string
		for _, m := range got.FailedContents {
			n := "5"
			if _, err := fmt.Sscanf(m.Message, `{"n":%1s`, &n); err != nil && m.Message != "/wA=" {
				t.Errorf("message %q", m.Message)
			}
			list = append(list, n)
		}
		if s := strings.Join(list, " "); s != c.want {
			t.Errorf("since %s, %v: %s, want %s", c.since, c.more, s, c.want)
		}
	}
	// Messages dropped by retention are left out; dead letters are kept.
	f.ledger.trim(t, 1, 3)
	if _, body := f.pull(pullSecret, "demo", pullCallback, start); strings.Contains(body, `n\":3`) || !strings.Contains(body, `n\":1`) {
		t.Errorf("after retention: %s", body)
	}
	// An ended subscription reveals nothing, not even to a holder of its former secret.
	f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
		Subscriptions: []uint64{1}, Reason: hubpb.EndReason_END_UNSUBSCRIBED}}})
	if status, body := f.pull(pullSecret, "demo", pullCallback, start); status != 400 {
		t.Errorf("after its end: %d %s", status, body)
	}
}

// All invalid signatures get the same answer, whatever exists.
func TestFailedContentRefusals(t *testing.T) {
	f := puller(t)
	start := f.clock.Now().Add(-time.Hour)
	_, wrong := f.pull("another", "demo", pullCallback, start)
	for name, answer := range map[string]func() (int, string){
		"unknown topic":       func() (int, string) { return f.pull(pullSecret, "nothing", pullCallback, start) },
		"unknown callback":    func() (int, string) { return f.pull(pullSecret, "demo", "http://localhost:8080/other", start) },
		"without a secret":    func() (int, string) { return f.pull("", "demo", "http://localhost:8080/unsigned", start) },
		"the hub's own dummy": func() (int, string) { return f.pull("nobody's", "nothing", pullCallback, start) },
		"no signature": func() (int, string) {
			w := f.send("GET", "/hub?topic=demo&callback=aHR0cDovL2xvY2FsaG9zdDo4MDgwL2NhbGxiYWNr&timestamp=2021-08-30T12:39:23Z", "")
			return w.Code, w.Body.String()
		},
		"not base64": func() (int, string) {
			w := f.send("GET", "/hub?topic=demo&callback=aHR0cDovL2xvY2FsaG9zdDo4MDgwL2NhbGxiYWNr&timestamp=2021-08-30T12:39:23Z", "", "X-Subscriber-Signature", "???")
			return w.Code, w.Body.String()
		},
		"another time": func() (int, string) {
			w := f.send("GET", "/hub?topic=demo&callback=aHR0cDovL2xvY2FsaG9zdDo4MDgwL2NhbGxiYWNr&timestamp=2020-08-30T12:39:23.511446100Z&pageindex=0&messageCount=10", "",
				"X-Subscriber-Signature", "4wvF3EMCX9+dJq4PpolHcmG4pWnnTe6SYhGimb8OgA4=")
			return w.Code, w.Body.String()
		},
	} {
		if status, body := answer(); status != 400 || body != wrong {
			t.Errorf("%s: %d %q, want 400 %q", name, status, body, wrong)
		}
	}
	f.clock.advance(241 * time.Hour)
	if status, body := f.pull(pullSecret, "demo", pullCallback, start); status != 400 || body != wrong {
		t.Errorf("after its lease: %d %q", status, body)
	}
	const callback = "&callback=aHR0cDovL2xvY2FsaG9zdDo4MDgwL2NhbGxiYWNr"
	for query, words := range map[string]string{
		"":                               "topic:",
		"?topic=demo":                    "callback:",
		"?topic=demo&callback=%25%25":    "callback:",
		"?topic=demo" + callback:         "timestamp:",
		"?topic=demo&topic=x" + callback: "topic:",
		"?topic=demo" + callback + "&timestamp=yesterday":                              "timestamp:",
		"?topic=demo" + callback + "&timestamp=2021-08-30T12:39:23Z&pageindex=-1":      "pageindex:",
		"?topic=demo" + callback + "&timestamp=2021-08-30T12:39:23Z&messageCount=0":    "messageCount:",
		"?topic=demo" + callback + "&timestamp=2021-08-30T12:39:23Z&messageCount=1001": "messageCount:",
	} {
		if body := want(t, f.send("GET", "/hub"+query, ""), 400); !strings.HasPrefix(body, words) {
			t.Errorf("%s: %q, want %s", query, body, words)
		}
	}
}
