package login_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
)

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// started returns the cookies of a browser that has begun n logins, whose states are s0, s1 and so on.
func started(t *testing.T, h *hub, n int) []*http.Cookie {
	t.Helper()
	var jar []*http.Cookie
	for range n {
		resp, _ := h.do(t, "GET", "/toy?app=ball", nil, jar...)
		for _, c := range resp.Cookies() {
			jar = slices.DeleteFunc(jar, func(had *http.Cookie) bool { return had.Name == c.Name })
			if c.MaxAge >= 0 {
				jar = append(jar, c)
			}
		}
	}
	return jar
}

// counting begins a login with each request, and takes a callback as done.
func counting() process {
	n := 0
	return func(q *sequence.Request) *sequence.Result {
		if q.Callback {
			return &sequence.Result{Status: sequence.Authenticated, Provider: "ball", Return: q.Context, Principal: &auth.Principal{ID: "issuer:corp/7"}}
		}
		n++
		state := fmt.Sprintf("s%d", n-1)
		return &sequence.Result{Status: sequence.Incomplete, Provider: "ball", Next: &sequence.Interaction{Redirect: "https://idp.example.org/?state=" + state}, State: state, Context: "context-of-" + state}
	}
}

// TestLoginsInSeveralTabs: each tab comes back to its own context; a browser keeps at most four, and the oldest goes.
func TestLoginsInSeveralTabs(t *testing.T) {
	h := serve(t, counting(), &toy{})
	jar := started(t, h, 6)
	if len(jar) != 4 {
		t.Fatalf("the browser keeps %d contexts, want 4", len(jar))
	}
	for i := range 6 {
		resp, body := h.do(t, "GET", fmt.Sprintf("/login/callback/corp?state=s%d", i), nil, jar...)
		if kept := i >= 2; kept != strings.HasSuffix(body, fmt.Sprintf("context-of-s%d", i)) {
			t.Errorf("tab %d: got %d: %s", i, resp.StatusCode, body)
		}
	}
	for _, c := range jar {
		if !strings.HasPrefix(c.Name, "__Host-quorumhub-login-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 600 {
			t.Errorf("cookie %s: got %+v", c.Name, c)
		}
	}
}

// TestBadCallbacks: whatever is wrong with a callback, the sequences never see a context that is not this browser's, the answer is one
// page that tells nothing and says how to start again, and the log has the reason.
func TestBadCallbacks(t *testing.T) {
	callbacks := 0
	next := counting()
	h := serve(t, process(func(q *sequence.Request) *sequence.Result {
		if q.Callback {
			callbacks++
			return &sequence.Result{Status: sequence.Failed, Err: fmt.Errorf("%w: claimed before", sequence.ErrContext)}
		}
		return next(q)
	}), &toy{})
	jar := started(t, h, 1)
	twice := append(slices.Clone(jar), &http.Cookie{Name: jar[0].Name, Value: "tossed"})
	pages := map[string]bool{}
	cases := []struct {
		name, path string
		cookies    []*http.Cookie
		reaches    bool
	}{
		{"no state", "/login/callback/corp?code=c", jar, false},
		{"empty state", "/login/callback/corp?state=&code=c", jar, false},
		{"two states", "/login/callback/corp?state=s0&state=s0", jar, false},
		{"long state", "/login/callback/corp?state=" + strings.Repeat("s", 4000), jar, false},
		{"another browser", "/login/callback/corp?state=s0", nil, false},
		{"another state", "/login/callback/corp?state=s1", jar, false},
		{"a cookie twice", "/login/callback/corp?state=s0", twice, false},
		{"an empty cookie", "/login/callback/corp?state=s0", []*http.Cookie{{Name: jar[0].Name}}, false},
		{"a broken query", "/login/callback/corp?state=%zz", jar, false},
		{"nobody's", "/login/callback/?state=s0", jar, false},
		{"claimed before", "/login/callback/corp?state=s0", jar, true},
	}
	for _, c := range cases {
		logged, reached := len(h.refused), callbacks
		resp, body := h.do(t, "GET", c.path, nil, c.cookies...)
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, `href="/login"`) || !strings.Contains(body, "cannot be continued") {
			t.Errorf("%s: got %d: %s", c.name, resp.StatusCode, body)
		}
		if (callbacks > reached) != c.reaches {
			t.Errorf("%s: reached the sequences: %v", c.name, callbacks > reached)
		}
		if len(h.refused) != logged+1 {
			t.Errorf("%s: the log says %v", c.name, h.refused[logged:])
		}
		pages[body] = true
		r, body := h.json(t, c.path, c.cookies...)
		if r.StatusCode != http.StatusBadRequest || !strings.Contains(body, `"code":"login_broken"`) {
			t.Errorf("%s, a program: got %d: %s", c.name, r.StatusCode, body)
		}
	}
	if len(pages) != 1 {
		t.Errorf("the cases can be told apart by %d pages, want one", len(pages))
	}
	if h.budget != 1000-2*len(cases) {
		t.Errorf("%d refusals are left of 1000 after %d bad callbacks", h.budget, 2*len(cases))
	}
	h.budget = 0
	reached := callbacks
	if resp, _ := h.do(t, "GET", "/login/callback/corp?state=s0", nil, jar...); resp.StatusCode != http.StatusForbidden || callbacks != reached {
		t.Errorf("a client without budget: got %d, reached the sequences: %v", resp.StatusCode, callbacks > reached)
	}
}

func (h *hub) json(t *testing.T, path string, cookies ...*http.Cookie) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", h.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	resp, err := h.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp, readAll(t, resp)
}

// TestChooserAndForm: the chooser and a form are sent to the hub with the state, and a wrong answer counts as refused.
func TestChooserAndForm(t *testing.T) {
	evil := `"><script>alert(1)</script>`
	step := 0
	h := serve(t, process(func(q *sequence.Request) *sequence.Result {
		step++
		form := &sequence.Form{Authenticator: "emergency", Label: evil, Fields: []sequence.Field{{Name: "username", Label: evil, Autocomplete: "username"},
			{Name: "code", Label: "Code", Secret: true, Autocomplete: "one-time-code"}}}
		out := &sequence.Result{Status: sequence.Incomplete, Provider: "ball", State: "st", Context: "c"}
		switch step {
		case 1:
			out.Next = &sequence.Interaction{Choose: []sequence.Choice{{Name: "corp", Label: evil}, {Name: "emergency", Label: "Emergency"}}}
		case 2:
			if q.Form.Get("idp") != "emergency" || q.Hint != "" {
				t.Errorf("the choice: got %+v", q)
			}
			out.Next = &sequence.Interaction{Form: form}
		default:
			form.Wrong, form.Left, out.Err = true, 1, &auth.RefusalError{Reason: "wrong password"}
			out.Next, out.Trail = &sequence.Interaction{Form: form}, []sequence.Trace{{Step: 1, Strategy: "multi", Authenticator: "emergency", Status: sequence.Failed, Reason: "wrong password"}}
		}
		return out
	}), &toy{})
	resp, body := h.do(t, "GET", "/toy?app=ball", nil)
	choice := regexp.MustCompile(`(?s)<form method="post" action="/login/form">.*name="state" value="st".*<button name="idp" value="corp">.*<button name="idp" value="emergency">Emergency</button>`)
	if !choice.MatchString(body) || strings.Contains(body, "<script") {
		t.Errorf("the chooser: %s", body)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || resp.Header.Get("X-Frame-Options") != "DENY" ||
		resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Referrer-Policy") != "no-referrer" || strings.Contains(policy, "unsafe") {
		t.Errorf("headers: %v", resp.Header)
	}
	jar := resp.Cookies()
	if _, body = h.do(t, "POST", "/login/form", url.Values{"state": {"st"}, "idp": {"emergency"}}, jar...); !strings.Contains(body, `autocomplete="one-time-code" inputmode="numeric"`) || strings.Contains(body, "<script") {
		t.Errorf("the form: %s", body)
	}
	resp, body = h.do(t, "POST", "/login/form", url.Values{"state": {"st"}, "username": {"root"}}, jar...)
	if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, `role="alert"`) || !strings.Contains(body, "try once more") || len(h.refused) != 1 || h.budget != 999 {
		t.Errorf("a wrong answer: got %d: %s; the log says %v, %d refusals are left", resp.StatusCode, body, h.refused, h.budget)
	}
	if resp, _ := h.do(t, "POST", "/login/form", url.Values{"state": {"st"}, "x": {strings.Repeat("a", 20_000)}}, jar...); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a form of 20 kB: got %d", resp.StatusCode)
	}
}

// TestFailuresAreTold: each kind of failure has its status and advice, and the reason stays in the log.
func TestFailuresAreTold(t *testing.T) {
	var fails error
	h := serve(t, process(func(*sequence.Request) *sequence.Result {
		return &sequence.Result{Status: sequence.Failed, Provider: "ball", Err: fails}
	}), &toy{})
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{&auth.RefusalError{Method: auth.MethodSession, Reason: "SECRET reason"}, 403, "could not be logged in"},
		{fmt.Errorf("%w: SECRET dial", auth.ErrUnavailable), 503, "try again shortly"},
		{fmt.Errorf("%w: SECRET", sequence.ErrHint), 400, "no such way"},
		{fmt.Errorf("%w: SECRET", sequence.ErrContext), 400, "cannot be continued"},
	} {
		fails = c.err
		resp, body := h.do(t, "GET", "/toy?app=ball", nil)
		if resp.StatusCode != c.status || !strings.Contains(body, c.text) || strings.Contains(body, "SECRET") {
			t.Errorf("%v: got %d: %s", c.err, resp.StatusCode, body)
		}
		if c.status == 503 && resp.Header.Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
		if last := h.refused[len(h.refused)-1]; !strings.Contains(last.Error(), "SECRET") {
			t.Errorf("the log says %v", last)
		}
	}
}
