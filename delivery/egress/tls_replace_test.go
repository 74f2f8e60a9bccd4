package egress_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"quorumhub/delivery/egress"
)

// Other rules take the place of those in force at once; connections go on whose rule is the same, wherever it is in the list.
func TestTLSRulesAreReplaced(t *testing.T) {
	ca := newTestCA(t, "one")
	m := newMutual(t, ca.issue("server", "server", time.Hour, "127.0.0.1"), requireClient(ca))
	ca.issue("a", "a", time.Hour)
	ca.issue("b", "b", time.Hour)
	rule := func(name string, hosts ...string) egress.TLSRule {
		return egress.TLSRule{Hosts: hosts, CA: ca.path("ca.pem"), Cert: ca.path(name + ".pem"), Key: ca.path(name + ".key")}
	}
	rules := rulesOf(t)
	call := newCaller(t, rules)
	if res := call.call(m.URL); res.status != 0 {
		t.Fatalf("without rules: %+v", res)
	}
	for _, step := range []struct {
		name    string
		rules   []egress.TLSRule
		changed bool
		shows   string // "": it fails
	}{
		{"a first rule", []egress.TLSRule{rule("a", "127.0.0.1")}, true, "a"},
		{"the same", []egress.TLSRule{rule("a", "127.0.0.1")}, false, "a"},
		{"another in front", []egress.TLSRule{rule("b", "h.example.org"), rule("a", "127.0.0.1")}, true, "a"},
		{"another certificate", []egress.TLSRule{rule("b", "127.0.0.1")}, true, "b"},
		{"for another port", []egress.TLSRule{rule("b", "127.0.0.1:1")}, true, ""},
		{"none", nil, true, ""},
		{"none again", nil, false, ""},
	} {
		if changed := rules.Replace(rulesOf(t, step.rules...)); changed != step.changed || rules.Len() != len(step.rules) {
			t.Errorf("%s: changed %t, %d rules", step.name, changed, rules.Len())
		}
		res := call.call(m.URL)
		if names := m.names(); (res.status == http.StatusOK) != (step.shows != "") || step.shows != "" && !slices.Equal(names, slices.Repeat([]string{step.shows}, ways)) {
			t.Errorf("%s: %+v with the certificates %v", step.name, res, names)
		}
	}
	// Files with other content under the same names.
	rules.Replace(rulesOf(t, rule("a", "127.0.0.1")))
	ca.issue("a", "renewed", time.Hour)
	if !rules.Replace(rulesOf(t, rule("a", "127.0.0.1"))) {
		t.Error("renewed files are no change")
	}
	call.call(m.URL)
	if names := m.names(); !slices.Equal(names, slices.Repeat([]string{"renewed"}, ways)) {
		t.Errorf("with renewed files: %v", names)
	}
}

// Requests go on while rules are replaced.
func TestTLSRulesAreReplacedUnderLoad(t *testing.T) {
	ca := newTestCA(t, "one")
	m := newMutual(t, ca.issue("server", "server", time.Hour, "127.0.0.1"), requireClient(ca))
	ca.issue("a", "a", time.Hour)
	ca.issue("b", "b", time.Hour)
	one := func(name string) *egress.TLSRules {
		return rulesOf(t, egress.TLSRule{Hosts: []string{"127.0.0.1"}, CA: ca.path("ca.pem"), Cert: ca.path(name + ".pem"), Key: ca.path(name + ".key")})
	}
	rules := one("a")
	var wg sync.WaitGroup
	for range 4 {
		call := newCaller(t, rules)
		wg.Go(func() {
			for range 10 {
				if res := call.call(m.URL); res.status != http.StatusOK {
					t.Errorf("%+v", res)
				}
			}
		})
	}
	for i := range 20 {
		rules.Replace(one([]string{"b", "a"}[i%2]))
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
}
