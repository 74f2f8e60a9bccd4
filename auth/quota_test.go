package auth_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// stateOf is a state that a test changes by events.
type stateOf struct {
	*hub.State
	t   *testing.T
	seq uint64
}

func (s *stateOf) View(f func(*hub.State)) { f(s.State) }

func (s *stateOf) apply(e *hubpb.Event) {
	s.t.Helper()
	p, err := hub.EncodeProposal([]*hubpb.Event{e})
	if err != nil {
		s.t.Fatal(err)
	}
	s.seq++
	var b hub.EntryBuilder
	b.AddBatch("t", s.seq, [][]byte{p})
	if _, err := s.Apply(b.Encode(int64(s.seq)), new(hub.Effects)); err != nil {
		s.t.Fatal(err)
	}
}

// Quotas come from the default entry, the largest of the roles' entries and the principal's; each is the file's, under
// what was set while the hub runs.
func TestQuotasInForce(t *testing.T) {
	settings, err := auth.ParseSettings([]byte(`
issuers: [{name: idp, issuer: "https://idp.example", audiences: [hub]}]
quotas:
  default: {topics: 10, stored_bytes: 10%, dead_letter_bytes: 1KiB}
  partner: {topics: 50, subscriptions: 5, stored_bytes: 2GiB}
  large: {topics: 70, subscriptions: 0}
  issuer:idp/123: {api_keys: 7}
`))
	if err != nil {
		t.Fatal(err)
	}
	state := &stateOf{State: hub.NewState(), t: t}
	state.apply(&hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}})
	log := slog.New(slog.DiscardHandler)
	guard := auth.NewGuard(auth.NewGate(settings), auth.NewRuleSet(settings, state, log), auth.AuditAll, "node-1", log)
	guard.Whole = auth.HubLimits{StoredBytes: 10 << 30, DeadLetterBytes: 1 << 20}
	of := func(principal string, roles ...string) auth.Quotas {
		ctx := auth.WithCaller(context.Background(), auth.Caller{Principal: &auth.Principal{ID: principal, Roles: roles}})
		return guard.Quotas(ctx, principal)
	}
	set := func(name, text string) {
		t.Helper()
		var s auth.QuotaSetting
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		q, err := guard.CheckQuotas(name, &s)
		if err != nil {
			t.Fatal(err)
		}
		state.apply(&hubpb.Event{Kind: &hubpb.Event_QuotaSet{QuotaSet: &hubpb.QuotaSet{Name: q.Name, Quotas: q.Quotas}}})
	}
	check := func(what string, got auth.Quotas, topics, subs, keys int, stored, letters int64) {
		t.Helper()
		if got.Topics != topics || got.Subscriptions != subs || got.APIKeys != keys || got.StoredBytes != stored || got.DeadLetterBytes != letters || got.NoncesPerMinute != 10_000 {
			t.Errorf("%s: %+v", what, got)
		}
	}
	check("nobody special", of("key/x"), 10, 10_000, 100, 1<<30, 1<<10)
	check("a partner", of("key/x", "partner", "other"), 50, 5, 100, 2<<30, 1<<10)
	check("with two roles", of("key/x", "partner", "large"), 70, 0, 100, 2<<30, 1<<10)
	check("a principal", of("issuer:idp/123"), 10, 10_000, 7, 1<<30, 1<<10)

	set("default", `{"subscriptions": 3}`)
	set("partner", `{"topics": 60}`)
	set("issuer:idp/123", `{"stored_bytes": "50%", "dead_letter_bytes": 0}`)
	check("nobody special", of("key/x"), 10, 3, 100, 1<<30, 1<<10)
	check("a partner", of("key/x", "partner"), 60, 5, 100, 2<<30, 1<<10)
	check("a principal", of("issuer:idp/123", "partner"), 60, 5, 7, 5<<30, 0)
	if got := guard.Quotas(context.Background(), "issuer:idp/123"); got.Topics != 10 || got.StoredBytes != 5<<30 {
		t.Errorf("whose roles are not known: %+v", got)
	}
	state.apply(&hubpb.Event{Kind: &hubpb.Event_QuotaRemoved{QuotaRemoved: &hubpb.QuotaRemoved{Name: "issuer:idp/123"}}})
	check("as in the file again", of("issuer:idp/123"), 10, 3, 7, 1<<30, 1<<10)

	// What a newer program stores, and this one does not understand, limits nothing and stops nothing.
	state.apply(&hubpb.Event{Kind: &hubpb.Event_QuotaSet{QuotaSet: &hubpb.QuotaSet{Name: "default", Quotas: []byte(`{"topics": {"a": 1}}`)}}})
	check("not understood", of("key/x"), 10, 10_000, 100, 1<<30, 1<<10)

	entries := guard.QuotaEntries()
	if len(entries) != 4 || entries[0].Name != "default" || entries[0].InForce.Get("streams").String() != "200" || entries[3].Name != "partner" || entries[3].InForce.Get("topics").String() != "60" {
		t.Errorf("%+v", entries)
	}
	guard.Whole = auth.HubLimits{}
	if got := of("key/x"); got.StoredBytes != 0 {
		t.Errorf("a share of no limit is %d", got.StoredBytes)
	}
}

func TestQuotasOfTheFileAreChecked(t *testing.T) {
	for text, says := range map[string]string{
		`{default: {topics: 10%}}`:           "quotas: default.topics: 10%; expected a number",
		`{default: {topics: -1}}`:            `"-1"`,
		`{default: {stored_bytes: 0%}}`:      "from 1% to 100%",
		`{default: {stored_bytes: plenty}}`:  `"plenty"`,
		`{default: {stored_byte: 1}}`:        "stored_byte",
		`{"a b": {topics: 1}}`:               "expected default, a role, or a principal",
		`{nowhere/x: {topics: 1}}`:           "nowhere",
		`{default: {api_keys: 99999999999}}`: "expected a number from 0",
	} {
		_, err := auth.ParseSettings([]byte("quotas: " + text + "\n"))
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

// Quotas are looked up for each publication while some are in bytes; whether there are any costs nothing to know.
func TestLookingUpQuotasCostsLittle(t *testing.T) {
	settings, err := auth.ParseSettings([]byte("quotas: {default: {stored_bytes: 5%}, r: {topics: 5}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	state := &stateOf{State: hub.NewState(), t: t}
	guard := auth.NewGuard(auth.NewGate(settings), auth.NewRuleSet(settings, state, log), auth.AuditAll, "node-1", log)
	ctx := auth.WithCaller(context.Background(), auth.Caller{Principal: &auth.Principal{ID: "key/x", Roles: []string{"r"}}})
	if n := testing.AllocsPerRun(100, func() { guard.Quotas(ctx, "key/x") }); n > 2 { // those of looking at the state
		t.Errorf("%v allocations", n)
	}
	var p hub.Policy
	guard.Apply(&p)
	guard.Rules()
	if n := testing.AllocsPerRun(100, func() { p.ByteQuotas() }); n > 0 || !p.ByteQuotas() {
		t.Errorf("%v allocations to learn that there are quotas of bytes (%v)", n, p.ByteQuotas())
	}
}
