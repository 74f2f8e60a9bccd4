package sequence_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
)

var update = flag.Bool("update", false, "rewrite the table in docs/identity.md")

// row is what one strategy makes of one event. The table of them is part of docs/identity.md.
type row struct {
	strategy, event string
	steps           string // in YAML; empty: as the strategy's others
	play            func(*stage) *sequence.Result
	status          sequence.Status
	then            string // what happens, in words
	check           func(*testing.T, *stage, *sequence.Result)
}

// usual are the steps of rows without their own.
var usual = map[string]string{
	"single": "[{strategy: single, of: [key]}]",
}

const (
	signIn  = "[{strategy: single, of: [corp]}]"
	typeIn  = "[{strategy: single, of: [emergency], retries: 1}]"
	choice  = "[{strategy: multi, of: [key, svc]}]"
	choose  = "[{strategy: multi, of: [corp, partner, emergency, key]}]"
	spare   = "[{strategy: failover, of: [svc, key]}]"
	spareIn = "[{strategy: failover, of: [corp, partner]}]"
	both    = "[{strategy: parallel, of: [certificate, key]}]"
	either  = "[{strategy: parallel, of: [svc, key], require: any}]"
	most    = "[{strategy: parallel, of: [svc, key, certificate], min: 2}]"
	twice   = "[{strategy: single, of: [corp]}, {strategy: single, of: [emergency]}]"
	device  = "[{strategy: single, of: [key]}, {strategy: single, of: [certificate], principal: any}]"
)

func table() (rows []row) {
	for _, more := range [][]row{singleRows(), multiRows(), failoverRows(), parallelRows(), severalRows(), contextRows()} {
		rows = append(rows, more...)
	}
	return rows
}

func singleRows() []row {
	return []row{
		{"single", "the request carries its credentials", "", func(s *stage) *sequence.Result { return s.process(s.with("key")) }, sequence.Authenticated,
			"that is who it is", principal("issuer:corp/ann")},
		{"single", "it carries none, and nobody is there who could act", "", func(s *stage) *sequence.Result { return s.process(s.with()) }, sequence.Initial,
			"401 with one challenge a way", func(t *testing.T, _ *stage, res *sequence.Result) {
				if len(res.Challenges) != 1 || !strings.HasPrefix(res.Challenges[0], "Bearer") {
					t.Errorf("challenges %q, want one for API keys", res.Challenges)
				}
			}},
		{"single", "its credentials are refused", "", func(s *stage) *sequence.Result { return s.process(s.with("wrong-key")) }, sequence.Failed, "401; the reason is in the log only", refusal},
		{"single", "they cannot be checked now", "[{strategy: single, of: [svc]}]", func(s *stage) *sequence.Result {
			s.service.answer = isDown
			return s.process(s.with("svc"))
		}, sequence.Failed, "503", unavailable},
		{"single", "the authenticator panics", "", func(s *stage) *sequence.Result { return s.process(s.with("odd-key")) }, sequence.Failed, "503", unavailable},
		{"single", "a browser asks", signIn, func(s *stage) *sequence.Result { return s.process(s.browser()) }, sequence.Incomplete, "it is sent to the provider", sentTo("corp")},
		{"single", "a browser asks, with a hint of another provider", signIn, func(s *stage) *sequence.Result { return s.process(hinted(s.browser(), "partner")) }, sequence.Incomplete,
			"it is sent to the only one", sentTo("corp")},
		{"single", "the provider cannot be reached", signIn, func(s *stage) *sequence.Result {
			s.at("corp").ready = errDown
			return s.process(s.browser())
		}, sequence.Failed, "503; nobody is sent there", unavailable},
		{"single", "the provider accepts", signIn, func(s *stage) *sequence.Result { return s.answered(s.process(s.browser())) }, sequence.Authenticated, "a session begins",
			func(t *testing.T, s *stage, res *sequence.Result) {
				principal("issuer:corp/ann")(t, s, res)
				if len(s.sessions.began) != 1 || res.Cookie == "" || res.Return != "/console" || res.Provider != "app" {
					t.Errorf("%d sessions, cookie %q, return %q to %q; want one session and the way back", len(s.sessions.began), res.Cookie, res.Return, res.Provider)
				}
			}},
		{"single", "the provider refuses, and a try is left", signIn, func(s *stage) *sequence.Result {
			s.at("corp").answer = fails(errWrong)
			return s.answered(s.process(s.browser()))
		}, sequence.Incomplete, "it is offered once more, and nobody is sent there unasked", offered("corp")},
		{"single", "a form is refused, and a try is left", typeIn, func(s *stage) *sequence.Result {
			s.at("emergency").answer = fails(errWrong)
			return s.answered(s.process(s.browser()))
		}, sequence.Incomplete, "the form again, and how often it may be tried", form(true, 1)},
		{"single", "a form is refused, and no try is left", typeIn, func(s *stage) *sequence.Result {
			s.at("emergency").answer = fails(errWrong)
			return s.answered(s.answered(s.process(s.browser())))
		}, sequence.Failed, "the login ends", refusal},
		{"single", "the provider's answer cannot be checked now", signIn, func(s *stage) *sequence.Result {
			s.at("corp").answer = fails(errDown)
			return s.answered(s.process(s.browser()))
		}, sequence.Failed, "503", unavailable},
		{"single", "the session has passed it", signIn, func(s *stage) *sequence.Result { return s.process(in(s.browser(), s.in("corp"))) }, sequence.Authenticated, "nothing is asked", sso},
		{"single", "the session has passed it, longer ago than max_age", signIn, func(s *stage) *sequence.Result {
			r := in(s.browser(), s.in("corp"))
			r.MaxAge = 59 * time.Minute
			return s.process(r)
		}, sequence.Incomplete, "it is sent to the provider, with that max_age", sentTo("corp")},
		{"single", "the session has passed it, but it is to be anew", signIn, func(s *stage) *sequence.Result {
			r := in(s.browser(), s.in("corp"))
			r.Anew = true
			return s.process(r)
		}, sequence.Incomplete, "it is sent to the provider, which asks again", sentTo("corp")},
		{"single", "the session has passed another provider", signIn, func(s *stage) *sequence.Result { return s.process(in(s.browser(), s.in("partner"))) }, sequence.Incomplete,
			"it is sent to the provider", sentTo("corp")},
	}
}

func multiRows() []row {
	return []row{
		{"multi", "the request carries credentials of one kind", choice, func(s *stage) *sequence.Result { return s.process(s.with("svc")) }, sequence.Authenticated,
			"they decide", principal("issuer:corp/ann")},
		{"multi", "it carries none, and nobody is there who could act", choose, func(s *stage) *sequence.Result { return s.process(s.with()) }, sequence.Initial, "401 with one challenge a way",
			func(t *testing.T, _ *stage, res *sequence.Result) {
				if len(res.Challenges) != 1 {
					t.Errorf("challenges %q, want that of API keys", res.Challenges)
				}
			}},
		{"multi", "the first it carries are refused", choice, func(s *stage) *sequence.Result { return s.process(s.with("wrong-key", "svc")) }, sequence.Failed,
			"401; valid ones never make up for invalid ones", refusal},
		{"multi", "the first it carries cannot be checked now", "[{strategy: multi, of: [svc, key]}]", func(s *stage) *sequence.Result {
			s.service.answer = isDown
			return s.process(s.with("svc", "key"))
		}, sequence.Failed, "503; the next ones are not asked", unavailable},
		{"multi", "a browser asks", choose, func(s *stage) *sequence.Result { return s.process(s.browser()) }, sequence.Incomplete, "a page to choose", offered("corp", "partner", "emergency")},
		{"multi", "a browser asks, and only one of the list needs a person", "[{strategy: multi, of: [corp, key]}]", func(s *stage) *sequence.Result { return s.process(s.browser()) },
			sequence.Incomplete, "it is sent there at once", sentTo("corp")},
		{"multi", "a browser asks, with a hint", choose, func(s *stage) *sequence.Result { return s.process(hinted(s.browser(), "partner")) }, sequence.Incomplete, "it is sent there", sentTo("partner")},
		{"multi", "a browser asks, with a hint that is none of the list", "[{strategy: multi, of: [corp, partner]}]", func(s *stage) *sequence.Result { return s.process(hinted(s.browser(), "emergency")) },
			sequence.Failed, "400", failure(sequence.ErrHint)},
		{"multi", "somebody chooses", choose, func(s *stage) *sequence.Result {
			return s.answered(s.process(s.browser()), sequence.FieldChoice, "partner")
		}, sequence.Incomplete, "it is sent there", sentTo("partner")},
		{"multi", "somebody chooses what is none of the list", "[{strategy: multi, of: [corp, partner]}]", func(s *stage) *sequence.Result {
			return s.answered(s.process(s.browser()), sequence.FieldChoice, "emergency")
		}, sequence.Failed, "400", failure(sequence.ErrHint)},
		{"multi", "the chosen provider refuses, and a try is left", choose, func(s *stage) *sequence.Result {
			s.at("partner").answer = fails(errWrong)
			return s.answered(s.answered(s.process(s.browser()), sequence.FieldChoice, "partner"))
		}, sequence.Incomplete, "the page to choose again", offered("corp", "partner", "emergency")},
		{"multi", "the chosen form is refused, and a try is left", choose, func(s *stage) *sequence.Result {
			s.at("emergency").answer = fails(errWrong)
			return s.answered(s.answered(s.process(s.browser()), sequence.FieldChoice, "emergency"))
		}, sequence.Incomplete, "the form again", form(true, 2)},
		{"multi", "the chosen provider cannot be reached", choose, func(s *stage) *sequence.Result {
			s.at("partner").ready = errDown
			return s.answered(s.process(s.browser()), sequence.FieldChoice, "partner")
		}, sequence.Failed, "503; nobody is sent elsewhere unasked", unavailable},
		{"multi", "the chosen provider's answer cannot be checked now", choose, func(s *stage) *sequence.Result {
			s.at("partner").answer = fails(errDown)
			return s.answered(s.answered(s.process(s.browser()), sequence.FieldChoice, "partner"))
		}, sequence.Failed, "503; nobody is sent elsewhere unasked", unavailable},
		{"multi", "the session has passed one of the list", choose, func(s *stage) *sequence.Result { return s.process(in(s.browser(), s.in("partner"))) }, sequence.Authenticated, "nothing is asked", sso},
	}
}

func failoverRows() []row {
	return []row{
		{"failover", "the first one's credentials cannot be checked, the next one's can", spare, func(s *stage) *sequence.Result {
			s.service.answer = isDown
			return s.process(s.with("svc", "key"))
		}, sequence.Authenticated, "the next one decides", trail("svc failed, key authenticated")},
		{"failover", "the first one's credentials are refused", spare, func(s *stage) *sequence.Result {
			s.service.answer = refuses
			return s.process(s.with("svc", "key"))
		}, sequence.Failed, "401; the next one is not asked", func(t *testing.T, s *stage, res *sequence.Result) {
			refusal(t, s, res)
			trail("svc failed")(t, s, res)
		}},
		{"failover", "none can be checked now", spare, func(s *stage) *sequence.Result {
			s.service.answer = isDown
			return s.process(s.with("svc"))
		}, sequence.Failed, "503", unavailable},
		{"failover", "a browser asks", spareIn, func(s *stage) *sequence.Result { return s.process(s.browser()) }, sequence.Incomplete, "it is sent to the first one", sentTo("corp")},
		{"failover", "a browser asks, with a hint of the second one", spareIn, func(s *stage) *sequence.Result { return s.process(hinted(s.browser(), "partner")) }, sequence.Incomplete,
			"it is sent to the first one: there is no choice", sentTo("corp")},
		{"failover", "the first provider cannot be reached", spareIn, func(s *stage) *sequence.Result {
			s.at("corp").ready = errDown
			return s.process(s.browser())
		}, sequence.Incomplete, "it is sent to the second one", func(t *testing.T, s *stage, res *sequence.Result) {
			sentTo("partner")(t, s, res)
			trail("corp failed, partner incomplete")(t, s, res)
		}},
		{"failover", "the first provider says that it cannot now (temporarily_unavailable)", spareIn, func(s *stage) *sequence.Result {
			s.at("corp").answer = fails(errDown)
			return s.answered(s.process(s.browser()))
		}, sequence.Incomplete, "it is sent to the second one", sentTo("partner")},
		{"failover", "the first provider refuses", spareIn, func(s *stage) *sequence.Result {
			s.at("corp").answer = fails(errWrong)
			return s.answered(s.process(s.browser()))
		}, sequence.Incomplete, "the first one is offered once more, and never the second one", offered("corp")},
		{"failover", "the first provider refuses to begin", spareIn, func(s *stage) *sequence.Result {
			s.at("corp").start = errWrong
			return s.process(s.browser())
		}, sequence.Failed, "401; the second one is not asked", refusal},
		{"failover", "no provider can be reached", spareIn, func(s *stage) *sequence.Result {
			s.at("corp").ready, s.at("partner").ready = errDown, errDown
			return s.process(s.browser())
		}, sequence.Failed, "503", unavailable},
		{"failover", "the last provider says that it cannot now", spareIn, func(s *stage) *sequence.Result {
			s.at("corp").ready, s.at("partner").answer = errDown, fails(errDown)
			return s.answered(s.process(s.browser()))
		}, sequence.Failed, "503, unless an earlier one can be reached again", unavailable},
		{"failover", "the session has passed one of the list", spareIn, func(s *stage) *sequence.Result { return s.process(in(s.browser(), s.in("partner"))) }, sequence.Authenticated, "nothing is asked", sso},
	}
}

func parallelRows() []row {
	return []row{
		{"parallel, all", "all accept, and all mean the same", both, func(s *stage) *sequence.Result { return s.process(s.with("key", "cert")) }, sequence.Authenticated,
			"the first of the list is who it is", trail("certificate authenticated, key authenticated")},
		{"parallel, all", "credentials of one are missing", both, func(s *stage) *sequence.Result { return s.process(s.with("key")) }, sequence.Initial, "401 with one challenge a way", nil},
		{"parallel, all", "one refuses", both, func(s *stage) *sequence.Result { return s.process(s.with("wrong-key", "cert")) }, sequence.Failed, "401", refusal},
		{"parallel, all", "they mean two callers", both, func(s *stage) *sequence.Result { return s.process(s.with("key", "other-cert")) }, sequence.Failed, "401", refusal},
		{"parallel, all", "one panics", both, func(s *stage) *sequence.Result { return s.process(s.with("odd-key", "cert")) }, sequence.Failed, "503", unavailable},
		{"parallel, all", "one does not answer", "[{strategy: parallel, of: [svc, key]}]", func(s *stage) *sequence.Result {
			s.service.answer = hangs
			return s.process(s.with("svc", "key"))
		}, sequence.Failed, "503 after 10 s, one deadline for all", func(t *testing.T, s *stage, res *sequence.Result) {
			unavailable(t, s, res)
			took(10*time.Second)(t, s, res)
		}},
		{"parallel, any", "one accepts and one refuses", either, func(s *stage) *sequence.Result {
			s.service.answer = refuses
			return s.process(s.with("svc", "key"))
		}, sequence.Authenticated, "the first of the list that accepts is who it is", principal("issuer:corp/ann")},
		{"parallel, any", "the first of the list accepts, a later one does not answer", "[{strategy: parallel, of: [key, svc], require: any}]", func(s *stage) *sequence.Result {
			s.service.answer = hangs
			return s.process(s.with("svc", "key"))
		}, sequence.Authenticated, "at once: a later one could change nothing", took(0)},
		{"parallel, any", "a later one of the list accepts, the first does not answer", either, func(s *stage) *sequence.Result {
			s.service.answer = hangs
			return s.process(s.with("svc", "key"))
		}, sequence.Authenticated, "after 10 s: who is faster decides nothing", took(10 * time.Second)},
		{"parallel, any", "all refuse", either, func(s *stage) *sequence.Result {
			s.service.answer = refuses
			return s.process(s.with("svc", "wrong-key"))
		}, sequence.Failed, "401", refusal},
		{"parallel, any", "none can be checked now", either, func(s *stage) *sequence.Result {
			s.service.answer = isDown
			return s.process(s.with("svc"))
		}, sequence.Failed, "503", unavailable},
		{"parallel, min: 2", "two of three accept, one refuses", most, func(s *stage) *sequence.Result {
			s.service.answer = refuses
			return s.process(s.with("svc", "key", "cert"))
		}, sequence.Authenticated, "the first of the list that accepts is who it is", principal("issuer:corp/ann")},
		{"parallel, min: 2", "one of three accepts, one refuses", most, func(s *stage) *sequence.Result {
			s.service.answer = refuses
			return s.process(s.with("svc", "key"))
		}, sequence.Failed, "401", refusal},
		{"parallel, min: 2", "one of three accepts, the others are missing", most, func(s *stage) *sequence.Result { return s.process(s.with("key")) }, sequence.Initial, "401 with one challenge a way", nil},
	}
}

func severalRows() []row {
	return []row{
		{"two steps", "both are passed by the same person", twice, func(s *stage) *sequence.Result { return s.answered(s.answered(s.process(s.browser()))) }, sequence.Authenticated,
			"the first step's principal is who it is", func(t *testing.T, s *stage, res *sequence.Result) {
				principal("issuer:corp/ann")(t, s, res)
				if p := res.Session.Passed; len(p) != 2 || p[0].Authenticator != "corp" || p[1].Authenticator != "emergency" {
					t.Errorf("passed %v, want corp and emergency", p)
				}
			}},
		{"two steps", "the first is passed", twice, func(s *stage) *sequence.Result { return s.answered(s.process(s.browser())) }, sequence.Incomplete, "the second one is asked", form(false, 3)},
		{"two steps", "the second names somebody else", twice, func(s *stage) *sequence.Result {
			s.at("emergency").answer = is("local/bob")
			return s.answered(s.answered(s.process(s.browser())))
		}, sequence.Failed, "401, unless links say that they are one", refusal},
		{"two steps", "the second names somebody else, with principal: any", device, func(s *stage) *sequence.Result { return s.process(s.with("key", "other-cert")) }, sequence.Authenticated,
			"the first step's principal is who it is", principal("issuer:corp/ann")},
		{"two steps", "the session has passed the first (step-up)", twice, func(s *stage) *sequence.Result { return s.process(in(s.browser(), s.in("corp"))) }, sequence.Incomplete, "the second one is asked", form(false, 3)},
		{"two steps", "the session has passed the first, and the second is passed now", twice, func(s *stage) *sequence.Result {
			r := in(s.browser(), s.in("corp"))
			b := s.back(s.process(r))
			return s.process(in(b, r.Session))
		}, sequence.Authenticated, "a new session takes the place of the old one, with what that had passed and its end", stepUp},
		{"two steps", "the session that had passed the first ends in between", twice, func(s *stage) *sequence.Result {
			return s.answered(s.process(in(s.browser(), s.in("corp"))))
		}, sequence.Incomplete, "the first one is asked", sentTo("corp")},
		{"two steps", "another person's session has passed the second", twice, func(s *stage) *sequence.Result {
			other := s.in("emergency")
			other.Principal = &auth.Principal{Method: auth.MethodSession, ID: "local/bob"}
			return s.process(in(s.back(s.process(in(s.browser(), other))), other))
		}, sequence.Incomplete, "the second one is asked", form(false, 3)},
	}
}

func contextRows() []row {
	return []row{
		{"any", "an answer without a context", signIn, func(s *stage) *sequence.Result {
			r := s.back(s.process(s.browser()))
			r.Context = ""
			return s.process(r)
		}, sequence.Failed, "400, and how to begin again", foreign},
		{"any", "an answer with another login's context", signIn, func(s *stage) *sequence.Result {
			r := s.back(s.process(s.browser()))
			r.Context = s.process(s.browser()).Context
			return s.process(r)
		}, sequence.Failed, "400, and how to begin again", foreign},
		{"any", "an answer after 10 minutes", signIn, func(s *stage) *sequence.Result {
			r := s.back(s.process(s.browser()))
			time.Sleep(10 * time.Minute)
			return s.process(r)
		}, sequence.Failed, "400, and how to begin again", foreign},
		{"any", "an answer just before", signIn, func(s *stage) *sequence.Result {
			r := s.back(s.process(s.browser()))
			time.Sleep(10*time.Minute - time.Second)
			return s.process(r)
		}, sequence.Authenticated, "it is taken", nil},
		{"any", "an answer with a context that was cut short", signIn, func(s *stage) *sequence.Result {
			r := s.back(s.process(s.browser()))
			r.Context = r.Context[:len(r.Context)/2]
			return s.process(r)
		}, sequence.Failed, "400, and how to begin again", foreign},
		{"any", "an answer with a context that was changed", signIn, func(s *stage) *sequence.Result {
			r := s.back(s.process(s.browser()))
			r.Context = flipped(r.Context)
			return s.process(r)
		}, sequence.Failed, "400, and how to begin again", foreign},
		{"any", "an answer that came before", signIn, func(s *stage) *sequence.Result {
			r := s.back(s.process(s.browser()))
			s.process(r)
			return s.process(r)
		}, sequence.Failed, "400, and how to begin again", foreign},
		{"any", "an answer that came before, on another node", signIn, func(s *stage) *sequence.Result {
			r := s.back(s.process(s.browser()))
			s.process(r)
			return s.node().Process(s.t.Context(), r)
		}, sequence.Failed, "400, and how to begin again", foreign},
		{"any", "an answer on another node than the start", signIn, func(s *stage) *sequence.Result {
			return s.node().Process(s.t.Context(), s.back(s.process(s.browser())))
		}, sequence.Authenticated, "it is taken", nil},
		{"any", "an answer without a state, or with two", signIn, func(s *stage) *sequence.Result {
			r := s.back(s.process(s.browser()))
			r.Form["state"] = append(r.Form["state"], r.Form["state"]...)
			return s.process(r)
		}, sequence.Failed, "400, and how to begin again", foreign},
		{"any", "an answer at the URL of another provider than was asked", "[{strategy: multi, of: [corp, partner]}]", func(s *stage) *sequence.Result {
			return s.process(hinted(s.back(s.process(hinted(s.browser(), "corp"))), "partner"))
		}, sequence.Failed, "400, and how to begin again", foreign},
		{"any", "the log cannot claim the answer's state now", signIn, func(s *stage) *sequence.Result {
			s.claims.err = errors.New("no leader")
			return s.answered(s.process(s.browser()))
		}, sequence.Failed, "503; the provider is not asked", func(t *testing.T, s *stage, res *sequence.Result) {
			unavailable(t, s, res)
			if len(s.at("corp").finishes) != 0 {
				t.Error("the provider was asked before the state was claimed")
			}
		}},
	}
}

// TestTable plays each row.
func TestTable(t *testing.T) {
	for _, r := range table() {
		t.Run(r.strategy+"/"+r.event, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				steps := r.steps
				if steps == "" {
					steps = usual[r.strategy]
				}
				s := newStage(t, steps)
				res := r.play(s)
				if res == nil || res.Status != r.status {
					t.Fatalf("%+v, want %s", res, r.status)
				}
				if (res.Status == sequence.Failed) != (res.Err != nil) && res.Status != sequence.Incomplete {
					t.Errorf("%s with error %v", res.Status, res.Err)
				}
				if r.check != nil {
					r.check(t, s, res)
				}
			})
		})
	}
}

// TestTheTableIsInTheDocumentation compares the table with the page that shows it.
func TestTheTableIsInTheDocumentation(t *testing.T) {
	const page, begin, end = "../../docs/identity.md", "<!-- the table of auth/sequence/table_test.go: go test ./auth/sequence -update -->\n", "<!-- end of the table -->"
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s does not mark where the table is", page)
	}
	var b strings.Builder
	b.WriteString("| strategy | event | status | what happens |\n|---|---|---|---|\n")
	for _, r := range table() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.strategy, r.event, r.status, r.then)
	}
	want := before + begin + b.String() + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(raw) {
		t.Errorf("%s shows another table; go test ./auth/sequence -update", page)
	}
}
