package auth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/auth"
)

// answering is a RoundTripper that answers with a function and counts requests.
type answering struct {
	asked  atomic.Int32
	answer func(*http.Request) (int, string)
}

func (a *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	a.asked.Add(1)
	status, body := a.answer(r)
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

const valid = `{"response":{"userId":"service-account-p","role":"A, B,,C"},"errors":null}`

func remote(t *testing.T, client *http.Client, url, more string, now func() time.Time) *auth.RemoteTokens {
	t.Helper()
	s, err := auth.ParseSettings([]byte("token_service: {name: authmanager, url: \"" + url + "\"" + more + "}"))
	if err != nil {
		t.Fatal(err)
	}
	return auth.NewRemoteTokens(*s.TokenService, client, slog.New(slog.DiscardHandler), now)
}

func cookie(text ...string) *auth.Request {
	r := httptest.NewRequest(http.MethodPost, "http://hub.example/hub", nil)
	for _, c := range text {
		r.Header.Add("Cookie", c)
	}
	return &auth.Request{HTTP: r}
}

// outcome sums up a result in a word.
func outcome(p *auth.Principal, err error) string {
	var refusal *auth.RefusalError
	switch {
	case errors.Is(err, auth.ErrNotMine):
		return "not mine"
	case errors.As(err, &refusal):
		return "refused"
	case errors.Is(err, auth.ErrUnavailable):
		return "unavailable"
	case err != nil:
		return err.Error()
	}
	return p.User + " " + strings.Join(p.Roles, "+")
}

// Only an unambiguous yes admits anybody.
func TestTokenServiceAnswers(t *testing.T) {
	release := make(chan struct{})
	mux := http.NewServeMux()
	answers := map[string]struct {
		status     int
		body, want string
	}{
		"good":           {200, valid, "service-account-p A+B+C"},
		"no-roles":       {200, `{"response":{"userId":"u","role":null},"errors":[]}`, "u "},
		"errors":         {200, `{"response":null,"errors":[{"errorCode":"KER-ATH-401","message":"Invalid Token"}]}`, "refused"},
		"lie":            {200, `{"response":{"userId":"u","role":"A"},"errors":[{"errorCode":"KER-ATH-401"}]}`, "refused"},
		"errors-object":  {200, `{"response":{"userId":"u","role":"A"},"errors":{"code":1}}`, "refused"},
		"401":            {401, `Unauthorized`, "refused"},
		"403":            {403, ``, "refused"},
		"nobody":         {200, `{"response":{"userId":" ","role":"A"},"errors":null}`, "unavailable"},
		"no-response":    {200, `{"response":null,"errors":null}`, "unavailable"},
		"empty":          {200, ``, "unavailable"},
		"null":           {200, `null`, "unavailable"},
		"list":           {200, `[]`, "unavailable"},
		"roles-a-list":   {200, `{"response":{"userId":"u","role":["A"]}}`, "unavailable"},
		"page":           {200, `<html>log in</html>`, "unavailable"},
		"two-values":     {200, valid + valid, "unavailable"},
		"cut-off":        {200, valid[:40], "unavailable"},
		"control":        {200, `{"response":{"userId":"u\nv","role":"A"}}`, "unavailable"},
		"oversized":      {200, `{"response":{"userId":"u","role":"` + strings.Repeat("A,", 64<<10) + `"}}`, "unavailable"},
		"oversized-tail": {200, valid + strings.Repeat(" ", 128<<10), "unavailable"},
		"404":            {404, valid, "unavailable"},
		"500":            {500, valid, "unavailable"},
		"201":            {201, valid, "unavailable"},
		"redirect":       {302, ``, "unavailable"},
		"slow":           {0, ``, "unavailable"},
	}
	mux.HandleFunc("GET /v1/authmanager/authorize/admin/validateToken", func(w http.ResponseWriter, r *http.Request) {
		name, _ := strings.CutPrefix(r.Header.Get("Cookie"), "Authorization=")
		a := answers[name]
		if name == "slow" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		w.Header().Set("Location", "/good")
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	defer close(release)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a := remote(t, client, server.URL+"/v1/authmanager/", ", timeout: 300ms", time.Now)
	for name, c := range answers {
		if name == "slow" {
			continue
		}
		if got := outcome(a.Authenticate(t.Context(), cookie("Authorization="+name))); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if got := outcome(a.Authenticate(t.Context(), cookie("Authorization=slow"))); got != "unavailable" {
		t.Errorf("slow: %s", got)
	}
	server.Close()
	if got := outcome(a.Authenticate(t.Context(), cookie("Authorization=other"))); got != "unavailable" {
		t.Errorf("down: %s", got)
	}
	if a.Ready() != nil || a.Warning() == "" {
		t.Errorf("down after answering once: ready %v, warning %q", a.Ready(), a.Warning())
	}
	// Recent answers stay valid.
	if got := outcome(a.Authenticate(t.Context(), cookie("Authorization=good"))); got != "service-account-p A+B+C" {
		t.Errorf("remembered: %s", got)
	}
}

func TestTokenServiceCookies(t *testing.T) {
	rt := &answering{answer: func(r *http.Request) (int, string) {
		if c := r.Header.Get("Cookie"); c != "Authorization=tok.en=" {
			return 401, c
		}
		return 200, valid
	}}
	a := remote(t, &http.Client{Transport: rt}, "https://auth.example/v1", ", refused_cache: 1ms", time.Now)
	const yes = "service-account-p A+B+C"
	for header, want := range map[string]string{
		"Authorization=tok.en=":                        yes,
		"a=b; Authorization=tok.en=":                   yes,
		"a=b;Authorization=tok.en=":                    yes,
		"a=b ;   Authorization=tok.en=  ; c=d":         yes,
		"a=b;; ;Authorization=tok.en=;":                yes,
		`Authorization="tok.en="`:                      yes,
		"Authorization=Bearer tok.en=":                 yes,
		"authorization=tok.en=":                        "not mine",
		"xAuthorization=tok.en=":                       "not mine",
		"a=Authorization=tok.en=":                      "not mine",
		"a=b":                                          "not mine",
		"Authorization=":                               "refused",
		"Authorization=tok en":                         "refused",
		"Authorization=tok,en":                         "refused",
		"Authorization=tok.en=; Authorization=x":       "refused",
		"Authorization=" + strings.Repeat("x", 17<<10): "refused",
	} {
		if got := outcome(a.Authenticate(t.Context(), cookie(header))); got != want {
			t.Errorf("%.60s: %s, want %s", header, got, want)
		}
	}
	if got := outcome(a.Authenticate(t.Context(), cookie("a=b", "Authorization=tok.en="))); got != yes {
		t.Errorf("in the second header: %s", got)
	}
	r := cookie("Authorization=tok.en=")
	r.HTTP.Header.Set("Authorization", "Bearer other")
	if got := outcome(a.Authenticate(t.Context(), r)); got != "refused" {
		t.Errorf("beside a bearer token: %s", got)
	}
}

// jwt is a token with an expiry; nobody checks its signature here.
func jwt(exp time.Time) string {
	return "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, exp.Unix())) + ".c2ln"
}

func TestTokenServiceCache(t *testing.T) {
	c := &clock{at: time.Unix(1_700_000_000, 0)}
	var revoked atomic.Bool
	rt := &answering{answer: func(*http.Request) (int, string) {
		if revoked.Load() {
			return 401, ""
		}
		return 200, valid
	}}
	a := remote(t, &http.Client{Transport: rt}, "https://auth.example/v1", ", cache: 60s, refused_cache: 10s", c.now)
	step := func(what, token, want string, asked int32) {
		t.Helper()
		before := rt.asked.Load()
		if got := outcome(a.Authenticate(t.Context(), cookie("Authorization="+token))); got != want || rt.asked.Load()-before != asked {
			t.Errorf("%s: %s after %d requests, want %s after %d", what, got, rt.asked.Load()-before, want, asked)
		}
	}
	const yes = "service-account-p A+B+C"
	short, expired := jwt(c.now().Add(40*time.Second)), jwt(c.now().Add(-time.Minute))
	step("first", "opaque", yes, 1)
	step("again", "opaque", yes, 0)
	step("another", "other", yes, 1)
	step("short", short, yes, 1)
	step("expired", expired, "refused", 0)
	revoked.Store(true)
	c.advance(39 * time.Second)
	step("revoked, still cached", "opaque", yes, 0)
	step("short, not expired", short, yes, 0)
	c.advance(2 * time.Second)
	step("short, expired", short, "refused", 1)
	c.advance(20 * time.Second)
	step("revoked, cache expired", "opaque", "refused", 1)
	step("refused again", "opaque", "refused", 0)
	revoked.Store(false)
	c.advance(9 * time.Second)
	step("refused, still cached", "opaque", "refused", 0)
	c.advance(2 * time.Second)
	step("refused, cache expired", "opaque", yes, 1)
	// A flood of invalid tokens evicts no valid one.
	revoked.Store(true)
	for i := range 20_000 {
		if got := outcome(a.Authenticate(t.Context(), cookie(fmt.Sprintf("Authorization=bad%d", i)))); got != "refused" {
			t.Fatalf("bad token: %s", got)
		}
	}
	step("after a flood", "opaque", yes, 0)
}

// Concurrent requests with one token cause one question, which outlives the request that asked first.
func TestTokenServiceIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		rt := &answering{answer: func(r *http.Request) (int, string) {
			select {
			case <-release:
				return 200, valid
			case <-r.Context().Done():
				return 504, ""
			}
		}}
		a := remote(t, &http.Client{Transport: rt}, "https://auth.example/v1", "", time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		got := make([]string, 50)
		all.Go(func() { _, _ = a.Authenticate(ctx, cookie("Authorization=x")) })
		synctest.Wait()
		for i := range got {
			all.Go(func() { got[i] = outcome(a.Authenticate(t.Context(), cookie("Authorization=x"))) })
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		all.Wait()
		if n := rt.asked.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		for _, s := range got {
			if s != "service-account-p A+B+C" {
				t.Fatalf("one of the waiting requests: %s", s)
			}
		}
	})
}

// A service that is down when the hub starts is reported before anybody calls, and found when it comes up.
func TestTokenServiceAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		rt := &answering{answer: func(r *http.Request) (int, string) {
			if !up.Load() {
				return 503, ""
			}
			return 401, "" // its answer to a request without a token
		}}
		var log bytes.Buffer
		s, err := auth.ParseSettings([]byte("token_service: {name: authmanager, url: \"https://auth.example\"}"))
		if err != nil {
			t.Fatal(err)
		}
		a := auth.NewRemoteTokens(*s.TokenService, &http.Client{Transport: rt}, slog.New(slog.NewTextHandler(&log, nil)), time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan struct{})
		go func() { defer close(done); a.Run(ctx) }()
		synctest.Wait()
		if err := a.Ready(); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("ready: %v", err)
		}
		if err := a.Probe(ctx); err == nil {
			t.Error("a probe succeeds")
		}
		time.Sleep(time.Minute)
		up.Store(true)
		<-done
		if err := a.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		if n := rt.asked.Load(); n > 20 {
			t.Errorf("asked %d times within a minute", n)
		}
		if !strings.Contains(log.String(), "does not answer") {
			t.Errorf("the log is %q", log.String())
		}
	})
}

func TestTokenServiceSettings(t *testing.T) {
	const idp = "issuers: [{name: idp, issuer: \"https://id.example\", audiences: [hub], cookie: Authorization}]\n"
	for text, want := range map[string]string{
		`token_service: {name: a, url: "http://authmanager/v1"}`:                      "plain_http",
		`token_service: {name: a, url: "authmanager/v1"}`:                             "not an absolute URL",
		`token_service: {name: a, url: "https://u:p@h/v1"}`:                           "not an absolute URL",
		`token_service: {name: a, url: "https://h/v1?x=1"}`:                           "has a query",
		`token_service: {name: "", url: "https://h/v1"}`:                              "name",
		`token_service: {name: a, url: "https://h/v1", cookie: "a b"}`:                "cookie",
		`token_service: {name: a, url: "https://h/v1", cache: 1h}`:                    "cache",
		`token_service: {name: a, url: "https://h/v1", timeout: -1s}`:                 "timeout",
		`token_service: {name: a, url: "https://h/v1", tokens: x}`:                    "unknown",
		idp + `token_service: {name: idp, url: "https://h/v1", cookie: Other}`:        "is taken by an issuer",
		idp + `token_service: {name: a, url: "https://h/v1"}`:                         "is also used by issuer idp",
		`rules: [{name: r, may: [publish], topics: ["**"], who: [{issuer: nobody}]}]`: "unknown issuer",
	} {
		if _, err := auth.ParseSettings([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	s, err := auth.ParseSettings([]byte(`
token_service: {name: authmanager, url: "http://authmanager.kernel/v1/authmanager", plain_http: true}
rules: [{name: r, may: [publish], topics: ["**"], who: [{issuer: authmanager, role: A}]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if s.TokenService.Cookie != "Authorization" || s.TokenService.Cache != 30*time.Second || s.TokenService.RefusedCache != 5*time.Second || s.TokenService.Timeout != 5*time.Second {
		t.Errorf("defaults: %+v", s.TokenService)
	}
}
