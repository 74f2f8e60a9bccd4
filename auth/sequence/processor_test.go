package sequence_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
)

// The following were mistakes of the identity gateway from which the idea of sequences comes: see docs/identity.md.

// A form that may be tried three times is refused at the fourth: not at the third, and not at the fifth. The last refusal is a result, too.
func TestTriesAreExact(t *testing.T) {
	for retries := range 4 {
		s := newStage(t, fmt.Sprintf("[{strategy: single, of: [emergency], retries: %d}]", retries))
		s.at("emergency").answer = fails(errWrong)
		res := s.process(s.browser())
		form(false, retries+1)(t, s, res)
		for try := range retries {
			res = s.answered(res)
			form(true, retries-try)(t, s, res)
		}
		last := s.answered(res)
		if last.Status != sequence.Failed || len(s.at("emergency").finishes) != retries+1 {
			t.Errorf("retries %d: %s after %d tries, want the end after %d", retries, last.Status, len(s.at("emergency").finishes), retries+1)
		}
		refusal(t, s, last)
		if last.Provider != "app" || last.Return != "/console" {
			t.Errorf("provider %q, return %q: nobody can begin again", last.Provider, last.Return)
		}
		// Whoever has kept the cookie and the page of an earlier try gets no further one.
		again := s.answered(res)
		foreign(t, s, again)
		if len(s.at("emergency").finishes) != retries+1 {
			t.Errorf("retries %d: an old page was one more try", retries)
		}
	}
}

// The right password at the last try is good.
func TestTheLastTryMaySucceed(t *testing.T) {
	s := newStage(t, typeIn)
	s.at("emergency").answer = fails(errWrong)
	res := s.answered(s.process(s.browser()))
	s.at("emergency").answer = is("local/ann")
	if res = s.answered(res); res.Status != sequence.Authenticated {
		t.Errorf("%s: %v", res.Status, res.Err)
	}
}

// Whoever logs in with something that ends, such as an access token typed into a page, has no session beyond that.
func TestSessionsEndWithWhatBeganThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, typeIn)
		ends := time.Now().Add(5 * time.Minute)
		s.at("emergency").answer = func(f *sequence.Finish) (*sequence.Identity, error) {
			id, err := is("local/ann")(f)
			id.Principal.Until = ends
			return id, err
		}
		res := s.answered(s.process(s.browser()))
		if res.Status != sequence.Authenticated || !s.sessions.began[0].Ends.Equal(ends) {
			t.Errorf("%s %v, the session ends at %v, want %v", res.Status, res.Err, s.sessions.began[0].Ends, ends)
		}
	})
}

// An answer counts once, on however many nodes it arrives at the same time.
func TestAnAnswerCountsOnce(t *testing.T) {
	s := newStage(t, signIn)
	s.sessions.began = nil
	b := s.back(s.process(s.browser()))
	s.people["corp"] = &counting{person: s.at("corp")}
	var good atomic.Int32
	var running sync.WaitGroup
	for range 8 {
		p := s.node()
		running.Go(func() {
			for range 4 {
				switch res := p.Process(t.Context(), b); {
				case res.Status == sequence.Authenticated:
					good.Add(1)
				case !errors.Is(res.Err, sequence.ErrContext):
					t.Errorf("%s: %v", res.Status, res.Err)
				}
			}
		})
	}
	running.Wait()
	if good.Load() != 1 || s.people["corp"].(*counting).n.Load() != 1 {
		t.Errorf("%d logins and %d questions to the provider, want one of each", good.Load(), s.people["corp"].(*counting).n.Load())
	}
}

type counting struct {
	*person
	n atomic.Int32
}

func (c *counting) Finish(_ context.Context, f *sequence.Finish) (*sequence.Identity, error) {
	c.n.Add(1)
	return c.answer(f)
}

// The request never picks an authenticator that is none of the step's: by no hint, choice or callback.
func TestARequestPicksNoOtherAuthenticator(t *testing.T) {
	for name, play := range map[string]func(*stage) *sequence.Result{
		"a hint, single": func(s *stage) *sequence.Result { return s.process(hinted(s.browser(), "emergency")) },
		"a choice where nothing was to be chosen": func(s *stage) *sequence.Result {
			return s.answered(s.process(s.browser()), sequence.FieldChoice, "emergency")
		},
		"a callback of another provider": func(s *stage) *sequence.Result {
			return s.process(hinted(s.back(s.process(s.browser())), "emergency"))
		},
	} {
		s := newStage(t, signIn)
		play(s)
		if e := s.at("emergency"); len(e.starts)+len(e.finishes) != 0 {
			t.Errorf("%s: the authenticator was used", name)
		}
	}
}

// A login replaces the session that was there, whosever it was, and what another person had passed does not count for the new one.
func TestALoginReplacesTheSession(t *testing.T) {
	s := newStage(t, signIn)
	bob := s.in("partner")
	bob.Principal = &auth.Principal{Method: auth.MethodSession, ID: "issuer:partner/bob"}
	res := s.process(in(s.back(s.process(in(s.browser(), bob))), bob))
	if res.Status != sequence.Authenticated || len(s.sessions.began) != 1 {
		t.Fatalf("%s %v, %d sessions", res.Status, res.Err, len(s.sessions.began))
	}
	n := s.sessions.began[0]
	if n.Former != bob || len(n.Passed) != 1 || n.Passed[0].Authenticator != "corp" || !n.Ends.IsZero() || n.Principal.ID != "issuer:corp/ann" {
		t.Errorf("%+v, want a session of ann alone in place of bob's", n)
	}
	// The same person again, anew: the session's other steps stay, its absolute limit begins again.
	ann := s.in("corp", "partner")
	r := in(s.browser(), ann)
	r.Anew = true
	res = s.process(in(s.back(s.process(r)), ann))
	n = s.sessions.began[1]
	if res.Status != sequence.Authenticated || n.Former != ann || len(n.Passed) != 2 || n.Passed[1].Authenticator != "corp" || !n.Ends.IsZero() {
		t.Errorf("%s %+v, want partner, then corp as of now", res.Status, n)
	}
	if start := s.at("corp").starts[1]; !start.Anew || !s.at("corp").finishes[1].Anew {
		t.Error("the provider was not told to ask anew")
	}
}

// What a service provider's max_age demands, the request cannot lessen.
func TestMaxAge(t *testing.T) {
	for _, c := range []struct {
		provider, request time.Duration
		want              sequence.Status
	}{{0, 0, sequence.Authenticated}, {2 * time.Hour, 0, sequence.Authenticated}, {30 * time.Minute, 0, sequence.Incomplete}, {30 * time.Minute, 3 * time.Hour, sequence.Incomplete},
		{3 * time.Hour, 30 * time.Minute, sequence.Incomplete}, {0, time.Millisecond, sequence.Incomplete}} {
		s := newStage(t, signIn)
		s.settings.ServiceProviders[0].MaxAge = c.provider
		r := in(s.browser(), s.in("corp"))
		r.MaxAge = c.request
		if res := s.process(r); res.Status != c.want {
			t.Errorf("%+v: %s %v", c, res.Status, res.Err)
		}
	}
}

// Credentials for one use are used up before a page or a session remembers what they have proven.
func TestCredentialsForOneUseAreSettled(t *testing.T) {
	for name, c := range map[string]struct {
		steps   string
		person  bool
		settled bool
	}{
		"a program":                {"[{strategy: single, of: [geo]}]", false, false},
		"a session begins":         {"[{strategy: single, of: [geo]}]", true, true},
		"a page comes in between":  {"[{strategy: single, of: [geo]}, {strategy: single, of: [corp], principal: any}]", true, true},
		"nobody could go on":       {"[{strategy: single, of: [geo]}, {strategy: single, of: [key], principal: any}]", false, false},
		"all at once, and it ends": {"[{strategy: parallel, of: [geo, key], require: any}]", true, true},
	} {
		t.Setenv("QUORUMHUB_GEO", strings.Repeat("0123456789abcdef", 4))
		nonces := &nonces{}
		s := geoStage(t, c.steps, nonces)
		r := s.geo()
		r.Interactive = c.person
		s.process(r)
		if (nonces.n.Load() == 1) != c.settled {
			t.Errorf("%s: %d nonces claimed, want %t", name, nonces.n.Load(), c.settled)
		}
		if name == "a program" {
			if r.Credentials.Settle == nil || r.Credentials.Settle(t.Context()) != nil || nonces.n.Load() != 1 {
				t.Error("a program's request does not say what is to be settled")
			}
		}
		if c.settled {
			r := s.geo()
			r.Interactive = true
			if res := s.process(r); res.Status != sequence.Failed {
				t.Errorf("%s: the same signature again: %s, want a refusal", name, res.Status)
			}
		}
	}
}

// A login remembers no more than fits into a cookie.
func TestContextsStaySmall(t *testing.T) {
	s := newStage(t, twice)
	long := strings.Repeat("x", 1500)
	s.at("corp").answer = func(*sequence.Finish) (*sequence.Identity, error) {
		id, _ := is("issuer:corp/ann")(nil)
		id.IDToken = long + long
		return id, nil
	}
	res := s.answered(s.process(s.browser()))
	if res.Status != sequence.Incomplete || len(res.Context) > 3800 || res.Return != "/console" {
		t.Fatalf("%s %v with %d bytes", res.Status, res.Err, len(res.Context))
	}
	if res = s.answered(res); res.Status != sequence.Authenticated || s.sessions.began[0].IDToken != "" {
		t.Errorf("%s %v, ID token of %d bytes; want none: the first step's was too long, and the second step's is another provider's", res.Status, res.Err, len(s.sessions.began[0].IDToken))
	}
	r := s.browser()
	r.Return = "/" + long
	if res := s.process(r); res.Status != sequence.Incomplete || s.answered(res).Return != "" {
		t.Errorf("a long way back: %s %v", res.Status, res.Err)
	}
	s.at("corp").answer = func(*sequence.Finish) (*sequence.Identity, error) {
		id, _ := is("issuer:corp/ann")(nil)
		id.Principal.Roles = strings.Split(strings.Repeat("role ", 1000), " ")
		return id, nil
	}
	if res := s.answered(s.process(s.browser())); res.Status != sequence.Failed || !errors.Is(res.Err, auth.ErrUnavailable) {
		t.Errorf("a thousand roles: %s with %d bytes", res.Status, len(res.Context))
	}
	s.at("corp").private = strings.Repeat("p", sequence.MaxPrivate+1)
	unavailable(t, s, s.process(s.browser()))
}

// Authenticators that misbehave end a login, not the hub.
func TestAuthenticatorsThatMisbehave(t *testing.T) {
	s := newStage(t, signIn)
	s.at("corp").panics = true
	unavailable(t, s, s.process(s.browser()))
	s.at("corp").panics = false
	for name, answer := range map[string]func(*sequence.Finish) (*sequence.Identity, error){
		"panic":        func(*sequence.Finish) (*sequence.Identity, error) { panic("odd") },
		"nothing":      func(*sequence.Finish) (*sequence.Identity, error) { return nil, nil },
		"nobody":       func(*sequence.Finish) (*sequence.Identity, error) { return &sequence.Identity{}, nil },
		"other errors": fails(errors.New("odd")),
	} {
		s.at("corp").answer = answer
		if res := s.answered(s.process(s.browser())); res.Status != sequence.Failed || !errors.Is(res.Err, auth.ErrUnavailable) {
			t.Errorf("%s: %s %v", name, res.Status, res.Err)
		}
	}
	for name, id := range map[string]string{"no ID": "", "control characters": "issuer:corp/a\nb"} {
		s.at("corp").answer = is(id)
		if res := s.answered(s.process(s.browser())); res.Status == sequence.Authenticated {
			t.Errorf("%s: authenticated", name)
		}
	}
	s.at("corp").answer = is("issuer:corp/ann")
	s.sessions.err = errors.New("no leader")
	unavailable(t, s, s.answered(s.process(s.browser())))
}

// A sequence that has changed between two pages does not go on by the old one.
func TestTheSequenceChangesInBetween(t *testing.T) {
	for name, change := range map[string]func(*stage){
		"the authenticator is gone": func(s *stage) {
			s.settings.Sequences["seq"] = auth.Sequence{Steps: []auth.Step{{Strategy: "single", Of: []string{"partner"}}}}
		},
		"the step is gone":             func(s *stage) { s.settings.Sequences["seq"] = auth.Sequence{} },
		"the service provider is gone": func(s *stage) { s.settings.ServiceProviders = nil },
		"it is switched off":           func(s *stage) { delete(s.people, "corp") },
	} {
		s := newStage(t, signIn)
		b := s.back(s.process(s.browser()))
		change(s)
		foreign(t, s, s.process(b))
		if len(s.at("partner").finishes) != 0 {
			t.Errorf("%s: another provider was asked", name)
		}
	}
}

// What was passed by an authenticator that the step no longer takes is asked for again.
func TestAStepThatWasPassedChangesInBetween(t *testing.T) {
	s := newStage(t, twice)
	b := s.back(s.answered(s.process(s.browser())))
	s.settings.Sequences["seq"].Steps[0].Of = []string{"partner"}
	res := s.process(b)
	if res.Status != sequence.Incomplete {
		t.Fatalf("%s %v", res.Status, res.Err)
	}
	sentTo("partner")(t, s, res)
	if res = s.answered(res); res.Status != sequence.Authenticated || res.Principal.ID != "issuer:corp/ann" || len(s.sessions.began[0].Passed) != 2 {
		t.Errorf("%s %v: want it to go on with both steps", res.Status, res.Err)
	}
}

func TestUnknownServiceProviders(t *testing.T) {
	s := newStage(t, signIn)
	r := s.browser()
	r.Provider = "shop"
	failure(sequence.ErrProvider)(t, s, s.process(r))
	p, err := sequence.New(sequence.Options{Settings: s.settings, Gate: s.gate, Interactive: s.people, Box: s.box, Claims: s.claims,
		Extra: func(name string) ([]auth.Step, bool) {
			return []auth.Step{{Strategy: "multi", Of: []string{"partner", "key"}}}, name == "gateway:shop"
		}})
	if err != nil {
		t.Fatal(err)
	}
	r.Provider = "gateway:shop"
	res := p.Process(t.Context(), r)
	if res.Status != sequence.Incomplete || !strings.Contains(res.Next.Redirect, "partner") {
		t.Fatalf("%s %v", res.Status, res.Err)
	}
	if res = p.Process(t.Context(), s.back(res)); res.Status != sequence.Authenticated || res.Session != nil || res.Provider != "gateway:shop" {
		t.Errorf("%s %v, session %v; without Sessions nothing is remembered", res.Status, res.Err, res.Session)
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	s := newStage(t, signIn)
	if _, err := sequence.New(sequence.Options{Settings: s.settings, Gate: s.gate, Interactive: s.people}); err == nil {
		t.Error("people without a box and claims are accepted")
	}
	s.settings.Sequences["seq"] = auth.Sequence{Steps: []auth.Step{{Strategy: "single", Of: []string{"geo"}}}}
	if _, err := sequence.New(sequence.Options{Settings: s.settings, Gate: s.gate}); err == nil || !strings.Contains(err.Error(), `"geo"`) {
		t.Errorf("%v, want the authenticator that is missing", err)
	}
}

// Explain says what each step would do, and does nothing.
func TestExplain(t *testing.T) {
	s := newStage(t, "[{strategy: failover, of: [svc, key]}, {strategy: multi, of: [corp, partner], principal: any}, {strategy: single, of: [certificate]}]")
	s.service.answer = isDown
	s.at("partner").ready = errDown
	r := s.with("svc", "key", "other-cert")
	r.Interactive = true
	res := s.p.Explain(t.Context(), r)
	var got []string
	for _, tr := range res.Trail {
		got = append(got, fmt.Sprintf("%d %s %s %s", tr.Step, tr.Strategy, tr.Authenticator, tr.Status))
	}
	want := "1 failover svc failed|1 failover key authenticated|2 multi corp initial|2 multi partner initial|3 single certificate authenticated|3 single certificate failed"
	if strings.Join(got, "|") != want {
		t.Errorf("trail\n%s, want\n%s", strings.Join(got, "\n"), want)
	}
	if res.Status != sequence.Incomplete || res.Next != nil || res.Context != "" || len(s.at("corp").starts) != 0 || s.claims.n != 0 || len(s.sessions.began) != 0 {
		t.Errorf("%s, next %v, context %q: want what Process would say, and nothing begun", res.Status, res.Next, res.Context)
	}
	if res := s.p.Explain(t.Context(), &sequence.Request{Provider: "none"}); !errors.Is(res.Err, sequence.ErrProvider) {
		t.Errorf("an unknown provider: %v", res.Err)
	}
	if res := s.p.Explain(t.Context(), s.with("key", "cert")); res.Status != sequence.Initial {
		t.Errorf("a program that lacks a step: %s", res.Status)
	}
}

// quorum is a strategy of somebody else's: more than half must accept.
type quorum struct{}

func (quorum) Decide(ctx context.Context, t *auth.Turn) auth.Outcome {
	n := 0
	last := auth.Outcome{Status: auth.StatusInitial}
	for i := range t.N {
		if out := t.Ask(ctx, i); out.Status == auth.StatusAuthenticated {
			n, last = n+1, out
		}
	}
	if n*2 > t.N {
		return last
	}
	return auth.Outcome{Status: auth.StatusInitial}
}

// Strategies of an embedding program work for sequences and for ways alike.
func TestStrategiesOfAProgramsOwn(t *testing.T) {
	s := newStage(t, "[{strategy: quorum, of: [key, certificate, svc]}]", auth.KnownStrategies(map[string]auth.Strategy{"quorum": quorum{}}))
	s.service.answer = refuses
	way, err := s.gate.Way("seq")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		carries []string
		want    sequence.Status
	}{{[]string{"key"}, sequence.Initial}, {[]string{"key", "svc"}, sequence.Initial}, {[]string{"key", "cert"}, sequence.Authenticated}} {
		if res := s.process(s.with(c.carries...)); res.Status != c.want {
			t.Errorf("%v: %s %v", c.carries, res.Status, res.Err)
		}
		p, err := way.Authenticate(t.Context(), s.with(c.carries...).Credentials)
		if err != nil || (p.Method != auth.MethodAnonymous) != (c.want == sequence.Authenticated) {
			t.Errorf("%v as a way: %v %v", c.carries, p, err)
		}
	}
}

// What Process decides about programs, a way of the same steps does: each strategy exists once.
func TestWaysDecideAlike(t *testing.T) {
	for _, steps := range []string{"[{strategy: single, of: [key]}]", choice, spare, both, either, most, device, "[{strategy: single, of: [key]}, {strategy: single, of: [certificate]}]"} {
		for _, carries := range [][]string{nil, {"key"}, {"wrong-key"}, {"svc"}, {"svc", "key"}, {"svc", "wrong-key"}, {"key", "cert"}, {"key", "other-cert"}, {"svc", "key", "cert"}} {
			for _, answer := range []func(context.Context) (int, string){accepts, refuses, isDown} {
				synctest.Test(t, func(t *testing.T) {
					s := newStage(t, steps)
					s.service.answer = answer
					res := s.process(s.with(carries...))
					way, err := s.gate.Way("seq")
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second) // the token service's answer is forgotten
					p, err := way.Authenticate(t.Context(), s.with(carries...).Credentials)
					got := sequence.Authenticated
					switch {
					case err != nil:
						got = sequence.Failed
					case p.Method == auth.MethodAnonymous:
						got = sequence.Initial
					}
					if got != res.Status || got == sequence.Authenticated && p.ID != res.Principal.ID || errors.Is(err, auth.ErrUnavailable) != errors.Is(res.Err, auth.ErrUnavailable) {
						t.Errorf("%s with %v: a way says %s %v %v, Process %s %v", steps, carries, got, p, err, res.Status, res.Err)
					}
				})
			}
		}
	}
}

// tokenOf is an authenticator of sessions, as the hub has one for its API.
type sessionCookie struct{ s *session.Session }

func (sessionCookie) Challenge() string { return "" }
func (sessionCookie) OfSessions()       {}
func (c sessionCookie) Authenticate(_ context.Context, r *auth.Request) (*auth.Principal, error) {
	if _, err := r.HTTP.Cookie("session"); errors.Is(err, http.ErrNoCookie) {
		return nil, auth.ErrNotMine
	}
	p := *c.s.Principal
	for _, passed := range c.s.Passed {
		p.Passed = append(p.Passed, auth.PassedStep{Authenticator: passed.Authenticator, At: passed.At})
	}
	return &p, nil
}

// A way takes a session for the steps that it has passed, and for no others.
func TestWaysTakeSessionsStepByStep(t *testing.T) {
	s := newStage(t, twice)
	for _, c := range []struct {
		way    string
		maxAge time.Duration
		passed []string
		want   bool
	}{{"seq", 0, []string{"corp"}, false}, {"seq", 0, []string{"corp", "emergency"}, true}, {"seq", 30 * time.Minute, []string{"corp", "emergency"}, false}, {"corp", 0, []string{"corp"}, true},
		{"corp", 0, []string{"partner"}, false}, {"key", 0, []string{"corp"}, false}, {"key", 0, []string{"key"}, true}, {"default", 0, []string{"partner"}, true}, {"default", 30 * time.Minute, []string{"partner"}, false}} {
		gate := auth.NewGate(s.settings, auth.NewAPIKeys(keys(s.settings), time.Now), sessionCookie{s.in(c.passed...)})
		way, err := gate.For(&auth.ServiceProvider{Name: "app", Sequence: c.way, MaxAge: c.maxAge})
		if err != nil {
			t.Fatal(err)
		}
		r := s.with().Credentials
		r.HTTP.AddCookie(&http.Cookie{Name: "session", Value: "x"})
		p, err := way.Authenticate(t.Context(), r)
		if err != nil || (p.Method == auth.MethodSession) != c.want {
			t.Errorf("%+v: %v %v", c, p, err)
		}
		if acts := c.way == "seq" || c.way == "corp"; way.Acts() != acts {
			t.Errorf("%s: a person can do something: %t", c.way, way.Acts())
		}
	}
}
