package hub_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func TestSignatureScheme(t *testing.T) {
	namer, err := hub.NewTopicNamer("https://hub.example")
	if err != nil {
		t.Fatal(err)
	}
	leases := hub.LeasePolicy{Min: time.Second, Default: time.Hour, Max: time.Hour}
	parse := func(scheme, secret string) (*hub.SubscribeRequest, error) {
		return hub.ParseSubscribe(url.Values{"hub.mode": {"subscribe"}, "hub.topic": {"https://hub.example/topics/a"}, "hub.callback": {cb},
			"hub.signature_scheme": {scheme}, "hub.secret": {secret}}, namer, leases)
	}
	for _, tc := range []struct{ scheme, secret, want string }{
		{"", "s", ""}, {"websub", "s", ""}, {"websub", "", ""}, {"websub", "whsec_x", ""}, {"standard-webhooks", "any secret", "standard-webhooks"},
		{"standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "standard-webhooks"},
	} {
		if r, err := parse(tc.scheme, tc.secret); err != nil || r.Scheme != tc.want {
			t.Errorf("%q with %q: %+v (%v)", tc.scheme, tc.secret, r, err)
		}
	}
	for _, tc := range []struct{ scheme, secret, param string }{
		{"standard-webhooks", "", "hub.signature_scheme: is standard-webhooks, which requires hub.secret"}, {"rsa", "s", "hub.signature_scheme: is \"rsa\"; expected websub"},
		{"standard-webhooks", "whsec_MfKQ", "hub.secret: begins with whsec_"}, {"standard-webhooks", "whsec_not base64!", "hub.secret:"},
	} {
		_, err := parse(tc.scheme, tc.secret)
		if err == nil || !strings.HasPrefix(err.Error(), tc.param) || tc.secret != "" && tc.secret != "s" && strings.Contains(err.Error(), tc.secret) {
			t.Errorf("%q with %q: %v", tc.scheme, tc.secret, err)
		}
	}
}

// Only a few former secrets are kept, none beyond its grace period. A renewal without a secret or without the scheme
// drops them all (WebSub 5.1: the verified request replaces what was there).
func TestFormerSecrets(t *testing.T) {
	w := newWorld(t)
	renew := func(secret, scheme string, grace int64) hub.Subscription {
		t.Helper()
		e := requested(hub.ModeSubscribe, "news", cb, 10*86400, secret)
		e.GetSubscriptionRequested().Scheme, e.GetSubscriptionRequested().SecretGrace = scheme, grace
		r := w.apply(e)
		return w.sub(hub.SubscriptionID(w.apply(w.verified(r.ID)).ID))
	}
	kept := func(s hub.Subscription) (out string) {
		for _, f := range s.Former {
			out += string(f.Sealed)
		}
		return out
	}
	const scheme = hub.SchemeStandardWebhooks
	for i, step := range []struct {
		secret, scheme string
		grace          int64
		kept           string
	}{
		{"a", scheme, 3600, ""}, {"b", scheme, 3600, "a"}, {"c", scheme, 3600, "ba"}, {"d", scheme, 3600, "cba"}, {"e", scheme, 3600, "dcb"},
		{"f", "", 3600, ""}, {"g", scheme, 3600, ""}, {"h", scheme, 3600, "g"}, {"", "", 3600, ""}, {"i", scheme, 3600, ""}, {"j", scheme, 0, ""},
	} {
		s := renew(step.secret, step.scheme, step.grace)
		if kept(s) != step.kept || string(s.SealedSecret) != step.secret || s.Scheme != step.scheme {
			t.Errorf("step %d: %s with %q, kept %q, want %q", i, s.SealedSecret, s.Scheme, kept(s), step.kept)
		}
		w.State = reloaded(t, w.State)
	}
	renew("k", scheme, 60)
	w.advance(2 * time.Minute)
	if s := renew("l", scheme, 60); kept(s) != "k" || !s.Former[0].Until.Equal(w.now.Add(time.Minute)) {
		t.Errorf("kept %q until %v", kept(s), s.Former[0].Until)
	}
}

// The operator's choice of a method goes before the subscriber's, survives renewals, and can be taken back.
func TestOperatorsSignatureMethod(t *testing.T) {
	w := newWorld(t)
	renew := func(method string) hub.SubscriptionID {
		e := requested(hub.ModeSubscribe, "news", cb, 10*86400, "secret")
		e.GetSubscriptionRequested().Signature = method
		return hub.SubscriptionID(w.apply(w.verified(w.apply(e).ID)).ID)
	}
	id := renew("sha512")
	set := func(method string) *hubpb.Event {
		return &hubpb.Event{Kind: &hubpb.Event_SubscriptionSignatureSet{SubscriptionSignatureSet: &hubpb.SubscriptionSignatureSet{Subscription: uint64(id), Method: method}}}
	}
	for i, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "sha512"},
		{func() { w.apply(set("sha1")) }, "sha1"},
		{func() { renew("sha512") }, "sha1"},
		{func() { renew("") }, "sha1"},
		{func() { w.apply(set("")) }, ""},
		{func() { renew("sha384") }, "sha384"},
	} {
		step.do()
		sub := w.sub(id)
		back, _ := reloaded(t, w.State).Subscription(id)
		if sub.SignatureMethod() != step.want || back.SignatureMethod() != step.want {
			t.Errorf("step %d: %q, after a restart %q, want %q", i, sub.SignatureMethod(), back.SignatureMethod(), step.want)
		}
	}
	e := set("sha1")
	e.GetSubscriptionSignatureSet().Subscription = 99
	if r := w.apply(e); r.Outcome != hub.OutcomeStale {
		t.Errorf("an unknown subscription: outcome %d", r.Outcome)
	}
	if hub.LevelOf(e) != 2 {
		t.Error("older programs stop at this event")
	}
}
