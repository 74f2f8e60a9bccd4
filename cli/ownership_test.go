package cli_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// subscribe waits for the outcome and says why there is none.
func TestSubscribeWaitsForTheOutcome(t *testing.T) {
	const item = `{"id":"r-7","mode":"subscribe","topic":"news","callback":"http://127.0.0.1:9/cb","state":%q,"reason":%q,"status":%d,"attempts":%d,"requested_at":"2026-11-01T12:00:00Z","settled_at":null}`
	for name, c := range map[string]struct {
		answers []string // of GET /v1/requests, the last one again and again; empty: 404
		args    []string
		code    int
		want    string
		without bool // the effect of the request
	}{
		"forgotten":            {[]string{""}, nil, 4, "did not confirm", true},
		"confirmed at once":    {[]string{""}, nil, 0, "confirmed by http://127.0.0.1:9/cb", false},
		"confirmed later":      {[]string{fmt.Sprintf(item, "pending", "", 0, 0), ""}, nil, 0, "confirmed", false},
		"another one failed":   {[]string{strings.Replace(fmt.Sprintf(item, "failed", "timeout", 0, 1), "r-7", "r-6", 1)}, nil, 0, "confirmed", false},
		"a wrong challenge":    {[]string{fmt.Sprintf(item, "failed", "wrong-challenge", 200, 1)}, nil, 4, "did not confirm: wrong-challenge (HTTP status 200)", false},
		"nobody listens":       {[]string{fmt.Sprintf(item, "pending", "", 0, 0), fmt.Sprintf(item, "failed", "connection-refused", 0, 3)}, nil, 4, "connection-refused after 3 calls", false},
		"somebody else's":      {[]string{fmt.Sprintf(item, "failed", "not_owner", 0, 0)}, nil, 4, "belongs to another principal", false},
		"no end in sight":      {[]string{fmt.Sprintf(item, "pending", "", 0, 0)}, []string{"--wait", "300ms"}, 5, "has not confirmed within 300ms", false},
		"not waiting":          {[]string{fmt.Sprintf(item, "failed", "timeout", 0, 1)}, []string{"--wait", "0"}, 0, "accepted; the hub is asking", false},
		"the hub does not say": {nil, nil, 0, "accepted; the hub is asking", false},
		"JSON":                 {[]string{""}, []string{"--json"}, 0, `"outcome": "confirmed"`, false},
	} {
		for _, mode := range []string{"subscribe", "unsubscribe"} {
			var asked atomic.Int32
			hub := newScriptedHub(t, func(w http.ResponseWriter, r request) {
				if r.Method == http.MethodPost {
					w.Header().Set("X-Hub-Request-Id", "r-7")
					w.Header().Set("X-Hub-Index", "42")
					w.WriteHeader(http.StatusAccepted)
					return
				}
				if r.Path == "/v1/subscriptions" {
					state := map[string]string{"subscribe": "active", "unsubscribe": "expired"}[mode]
					if c.without {
						state = map[string]string{"subscribe": "expired", "unsubscribe": "active"}[mode]
					}
					fmt.Fprintf(w, `{"items":[{"id":"s-1","state":%q}],"next":""}`, state)
					return
				}
				if r.Path != "/v1/requests" || r.Query.Get("callback") != "http://127.0.0.1:9/cb" || r.Query.Get("min_index") != "42" {
					t.Errorf("%s: asked for %s?%s", name, r.Path, r.Query.Encode())
				}
				if c.answers == nil {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				n := min(int(asked.Add(1)), len(c.answers))
				fmt.Fprintf(w, `{"items":[%s],"next":""}`, c.answers[n-1])
			})
			got := run(t, "", append([]string{mode, "news", "http://127.0.0.1:9/cb", "--hub", hub.URL}, c.args...)...)
			if got.code != c.code || !strings.Contains(got.out+got.err, c.want) {
				t.Errorf("%s, %s: %+v; want code %d and %q", mode, name, got, c.code, c.want)
			}
		}
	}
}

func TestOwnershipCommandsSendTheirRequests(t *testing.T) {
	for _, c := range []struct {
		args                 []string
		method, target, body string
		answer, want         string
	}{
		{[]string{"subscriptions", "--mine"}, "GET", "/v1/subscriptions?mine=true", "", `{"items":[],"next":""}`, ""},
		{[]string{"subscriptions", "show", "s-1"}, "GET", "/v1/subscriptions/s-1", "", `{"id":"s-1","state":"paused","owner":"issuer:idp/123","pause_reason":"owner_ended"}`, "issuer:idp/123"},
		{[]string{"requests", "--state", "failed"}, "GET", "/v1/requests?state=failed", "", `{"items":[{"id":"r-1","mode":"subscribe","state":"failed","reason":"not_owner"}],"next":""}`, "another principal"},
		{[]string{"subscriptions", "reassign", "s-1", "s-2", "--to", "issuer:idp/123"}, "POST", "/v1/subscriptions/reassign", `{"subscriptions":["s-1","s-2"],"to":"issuer:idp/123"}`, `{"reassigned":2}`, "2 subscriptions reassigned"},
		{[]string{"subscriptions", "reassign", "--from", "key/0123456789ab", "--nobody"}, "POST", "/v1/subscriptions/reassign", `{"from":"key/0123456789ab","to":""}`, `{"reassigned":0}`, "0 subscriptions"},
		{[]string{"auth", "keys", "revoke", "0123456789ab"}, "DELETE", "/v1/auth/keys/0123456789ab", "", `{"id":"0123456789ab","subscriptions_paused":3,"subscriptions_ended":0}`, "3 subscriptions are paused"},
		{[]string{"auth", "keys", "revoke", "0123456789ab", "--end-subscriptions"}, "DELETE", "/v1/auth/keys/0123456789ab?end_subscriptions=true", "", `{"id":"0123456789ab","subscriptions_paused":0,"subscriptions_ended":3}`, "3 subscriptions ended"},
		{[]string{"auth", "usage", "issuer:idp/123"}, "GET", "/v1/auth/usage?principal=issuer%3Aidp%2F123", "", `{"items":[{"principal":"issuer:idp/123","topics":{"used":2,"limit":1000},"node":{"streams":{"used":1,"limit":0}}}],"next":""}`, "2/1000"},
		{[]string{"auth", "quotas"}, "GET", "/v1/auth/quotas", "", `{"items":[{"name":"default","quotas":{"topics":1000,"stored_bytes":"5%"},"set":{"stored_bytes":"5%"},"set_by":"root"}],"next":""}`, "topics=1000 stored_bytes=5%"},
		{[]string{"streams", "--topic", "news"}, "GET", "/v1/streams?topic=news", "", `{"items":[{"id":"0123456789ab","topic":"news","node":"node-1","owner":"key/1","since":"2026-11-01T12:00:00Z"}],"next":""}`, "0123456789ab"},
		{[]string{"auth", "end-owner", "cert/a"}, "POST", "/v1/auth/end-owner", `{"end_subscriptions":false,"owner":"cert/a"}`, `{"owner":"cert/a","subscriptions_paused":2,"subscriptions_ended":0}`, "2 subscriptions are paused"},
		{[]string{"auth", "end-owner", "cert/a", "--end-subscriptions"}, "POST", "/v1/auth/end-owner", `{"end_subscriptions":true,"owner":"cert/a"}`, `{"owner":"cert/a","subscriptions_paused":0,"subscriptions_ended":2}`, "2 subscriptions ended"},
		{[]string{"events", "--after", "3-7"}, "GET", "/v1/events?cursor=3-7", "", `{"items":[{"id":"3-8","type":"subscription.denied","subscription":"s-1","topic":"news","callback":"https://a/","reason":"not_owner"}],"next":""}`, "not_owner"},
		{[]string{"auth", "whoami"}, "GET", "/v1/auth/whoami", "", `{"method":"api-key","principal":"key/0123456789ab"}`, "key/0123456789ab"},
	} {
		hub := newScriptedHub(t, func(w http.ResponseWriter, _ request) { fmt.Fprint(w, c.answer) })
		got := run(t, "", append(c.args, "--hub", hub.URL)...)
		if got.code != 0 || !strings.Contains(got.out, c.want) {
			t.Errorf("%v: %+v, want %q", c.args, got, c.want)
			continue
		}
		r := hub.requests()[0]
		target := r.Path
		if len(r.Query) > 0 {
			target += "?" + r.Query.Encode()
		}
		if r.Method != c.method || target != c.target || r.Body != c.body {
			t.Errorf("%v: sent %s %s %s, want %s %s %s", c.args, r.Method, target, r.Body, c.method, c.target, c.body)
		}
	}
	for _, args := range [][]string{{"auth", "quotas", "set", "default", "topics"}, {"auth", "quotas", "set", "default", "topcis=1"}, {"auth", "quotas", "set", "default", "topics=few"},
		{"auth", "quotas", "set", "default", "topics=5%"}, {"auth", "quotas", "unset", "default", "topcis"}, {"subscriptions", "reassign", "--to", "x"}, {"subscriptions", "reassign", "s-1"}, {"subscriptions", "reassign", "s-1", "--to", "x", "--nobody"}} {
		if got := run(t, "", append(args, "--hub", "http://127.0.0.1:9")...); got.code != 2 {
			t.Errorf("%v: %+v, want a usage error", args, got)
		}
	}
}

// Setting and removing some quotas leaves the others that were set as they are.
func TestQuotasAreSetOneByOne(t *testing.T) {
	for _, c := range []struct {
		args          []string
		method, body  string
		already, says string
	}{
		{[]string{"set", "issuer:idp/123", "stored_bytes=10GiB", "topics=0"}, "PUT", `{"topics":0,"streams":5,"stored_bytes":10737418240}`, `{"streams":5,"topics":3}`, "quotas of issuer:idp/123: topics=0"},
		{[]string{"set", "issuer:idp/123", "dead_letter_bytes=5%"}, "PUT", `{"dead_letter_bytes":"5%"}`, `null`, "quotas of issuer:idp/123"},
		{[]string{"unset", "issuer:idp/123", "streams"}, "PUT", `{"topics":3}`, `{"streams":5,"topics":3}`, "quotas of issuer:idp/123"},
		{[]string{"unset", "issuer:idp/123", "streams"}, "DELETE", ``, `{"streams":5}`, "removed"},
	} {
		hub := newScriptedHub(t, func(w http.ResponseWriter, r request) {
			switch r.Method {
			case "GET":
				fmt.Fprintf(w, `{"items":[{"name":"default","quotas":{},"set":{"streams":9}},{"name":"issuer:idp/123","quotas":{},"set":%s}],"next":""}`, c.already)
			case "PUT":
				fmt.Fprintf(w, `{"name":"issuer:idp/123","quotas":%s}`, r.Body)
			case "DELETE":
				w.Header().Set("X-Correlation-Id", "1")
				w.WriteHeader(http.StatusNoContent)
			}
		})
		got := run(t, "", append(append([]string{"auth", "quotas"}, c.args...), "--hub", hub.URL)...)
		sent := hub.requests()
		last := sent[len(sent)-1]
		if got.code != 0 || !strings.Contains(got.out, c.says) || last.Method != c.method || last.Body != c.body {
			t.Errorf("%v: %+v, sent %s %s; want %s %s", c.args, got, last.Method, last.Body, c.method, c.body)
		}
	}
}
