package upstream_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"quorumhub/web/gateway/upstream"
)

func TestConfigurationsThatCannotBeServed(t *testing.T) {
	fine := []string{"http://a.example"}
	for want, cfg := range map[string]upstream.Config{
		"name is empty": {URLs: fine},
		"urls is empty; expected at least one URL":                                 {Name: "hr"},
		"urls has 65 entries; expected at most 64":                                 {Name: "hr", URLs: make([]string, 65)},
		"urls[1]: \"ftp://b.example\" is not usable; expected http:// or https://": {Name: "hr", URLs: []string{"http://a.example", "ftp://b.example"}},
		"urls[0]: \"/v1\" is not usable":                                           {Name: "hr", URLs: []string{"/v1"}},
		"urls[0]: \"http://a.example:0\" is not usable":                            {Name: "hr", URLs: []string{"http://a.example:0"}},
		"urls[0]: \"http://a.example:65536\" is not usable":                        {Name: "hr", URLs: []string{"http://a.example:65536"}},
		"urls[0]: contains a user name or password":                                {Name: "hr", URLs: []string{"http://u:secretpass@a.example"}},
		"urls[0]: not a URL":                                                       {Name: "hr", URLs: []string{"http://u:secretpass@[::1"}},
		"urls[0]: \"http://a.example?x=1\" has a query":                            {Name: "hr", URLs: []string{"http://a.example?x=1"}},
		"urls[0]: \"http://a.example/#\" has a query or a fragment":                {Name: "hr", URLs: []string{"http://a.example/#"}},
		"urls[0]: \"http://a.example/a/../b\": has a segment":                      {Name: "hr", URLs: []string{"http://a.example/a/../b"}},
		"urls[1]: http://a.example is there twice":                                 {Name: "hr", URLs: []string{"http://a.example/", "http://A.example"}},
		"retry is -1; expected 0 to 10":                                            {Name: "hr", URLs: fine, Retry: -1},
		"timeout is -1s; expected a duration above 0":                              {Name: "hr", URLs: fine, Timeout: -time.Second},
		"max_in_flight is -1":                                                      {Name: "hr", URLs: fine, MaxInFlight: -1},
		"headers: Host is set by the gateway itself":                               {Name: "hr", URLs: fine, Headers: map[string]string{"host": "x"}},
		"headers: Transfer-Encoding is set by the gateway itself":                  {Name: "hr", URLs: fine, Headers: map[string]string{"transfer-encoding": "x"}},
		"headers: \"X Y\" is not the name of a header":                             {Name: "hr", URLs: fine, Headers: map[string]string{"X Y": "x"}},
		"headers.X-Key: the value contains control characters":                     {Name: "hr", URLs: fine, Headers: map[string]string{"x-key": "secretpass\r\nHost: x"}},
		"headers: X-Key is there twice":                                            {Name: "hr", URLs: fine, Headers: map[string]string{"x-key": "a", "X-Key": "b"}},
	} {
		_, err := upstream.New(cfg, nil, slog.New(slog.DiscardHandler))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "secretpass") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestStatusShowsNoSecret: it is for the API.
func TestStatusShowsNoSecret(t *testing.T) {
	s := &services{}
	p := newPool(t, s, upstream.Config{URLs: []string{"http://a.example/base"}, Headers: map[string]string{"X-Api-Key": "s3cret"}})
	call(t, p, "GET")
	s.set("a.example", refuses)
	call(t, p, "GET")
	got, err := json.Marshal(p.Status())
	expect(t, "status", fmt.Sprint(string(got), err), `{"name":"hr","breaker":"closed","in_flight":0,"calls":{"answered":1,"unavailable":0,"failed":{"dial":1}},`+
		`"addresses":[{"url":"http://a.example/base","healthy":true,"in_flight":0,"attempts":{"answered":1,"unavailable":0,"failed":{"dial":1}}}]}<nil>`)
}

// TestLocationsInsideAreFound, so that a client is not sent to an address behind the gateway.
func TestLocationsInsideAreFound(t *testing.T) {
	p := newPool(t, &services{}, upstream.Config{URLs: []string{"http://a.example:9100/base", "https://b.example/base"}})
	for location, want := range map[string]string{
		"http://a.example:9100/base/v2/x?y=1#z": "/v2/x?y=1#z",
		"http://A.EXAMPLE:9100/base":            "/",
		"//b.example/base/a%2Fb":                "/a%2Fb",
		"https://b.example/base?x":              "/?x",
		"/base/v2":                              "/v2",
		"http://a.example/base/v2":              "",
		"https://a.example:9100/base/v2":        "",
		"http://a.example:9100/basement":        "",
		"http://a.example:9100":                 "",
		"https://login.example/base/":           "",
		"/other":                                "",
		"next":                                  "",
		"":                                      "",
		"http://[":                              "",
	} {
		got, ok := p.Inside(location)
		if got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", location, got, ok, want)
		}
	}
}
