package hub_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func callbackSet(pattern string, sealed []byte) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_CallbackCredentialsSet{CallbackCredentialsSet: &hubpb.CallbackCredentialsSet{
		Callback: pattern, Sealed: sealed, By: "root", Kind: "basic", Headers: []string{"X-Key"}}}}
}

func TestCallbackPatterns(t *testing.T) {
	for in, want := range map[string]string{
		"Hooks.Example.ORG": "hooks.example.org", "*.example.org": "*.example.org", "a.example:8443": "a.example:8443", "127.0.0.1": "127.0.0.1",
		"127.0.0.1:9000": "127.0.0.1:9000", "[fd00::1]": "[fd00::1]", "[fd00::1]:80": "[fd00::1]:80",
		"HTTPS://A.example:443/x?y": hub.NormalizeURL("HTTPS://A.example:443/x?y"),
		"":                          "", "*": "", "*.": "", "a/b": "", "a b": "", "a?": "", "a@b": "", "a.*.b": "", "a:99999999": "", "[fe80::1%25eth0]": "",
		"ftp://a.example/": "", "http://u:p@a.example/": "", "a\nb": "",
	} {
		got, err := hub.ParseCallbackPattern(in)
		if (err == nil) != (want != "") || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

// The most specific pattern decides, and a host's credentials go to no other host.
func TestCredentialsForACallback(t *testing.T) {
	w := newWorld(t)
	for _, p := range []string{"https://a.example.org/cb", "a.example.org:8443", "a.example.org", "*.example.org", "*.example.org:9000", "[fd00::1]"} {
		if r := w.apply(callbackSet(p, []byte(p))); r.Outcome != hub.OutcomeOK || !w.fx.CallbacksChanged {
			t.Fatalf("%s: %+v", p, r)
		}
	}
	for callback, want := range map[string]string{
		"https://a.example.org/cb": "https://a.example.org/cb", "https://A.example.org:443/cb": "https://a.example.org/cb",
		"https://a.example.org/other": "a.example.org", "https://a.example.org:8443/": "a.example.org:8443", "http://a.example.org/cb": "a.example.org",
		"https://b.example.org/": "*.example.org", "https://c.b.example.org/": "*.example.org", "http://b.example.org:9000/": "*.example.org:9000",
		"https://example.org/": "", "https://evilexample.org/": "", "https://a.example.org.evil/": "", "http://[fd00::1]:8080/": "[fd00::1]", "http://[fd00::2]/": "",
		"not a URL": "",
	} {
		pattern, sealed, ok := w.CredentialsFor(callback)
		if pattern != want || ok != (want != "") || string(sealed) != want {
			t.Errorf("%s: %q, want %q", callback, pattern, want)
		}
	}
}

func TestCallbackCredentialsInTheLog(t *testing.T) {
	w := newWorld(t)
	w.apply(keySwitched(keyA))
	const p = "hooks.example"
	if r := w.apply(callbackSet(p, nil)); r.Outcome != hub.OutcomeNotFound {
		t.Errorf("removed what was never there: %+v", r)
	}
	w.apply(callbackSet(p, sealedAs(keyA, "old", 1)))
	w.apply(callbackSet(p, sealedAs(keyA, "new", 2)))
	all := w.CallbackCredentials()
	if len(all) != 1 || all[0].Pattern != p || all[0].Kind != "basic" || all[0].By != "root" || string(all[0].Sealed) != string(sealedAs(keyA, "new", 2)) {
		t.Fatalf("set: %+v", all)
	}
	// A rotation of the sealing key: the key is needed until they are re-encrypted, along with a subscriber's headers.
	ask := func(key string, n int) hub.Result {
		e := requested(hub.ModeSubscribe, "news", cb, hr, "")
		e.GetSubscriptionRequested().SealedHeaders = sealedAs(key, "headers", n)
		return w.apply(e)
	}
	sub := hub.SubscriptionID(w.apply(w.verified(ask(keyA, 3).ID)).ID)
	pending := ask(keyA, 4)
	w.apply(keyAnnounced(keyB))
	w.apply(keySwitched(keyB))
	if c := w.SealedCounts()[keyA]; c != (hub.SealedCount{Subscriptions: 1, Requests: 1, Callbacks: 1}) || w.apply(keyRetired(keyA)).Outcome != hub.OutcomeStale {
		t.Fatalf("the old key seals %+v", c)
	}
	list := w.SecretsNotSealedWith(keyB, 0, 0, 10)
	if len(list) != 3 || list[0].Callback != p || list[0].Binding != hub.CallbackBinding(p) ||
		list[1].Subscription != sub || list[1].Binding != hub.HeadersBinding("news", cb) || list[2].Request != hub.RequestID(pending.ID) {
		t.Fatalf("to be re-encrypted: %+v", list)
	}
	stale := &hubpb.SecretsReencrypted_Item{Callback: p, Was: sealedAs(keyA, "old", 1), Sealed: sealedAs(keyB, "old", 5)}
	items := []*hubpb.SecretsReencrypted_Item{stale}
	for i, s := range list {
		_, secret := openedFrom(s.Sealed)
		items = append(items, &hubpb.SecretsReencrypted_Item{Callback: s.Callback, Subscription: uint64(s.Subscription), Request: uint64(s.Request),
			Was: s.Sealed, Sealed: sealedAs(keyB, secret, 10+i)})
	}
	w.apply(reencrypted(items...))
	if !w.fx.CallbacksChanged {
		t.Error("the effects do not say that credentials changed")
	}
	if left := w.SecretsNotSealedWith(keyB, 0, 0, 10); len(left) > 0 {
		t.Fatalf("left: %+v", left)
	}
	if w.apply(keyRetired(keyA)).Outcome != hub.OutcomeOK {
		t.Error("the old key is still needed")
	}
	if _, sealed, _ := w.CredentialsFor("https://hooks.example/"); string(sealed) != string(sealedAs(keyB, "new", 10)) {
		t.Errorf("now %q", sealed)
	}
	if ask(keyA, 20).Outcome != hub.OutcomeKeyRetired || w.apply(callbackSet(p, sealedAs(keyA, "x", 21))).Outcome != hub.OutcomeKeyRetired {
		t.Error("a retired key was accepted")
	}
	// A renewal replaces the headers, even by none (WebSub 5.1).
	w.apply(w.verified(pending.ID))
	if _, secret := openedFrom([]byte(w.sub(sub).SealedHeaders)); secret != "headers" {
		t.Errorf("headers %q", secret)
	}
	w.apply(w.verified(w.apply(requested(hub.ModeSubscribe, "news", cb, hr, "")).ID))
	if h := w.sub(sub).SealedHeaders; h != "" {
		t.Errorf("headers after a renewal without: %q", h)
	}
	w.apply(callbackSet(p, nil))
	if w.HasCallbackCredentials() || len(w.CallbackCredentials()) > 0 {
		t.Error("still there")
	}
}

func TestCredentialsAreChecked(t *testing.T) {
	long := strings.Repeat("x", 5000)
	oauth := func(u string) *hub.ClientCredentials {
		return &hub.ClientCredentials{TokenURL: u, ClientID: "id", ClientSecret: "s3cret"}
	}
	for name, c := range map[string]hub.Credentials{
		"nothing": {}, "two kinds": {Bearer: "s3cret", Basic: &hub.BasicCredentials{User: "u", Password: "s3cret"}},
		"header and kind": {Headers: map[string]string{"authorization": "s3cret"}, Bearer: "s3cret"},
		"user with colon": {Basic: &hub.BasicCredentials{User: "u:s3cret"}}, "no user": {Basic: &hub.BasicCredentials{Password: "s3cret"}},
		"line break": {Bearer: "s3cret\r\nX: y"}, "too long": {Bearer: "s3cret" + long}, "header with line break": {Headers: map[string]string{"X-A": "s3cret\r\nX: y"}},
		"plain http": {OAuth2: oauth("http://idp.example/token")}, "no URL": {OAuth2: oauth("")}, "no secret": {OAuth2: &hub.ClientCredentials{TokenURL: "https://a.example/"}},
		"Host": {Headers: map[string]string{"host": "s3cret"}}, "signature": {Headers: map[string]string{"X-HUB-Signature": "s3cret"}},
		"length": {Headers: map[string]string{"Content-Length": "1"}}, "transfer": {Headers: map[string]string{"Transfer-Encoding": "chunked"}},
		"webhook": {Headers: map[string]string{"webhook-signature": "s3cret"}}, "proxy": {Headers: map[string]string{"Proxy-Authorization": "s3cret"}},
		"no token": {Headers: map[string]string{"X A": "s3cret"}}, "no name": {Headers: map[string]string{"": "s3cret"}}, "empty": {Headers: map[string]string{"X-A": ""}},
		"twice": {Headers: map[string]string{"X-A": "s3cret", "x-a": "b"}}, "large": {Headers: map[string]string{"X-A": "s3cret" + long}},
	} {
		err := c.Check()
		var e *hub.Error
		if !errors.As(err, &e) || e.Code != hub.CodeInvalid || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]hub.Credentials{
		"": {Headers: map[string]string{"x-api-key": "k", "Authorization": "AWS x"}}, "basic": {Basic: &hub.BasicCredentials{User: "ü", Password: ""}},
		"bearer": {Headers: map[string]string{"X-A": "b"}, Bearer: "t"}, "oauth2": {OAuth2: oauth("https://idp.example/token")},
	} {
		if err := c.Check(); err != nil || c.Kind() != name {
			t.Errorf("%q: %v, kind %q", name, err, c.Kind())
		}
	}
	if err := (&hub.Credentials{OAuth2: oauth("http://127.0.0.1:1/token")}).Check(); err != nil {
		t.Error(err)
	}
}

// Subscribers choose headers only where the operator lets them; what they choose is sealed.
func TestHeadersOfSubscribers(t *testing.T) {
	form := func(extra ...string) url.Values {
		v := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {"http://hub.example/topics/news"}, "hub.callback": {cb}}
		for i := 0; i < len(extra); i += 2 {
			v.Add(extra[i], extra[i+1])
		}
		return v
	}
	service := func(allowed bool) (*hub.Service, *world) {
		w := newWorld(t)
		w.apply(&hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: 2}}})
		return hub.NewService(hub.Policy{Leases: leases, AutoRegister: true, SubscriberHeaders: allowed}, namer(t), single{w}, single{w}, box{}), w
	}
	s, w := service(true)
	id, err := s.Subscribe(t.Context(), form("hub.header.x-api-key", "s3cret", "hub.header.Authorization", "Bearer t"))
	if err != nil {
		t.Fatal(err)
	}
	r, _ := w.Request(id)
	text := []byte(strings.TrimPrefix(r.SealedHeaders, "sealed:"))
	slices.Reverse(text) // see box
	c, err := hub.ParseCredentials(text)
	if err != nil || len(c.Headers) != 2 || c.Headers["X-Api-Key"] != "s3cret" || c.Headers["Authorization"] != "Bearer t" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, extra := range [][]string{
		{"hub.header.", "s3cret"}, {"hub.header.Host", "s3cret"}, {"hub.header.X-Hub-Signature", "s3cret"}, {"hub.header.X-A", "s3cret\nb"}, {"hub.header.X A", "s3cret"},
		{"hub.header.X-A", "s3cret", "hub.header.X-A", "b"}, {"hub.header.X-A", "s3cret", "hub.header.x-a", "b"}, {"hub.header.X-A", ""},
		{"hub.header.X-A", "s3cret" + strings.Repeat("x", 5000)},
	} {
		var e *hub.Error
		if _, err := s.Subscribe(t.Context(), form(extra...)); !errors.As(err, &e) || e.Code != hub.CodeInvalid || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.60q: %v", extra, err)
		}
	}
	s, _ = service(false)
	var e *hub.Error
	if _, err := s.Subscribe(t.Context(), form("hub.header.X-A", "s3cret")); !errors.As(err, &e) || e.Code != hub.CodeForbidden || !strings.Contains(err.Error(), "hub.subscriber_headers") {
		t.Errorf("not allowed: %v", err)
	}
	if _, err := s.Subscribe(t.Context(), form()); err != nil {
		t.Error(err)
	}
	if _, err := s.Subscribe(t.Context(), url.Values{"hub.mode": {"unsubscribe"}, "hub.topic": {"http://hub.example/topics/news"}, "hub.callback": {cb}, "hub.header.X-A": {"x"}}); err != nil {
		t.Errorf("an unsubscribe request must ignore it: %v", err)
	}
}

// Old programs must not overlook what they cannot send.
func TestLevelOfCallbackCredentials(t *testing.T) {
	with := requested(hub.ModeSubscribe, "news", cb, hr, "")
	with.GetSubscriptionRequested().SealedHeaders = []byte("x")
	if hub.LevelOf(callbackSet("a.example", []byte("x"))) != 2 || hub.LevelOf(with) != 2 || hub.LevelOf(requested(hub.ModeSubscribe, "news", cb, hr, "")) != 1 {
		t.Error("wrong feature level")
	}
}
