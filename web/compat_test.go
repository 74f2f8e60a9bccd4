package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// Text from a request adds no parameter to an answer, in any refusal of the profiles whose answers are forms.
func TestAnswersHaveNoInjectedParameters(t *testing.T) {
	names := []string{"x&hub.mode=accepted", "a;b=c#d", "50% off+more", "\u00fc&\u2028", "100%25", "x&hub.reason=none"}
	for _, profile := range []web.Profile{web.ProfileBallerina, web.ProfileMOSIP} {
		f := newFixture(t, func(rules *hub.Policy, o *web.Options) { o.Profile, rules.AutoRegister = profile, false })
		g := newGuarded(t, "", func(_ *hub.Policy, o *web.Options) { o.Profile = profile })
		limited := newFixture(t, func(_ *hub.Policy, o *web.Options) {
			o.Profile, o.Limits = profile, web.Limits{Subscribe: hub.Rate{Requests: 1, Per: time.Hour}, Publish: hub.Rate{Requests: 1, Per: time.Hour}, Admin: hub.Rate{Requests: 1, Per: time.Hour}}
		})
		for _, name := range names {
			answers := map[string]*httptest.ResponseRecorder{
				"deregister":       f.form("hub.mode", "deregister", "hub.topic", name),
				"event":            f.form("hub.mode", "publish", "hub.topic", name),
				"content":          f.send("POST", publishURL(name), "{}", "Content-Type", "application/json"),
				"not authorized":   g.form("hub.mode", "register", "hub.topic", name),
				"subscribe denied": g.form("hub.mode", "subscribe", "hub.topic", name, "hub.callback", "https://s.example/cb?a=1&b=2"),
			}
			limited.form("hub.mode", "register", "hub.topic", name)
			answers["limited"] = limited.form("hub.mode", "register", "hub.topic", name)
			f.form("hub.mode", "register", "hub.topic", name)
			answers["registered"] = f.form("hub.mode", "register", "hub.topic", name)
			for what, w := range answers {
				if w.Header().Get("Content-Type") != formType {
					if w.Code < 400 {
						t.Errorf("%s, %s, %q: %d of type %s", profile, what, name, w.Code, w.Header().Get("Content-Type"))
					}
					continue
				}
				body := w.Body.String()
				values, err := url.ParseQuery(body)
				if err != nil || len(values) != 2 || len(values["hub.mode"]) != 1 || values.Get("hub.mode") != "denied" || len(values["hub.reason"]) != 1 {
					t.Errorf("%s, %s, %q: %q parses as %v (%v)", profile, what, name, body, values, err)
				}
				if (what == "event" || what == "content") && !strings.Contains(values.Get("hub.reason"), "Topic ["+name+"] is not registered") && name != names[3] {
					t.Errorf("%s, %s: the reason is %q", profile, what, values.Get("hub.reason"))
				}
			}
			if w := f.form("hub.mode", "deregister", "hub.topic", name); w.Body.String() != "hub.mode=accepted" || w.Code != http.StatusOK {
				t.Errorf("%s: deregister %q: %d %q", profile, name, w.Code, w.Body)
			}
		}
	}
}
