package sequence

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/session"
)

const (
	// contextTime is how long somebody may take for what is to be done.
	contextTime = 10 * time.Minute
	// maxContext is the longest Result.Context, so that it fits into a cookie (RFC 6265 section 6.1) with its name and attributes.
	maxContext = 3800
	// contextBinding keeps what was sealed for other purposes from being a context.
	contextBinding = "quorumhub login context v1"
)

// progress is how far a login has come: what a context holds, sealed.
type progress struct {
	Provider string `json:"p"`
	Return   string `json:"r,omitempty"`
	State    string `json:"s"`
	Until    int64  `json:"u"` // in seconds since 1970
	MaxAge   int64  `json:"m,omitempty"`
	Anew     bool   `json:"a,omitempty"`
	Hint     string `json:"h,omitempty"`

	// Step is whose turn it is, from 0, and Tries how often somebody was refused in it. Asked has been begun; empty: there is something to
	// choose. Form: it is filled in here, so that a refusal shows it again. Down are those of the step that could not be asked.
	Step    int      `json:"i"`
	Tries   int      `json:"t,omitempty"`
	Asked   string   `json:"q,omitempty"`
	Form    bool     `json:"f,omitempty"`
	Down    []string `json:"d,omitempty"`
	Private []byte   `json:"x,omitempty"`
	Passed  []kept   `json:"k,omitempty"`

	Choice string `json:"-"` // what was chosen just now
}

// kept is a step that was passed. Of the first it holds all of the principal, of later ones only the ID, with which it is compared.
type kept struct {
	Step          int      `json:"i"`
	Authenticator string   `json:"n"`
	Also          []string `json:"n2,omitempty"` // others that succeeded in the same step
	Method        []string `json:"m,omitempty"`
	At            int64    `json:"t"` // in milliseconds since 1970
	Key           []byte   `json:"k,omitempty"`
	ID            string   `json:"d"`
	Who           *who     `json:"w,omitempty"`
	Name          string   `json:"l,omitempty"`
	IDToken       string   `json:"j,omitempty"`
}

type who struct {
	Method    auth.Method `json:"m"`
	Authority string      `json:"a,omitempty"`
	Subject   string      `json:"s,omitempty"`
	Client    string      `json:"c,omitempty"`
	User      string      `json:"u,omitempty"`
	Scopes    []string    `json:"o,omitempty"`
	Roles     []string    `json:"r,omitempty"`
	Until     int64       `json:"e,omitempty"`
}

func (k *kept) principal() *auth.Principal {
	p := &auth.Principal{Method: auth.MethodSession, ID: k.ID}
	if w := k.Who; w != nil {
		p.Method, p.Authority, p.Subject, p.Client, p.User, p.Scopes, p.Roles = w.Method, w.Authority, w.Subject, w.Client, w.User, w.Scopes, w.Roles
		if w.Until != 0 {
			p.Until = time.UnixMilli(w.Until)
		}
	}
	return p
}

func (k *kept) steps() []session.Passed {
	first := session.Passed{Authenticator: k.Authenticator, Method: k.Method, At: time.UnixMilli(k.At)}
	copy(first.Key[:], k.Key)
	out := []session.Passed{first}
	for _, name := range k.Also {
		out = append(out, session.Passed{Authenticator: name, At: first.At})
	}
	return out
}

// keep notes that a step was passed.
func (t *run) keep(step int, p *auth.Principal, s session.Passed) *kept {
	k := kept{Step: step, Authenticator: s.Authenticator, Method: s.Method, At: s.At.UnixMilli(), ID: p.ID}
	if s.Key != [16]byte{} {
		k.Key = s.Key[:]
	}
	if step == 0 {
		k.Who = &who{p.Method, p.Authority, p.Subject, p.Client, p.User, p.Scopes, p.Roles, 0}
		if !p.Until.IsZero() {
			k.Who.Until = p.Until.UnixMilli()
		}
	}
	t.at.Passed = append(t.at.Passed, k)
	return &t.at.Passed[len(t.at.Passed)-1]
}

// passed returns what was kept of a step; nil: nothing.
func (p *progress) passed(step int) *kept {
	for i := range p.Passed {
		if p.Passed[i].Step == step {
			return &p.Passed[i]
		}
	}
	return nil
}

// wait is the result of a step in which somebody has to act first.
func (t *run) wait(ctx context.Context, i int, out *auth.Outcome) *Result {
	step := &t.steps[i]
	if i != t.at.Step {
		t.at.Step, t.at.Tries, t.at.Down = i, 0, nil
	}
	t.res.Status = Incomplete
	if t.dry {
		return t.res
	}
	if err := t.settled(ctx); err != nil {
		return t.fail(err)
	}
	t.keepCarried(i)
	t.at.Choice = ""
	if b, ok := out.Next.(*begun); ok {
		t.at.Asked, t.at.State, t.at.Private, t.at.Form = step.Of[out.By], b.state, b.private, b.next.Form != nil
		t.res.Next = b.next
	} else {
		t.at.Asked, t.at.State, t.at.Private, t.at.Form = "", newState(), nil, false
		t.res.Next = &Interaction{}
		for _, j := range out.Choose {
			t.res.Next.Choose = append(t.res.Next.Choose, Choice{step.Of[j], t.p.o.Interactive[step.Of[j]].Label()})
		}
	}
	return t.seal()
}

// keepCarried keeps what credentials of this request have proven in steps before i: the next request will not carry them.
func (t *run) keepCarried(i int) {
	for j := range i {
		c := t.carried[j]
		if c == nil || t.at.passed(j) != nil {
			continue
		}
		k := t.keep(j, c.principal, c.passed[0])
		for _, more := range c.passed[1:] {
			k.Also = append(k.Also, more.Authenticator)
		}
	}
}

// seal makes the context.
func (t *run) seal() *Result {
	t.at.Until = t.now.Add(contextTime).Unix()
	for {
		plain, err := json.Marshal(&t.at)
		if err != nil {
			return t.fail(fmt.Errorf("%w: encode the login: %w", auth.ErrUnavailable, err))
		}
		sealed, err := t.p.o.Box.Seal(plain, contextBinding)
		if err != nil {
			return t.fail(fmt.Errorf("%w: seal the login: %w", auth.ErrUnavailable, err))
		}
		if text := base64.RawURLEncoding.EncodeToString(sealed); len(text) <= maxContext {
			t.res.Context, t.res.State = text, t.at.State
			return t.res
		}
		if !t.at.shorten() {
			return t.fail(fmt.Errorf("%w: the login has more to remember than fits into a cookie", auth.ErrUnavailable))
		}
	}
}

// shorten leaves out what a login can do without, the least needed first. It reports whether there was anything.
func (p *progress) shorten() bool {
	if i := slices.IndexFunc(p.Passed, func(k kept) bool { return k.IDToken != "" }); i >= 0 {
		p.Passed[i].IDToken = "" // a logout will not reach the provider
		return true
	}
	if p.Return != "" {
		p.Return = ""
		return true
	}
	return false
}
