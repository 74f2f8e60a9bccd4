package web_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/view"
)

// fakeGateway serves what the test says.
type fakeGateway struct {
	serving view.GatewayServing
	follows hub.StateReader // instead, the hash is that of this state
	lags    int             // answers that are still the former one
}

func (g *fakeGateway) Serving() view.GatewayServing {
	if g.lags--; g.follows != nil && g.lags < 0 {
		g.follows.View(func(st *hub.State) {
			info, _ := st.Gateway()
			g.serving.Hash = info.Hash
		})
	}
	return g.serving
}

func (g *fakeGateway) Usage(context.Context) view.GatewayUsage {
	return view.GatewayUsage{Items: []view.GatewayUse{{Consumer: "key/k-1", Service: "address", Version: "1", Requests: 7, LastAt: time.Unix(1e9, 0).UTC()}},
		Nodes: []string{"node-1"}, Missing: []string{"node-2"}}
}

// picky refuses registries that say so.
type picky struct{}

func (picky) CheckGateway(d *hub.GatewayDocument) []hub.GatewayMistake {
	if strings.Contains(string(d.Text), "wrong") {
		return []hub.GatewayMistake{{Line: 2, Column: 3, Path: "services[0].uri", Detail: "is wrong; expected right"}, {Path: "prefix", Detail: "too"}}
	}
	return nil
}

func (f *fixture) atLevel(t *testing.T, level uint32) {
	f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: level}}})
}

func gatewayFixture(t *testing.T) (*fixture, *fakeGateway) {
	g := &fakeGateway{}
	f := newFixture(t, func(p *hub.Policy, o *web.Options) { p.GatewayChecker, p.Parts, o.Gateway = picky{}, o.Parts, g })
	f.atLevel(t, hub.FeatureLevel)
	return f, g
}

func decoded[T any](t *testing.T, w *httptest.ResponseRecorder, status int) (out T) {
	t.Helper()
	if err := json.Unmarshal([]byte(want(t, w, status)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

type applied struct {
	Hash    string
	Changed bool
	Secrets []string `json:"changed_secrets"`
}

func gatewayRequest(text string, secret string) string {
	b, _ := json.Marshal(map[string]any{"text": text, "files": map[string]string{"a.json": base64.StdEncoding.EncodeToString([]byte("{}"))},
		"secrets": map[string]string{"HR_KEY": secret}})
	return string(b)
}

// A registry goes in whole and comes out without its secrets; a dry run, a lost update and a refused one change nothing.
func TestGatewayIsApplied(t *testing.T) {
	f, g := gatewayFixture(t)
	g.follows, g.lags = f.ledger, 3 // as a node that compiles it after the log has it
	want(t, f.send("GET", "/v1/gateway/document", ""), 404)
	tried := decoded[applied](t, f.send("PUT", "/v1/gateway?dry_run=true", gatewayRequest("version: 1", "s3cret-value")), 200)
	if !tried.Changed || !reflect.DeepEqual(tried.Secrets, []string{"HR_KEY"}) {
		t.Errorf("dry run: %+v", tried)
	}
	want(t, f.send("GET", "/v1/gateway/document", ""), 404)

	w := f.send("PUT", "/v1/gateway", gatewayRequest("version: 1", "s3cret-value"), "If-None-Match", "*")
	first := decoded[applied](t, w, 200)
	if g.serving.Hash != first.Hash {
		t.Error("the answer comes before the node serves it")
	}
	if etag := w.Header().Get("ETag"); !first.Changed || etag != `"`+first.Hash+`"` {
		t.Errorf("applied: %+v, ETag %s", first, etag)
	}
	if again := decoded[applied](t, f.send("PUT", "/v1/gateway", gatewayRequest("version: 1", "s3cret-value")), 200); again.Changed || again.Hash != first.Hash {
		t.Errorf("applied again: %+v", again)
	}
	body := want(t, f.send("PUT", "/v1/gateway", gatewayRequest("version: 2", "x"), "If-Match", `"0123"`), 412)
	if !strings.Contains(body, "gateway diff") {
		t.Errorf("a lost update is told: %s", body)
	}
	for _, h := range [][2]string{{"If-Match", "0123"}, {"If-Match", "*"}, {"If-None-Match", `"x"`}} {
		want(t, f.send("PUT", "/v1/gateway", gatewayRequest("version: 2", "x"), h[0], h[1]), 400)
	}
	refused := decoded[struct {
		Detail string
		Errors []struct {
			Line, Column int
			Path, Detail string
		}
	}](t, f.send("PUT", "/v1/gateway", gatewayRequest("wrong", "x")), 400)
	if len(refused.Errors) != 2 || refused.Errors[0].Line != 2 || refused.Errors[0].Path != "services[0].uri" || !strings.Contains(refused.Detail, "is wrong; expected right") {
		t.Errorf("refused: %+v", refused)
	}
	for _, bad := range []string{"", "{}", `{"text": "x", "more": 1}`, `{"text": "x", "files": {"a": "not base64!"}}`, `{"text":""}`} {
		want(t, f.send("PUT", "/v1/gateway", bad), 400)
	}
	want(t, f.send("PUT", "/v1/gateway?dry_run=maybe", gatewayRequest("version: 1", "x")), 400)
	want(t, f.send("PUT", "/v1/gateway", `{"text":"`+strings.Repeat("x", 2*hub.MaxGatewayBytes)+`"}`), 413)

	doc := f.send("GET", "/v1/gateway/document", "")
	got := decoded[struct {
		Hash, Text  string
		Files       map[string][]byte
		SecretNames []string `json:"secret_names"`
	}](t, doc, 200)
	if got.Hash != first.Hash || got.Text != "version: 1" || string(got.Files["a.json"]) != "{}" || !reflect.DeepEqual(got.SecretNames, []string{"HR_KEY"}) {
		t.Errorf("the document is %+v", got)
	}
	for _, path := range []string{"/v1/gateway", "/v1/gateway/document", "/v1/gateway/usage"} {
		if body := want(t, f.send("GET", path, ""), 200); strings.Contains(body, "s3cret-value") || strings.Contains(body, sealedMark) {
			t.Errorf("%s shows a secret: %s", path, body)
		}
	}
	if strings.Contains(f.logged.String(), "s3cret-value") {
		t.Error("a secret is logged")
	}
}

// Every node shows what it serves itself.
func TestGatewayShowsWhatItServes(t *testing.T) {
	f, g := gatewayFixture(t)
	if body := want(t, f.send("GET", "/v1/gateway", ""), 200); !strings.Contains(body, `"hash":"","index":0,"loaded_at":null`) || !strings.Contains(body, `"services":[]`) {
		t.Errorf("without a registry: %s", body)
	}
	sunset := time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)
	g.serving = view.GatewayServing{Hash: "abc", Index: 17, LoadedAt: f.clock.Now(), Errors: []string{"the newest registry does not compile"},
		Registry: &registry.Registry{Services: []registry.Service{{Name: "address", URI: "Employee/requestAddress", Wildcard: true, Default: "1",
			Aliases: []registry.Alias{{URI: "emp", Status: 308}},
			Versions: []registry.Version{{Version: "1", Status: registry.StatusDeprecated, SunsetAt: sunset, Successor: "2", Methods: []string{"GET"}, Auth: "geo",
				Target: registry.Target{Kind: registry.TargetUpstream, Name: "hr", Path: "/v1/address"}, Permission: &registry.Permission{Action: "call", Resource: "hr.address"}},
				{Version: "2", Target: registry.Target{Kind: registry.TargetTopic, Name: "commits"}}}}}}}
	w := f.send("GET", "/v1/gateway", "")
	body := want(t, w, 200)
	for _, s := range []string{`"hash":"abc","index":17`, `"node":"node-1"`, `"uri":"Employee/requestAddress/*"`, `"target":"hr:/v1/address"`, `"target":"topic:commits"`,
		`"permission":"call hr.address"`, `"sunset_at":"2027-06-30T00:00:00Z","successor":"2"`, `"errors":["the newest registry does not compile"]`, `"upstreams":[]`} {
		if !strings.Contains(body, s) {
			t.Errorf("lacks %s: %s", s, body)
		}
	}
	if w.Header().Get("ETag") != `"abc"` {
		t.Errorf("ETag %q", w.Header().Get("ETag"))
	}
	if body := want(t, f.send("GET", "/v1/gateway/usage", ""), 200); !strings.Contains(body, `"consumer":"key/k-1","service":"address","version":"1","requests":7`) || !strings.Contains(body, `"missing":["node-2"]`) {
		t.Errorf("usage: %s", body)
	}
	f.node.nodes[0].Gateway = "abc"
	if body := want(t, f.send("GET", "/v1/cluster", ""), 200); !strings.Contains(body, `"gateway_hash":"abc"`) {
		t.Errorf("the cluster: %s", body)
	}
}

// Changing the registry, and reading its text, needs a permission of its own; seeing what is served needs that of viewing.
func TestGatewayNeedsItsAction(t *testing.T) {
	g := newGuarded(t, "  - {name: gateway, may: [admin.gateway], who: [{scope: gateway}]}\n  - {name: viewers, may: [admin.view], who: [{scope: view}]}",
		func(p *hub.Policy, o *web.Options) { p.Parts = o.Parts })
	g.atLevel(t, hub.FeatureLevel)
	keys := map[string]string{"gateway": g.key(t, "g", "gateway"), "view": g.key(t, "v", "view"), "none": g.key(t, "n", "orders.write")}
	for who, statuses := range map[string][4]int{"gateway": {200, 403, 200, 403}, "view": {403, 200, 403, 200}, "none": {403, 403, 403, 403}} {
		for i, call := range [][2]string{{"PUT", "/v1/gateway"}, {"GET", "/v1/gateway"}, {"GET", "/v1/gateway/document"}, {"GET", "/v1/gateway/usage"}} {
			t.Run(fmt.Sprint(who, call), func(t *testing.T) {
				body := ""
				if call[0] == "PUT" {
					body = gatewayRequest("version: 1", "x")
				}
				if who == "gateway" && i == 2 {
					want(t, g.send("PUT", "/v1/gateway", gatewayRequest("version: 1", "x"), "X-API-Key", keys[who]), 200)
				}
				want(t, g.send(call[0], call[1], body, "X-API-Key", keys[who]), statuses[i])
			})
		}
	}
	want(t, g.send("PUT", "/v1/gateway", gatewayRequest("version: 1", "x")), 401)
}
