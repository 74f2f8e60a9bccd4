package sequence_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
)

func hinted(r *sequence.Request, hint string) *sequence.Request {
	r.Hint = hint
	return r
}

func in(r *sequence.Request, s *session.Session) *sequence.Request {
	r.Session = s
	return r
}

// flipped changes one bit in the middle of a text in base64url.
func flipped(text string) string {
	b := []byte(text)
	if i := len(b) / 2; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

func principal(id string) func(*testing.T, *stage, *sequence.Result) {
	return func(t *testing.T, _ *stage, res *sequence.Result) {
		t.Helper()
		if res.Principal == nil || res.Principal.ID != id {
			t.Errorf("it is %v, want %s", res.Principal, id)
		}
	}
}

func refusal(t *testing.T, _ *stage, res *sequence.Result) {
	t.Helper()
	if refused := (*auth.RefusalError)(nil); !errors.As(res.Err, &refused) || refused.Reason == "" || errors.Is(res.Err, auth.ErrUnavailable) {
		t.Errorf("%v, want a refusal with its reason", res.Err)
	}
	if res.Principal != nil || res.Cookie != "" || res.Context != "" {
		t.Errorf("a refusal with principal %v, cookie %q, context %q", res.Principal, res.Cookie, res.Context)
	}
}

func failure(want error) func(*testing.T, *stage, *sequence.Result) {
	return func(t *testing.T, _ *stage, res *sequence.Result) {
		t.Helper()
		if !errors.Is(res.Err, want) || res.Next != nil || res.Context != "" {
			t.Errorf("%v, next %v; want %v and nothing to do", res.Err, res.Next, want)
		}
	}
}

func unavailable(t *testing.T, s *stage, res *sequence.Result) {
	t.Helper()
	failure(auth.ErrUnavailable)(t, s, res)
}

func foreign(t *testing.T, s *stage, res *sequence.Result) {
	t.Helper()
	failure(sequence.ErrContext)(t, s, res)
	if n := len(s.sessions.began); n > 1 || res.Principal != nil || res.Cookie != "" {
		t.Errorf("%d sessions, principal %v, cookie %q", n, res.Principal, res.Cookie)
	}
}

func sentTo(name string) func(*testing.T, *stage, *sequence.Result) {
	return func(t *testing.T, s *stage, res *sequence.Result) {
		t.Helper()
		if res.Next == nil || !strings.HasPrefix(res.Next.Redirect, "https://"+name+".example.org/") || res.Next.Form != nil || res.Next.Choose != nil {
			t.Fatalf("next %+v, want %s", res.Next, name)
		}
		start := s.at(name).starts[len(s.at(name).starts)-1]
		if start.State != res.State || len(res.State) != 43 || start.Callback != "https://hub.example.org/login/callback/"+name {
			t.Errorf("began with %+v, and the result's state is %q", start, res.State)
		}
	}
}

func offered(names ...string) func(*testing.T, *stage, *sequence.Result) {
	return func(t *testing.T, _ *stage, res *sequence.Result) {
		t.Helper()
		var got []string
		for _, c := range res.Next.Choose {
			got = append(got, c.Name)
			if c.Label != "The "+c.Name {
				t.Errorf("label %q of %s", c.Label, c.Name)
			}
		}
		if !slices.Equal(got, names) || res.Next.Redirect != "" || res.Next.Form != nil {
			t.Errorf("offered %v (%+v), want %v", got, res.Next, names)
		}
	}
}

func form(wrong bool, left int) func(*testing.T, *stage, *sequence.Result) {
	return func(t *testing.T, _ *stage, res *sequence.Result) {
		t.Helper()
		if f := res.Next.Form; f == nil || f.Wrong != wrong || f.Left != left {
			t.Errorf("%+v, want a form, wrong %t, left %d", f, wrong, left)
		}
		if wrong != (res.Err != nil) {
			t.Errorf("error %v", res.Err)
		}
	}
}

// sso: nothing was asked, nothing begun, and the session is the same.
func sso(t *testing.T, s *stage, res *sequence.Result) {
	t.Helper()
	principal("issuer:corp/ann")(t, s, res)
	if res.Session == nil || res.Cookie != "" || len(s.sessions.began) != 0 {
		t.Errorf("session %v, cookie %q, %d begun; want the session as it was", res.Session, res.Cookie, len(s.sessions.began))
	}
	for name := range s.people {
		if len(s.at(name).starts) != 0 {
			t.Errorf("%s was asked", name)
		}
	}
}

func stepUp(t *testing.T, s *stage, res *sequence.Result) {
	t.Helper()
	if len(s.sessions.began) != 1 {
		t.Fatalf("%d sessions began, want one in place of the old one", len(s.sessions.began))
	}
	n := s.sessions.began[0]
	if n.Former == nil || !n.Ends.Equal(n.Former.Ends) || res.Session.ID == n.Former.ID || res.Cookie == "" {
		t.Errorf("former %v, ends %v; want the former one replaced, a new ID, and the old end", n.Former, n.Ends)
	}
	if len(n.Passed) != 2 || n.Passed[0].Authenticator != "corp" || n.Passed[1].Authenticator != "emergency" || !n.Passed[0].At.Before(n.Passed[1].At) {
		t.Errorf("passed %v, want corp before emergency", n.Passed)
	}
}

// took reports whether the step took so long, in the time of the bubble.
func took(want time.Duration) func(*testing.T, *stage, *sequence.Result) {
	began := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when a bubble's time begins
	return func(t *testing.T, _ *stage, _ *sequence.Result) {
		t.Helper()
		if got := time.Since(began); got != want {
			t.Errorf("it took %v, want %v", got, want)
		}
	}
}

// trail reports whether exactly these authenticators were asked.
func trail(want string) func(*testing.T, *stage, *sequence.Result) {
	return func(t *testing.T, _ *stage, res *sequence.Result) {
		t.Helper()
		var got []string
		for _, tr := range res.Trail {
			got = append(got, tr.Authenticator+" "+string(tr.Status))
			if tr.Step != 1 || tr.Strategy == "" || tr.Reason == "" {
				t.Errorf("trace %+v", tr)
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("trail %v, want %s", got, want)
		}
	}
}
