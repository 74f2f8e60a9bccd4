package web_test

import (
	"encoding/json"
	"strings"
	"testing"
)

type explained struct {
	Service, Version, Code string
	Status                 int
	Steps                  []struct{ Stage, Does, Outcome string }
}

func explain(t *testing.T, g *guarded, in map[string]string) (out explained) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want(t, g.send("POST", "/v1/gateway/explain", string(body), "X-API-Key", g.root), 200)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (e explained) step(stage string) (does, outcome string) {
	for _, s := range e.Steps {
		if s.Stage == stage {
			return s.Does, s.Outcome
		}
	}
	return "", "missing"
}

// The order of the stages is what operators are told, for a route and for a request.
func TestGatewayExplainsItsStages(t *testing.T) {
	g, b := newGuardedServing(t, guardedServices)
	out := explain(t, g, map[string]string{"route": "address"})
	var order []string
	for _, s := range out.Steps {
		order = append(order, s.Stage)
	}
	if got := strings.Join(order, " "); got != "limits correlation match authenticate sender quota authorize replay validate decrypt enrich token route call release convert encrypt respond errors log" {
		t.Errorf("the stages are %s", got)
	}
	for stage, text := range map[string]string{"authenticate": "geo", "authorize": "call on hr.address", "validate": "query ID", "route": "hr:/v2/address"} {
		if does, _ := out.step(stage); !strings.Contains(does, text) {
			t.Errorf("%s does %q, want %q in it", stage, does, text)
		}
	}
	if out := explain(t, g, map[string]string{"route": "Employee/requestAddress", "version": "1"}); out.Service != "address" || out.Version != "1" {
		t.Errorf("by URI: %+v", out)
	}
	want(t, g.send("POST", "/v1/gateway/explain", `{"route":"nothing"}`, "X-API-Key", g.root), 404)
	want(t, g.send("POST", "/v1/gateway/explain", `{"route":"address"}`), 401)

	now := g.clock.Now()
	signed := geoGet(now, "/gateway/Employee/requestAddress", "geo", nonce1, "ID=121")
	dry := explain(t, g, map[string]string{"request": "GET " + signed + " HTTP/1.1\nHost: hub.example.net\nCookie: secret=1\n"})
	if _, outcome := dry.step("call"); !strings.Contains(outcome, "would call GET /v2/address?ID=121 at hr with") || strings.Contains(outcome, "Cookie") || dry.Code != "" {
		t.Errorf("a dry run: %+v", dry)
	}
	if _, outcome := dry.step("authenticate"); outcome != "signed:geo-auth/GEOSystem/geo" {
		t.Errorf("authenticate: %q", outcome)
	}
	refused := explain(t, g, map[string]string{"request": "GET " + geoGet(now, "/gateway/Employee/requestAddress", "geo", nonce2, "ID=x") + " HTTP/1.1\r\nHost: h\r\n\r\n"})
	if _, outcome := refused.step("validate"); refused.Status != 400 || refused.Code != "invalid" || !strings.Contains(outcome, "query/ID") {
		t.Errorf("a dry run of a bad request: %+v", refused)
	}
	if _, outcome := refused.step("call"); outcome != "not reached" {
		t.Errorf("call: %q", outcome)
	}
	want(t, g.send("POST", "/v1/gateway/explain", `{"request":"nonsense"}`, "X-API-Key", g.root), 400)
	if b.count() != 0 {
		t.Error("a dry run called the service")
	}
	want(t, g.send("GET", signed, ""), 200) // a dry run used up no nonce
}
