package pages

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/auth/session"
	"quorumhub/web/login"
	"quorumhub/web/login/screen"
	"quorumhub/web/problem"
)

// me shows who somebody is, and how they have proven it.
func (p *Protocol) me(w http.ResponseWriter, r *http.Request) {
	s := login.PeerOf(r.Context()).Session
	if s == nil {
		login.Demand(w, r, p.base, p.base+mePath, p.Challenges())
		return
	}
	if !login.WantsPage(r) {
		p.meJSON(w, s)
		return
	}
	page := &screen.Page{Title: s.Name, Text: []string{"You are logged in."}, Facts: []screen.Fact{{Name: "Principal", Value: s.Principal.ID}}}
	if len(s.Principal.Roles) > 0 {
		page.Facts = append(page.Facts, screen.Fact{Name: "Roles", Value: strings.Join(s.Principal.Roles, ", ")})
	}
	for _, step := range s.Passed {
		value := step.Authenticator + ", " + moment(step.At)
		if len(step.Method) > 0 {
			value += " (" + strings.Join(step.Method, ", ") + ")"
		}
		page.Facts = append(page.Facts, screen.Fact{Name: "Logged in by", Value: value})
	}
	page.Facts = append(page.Facts, screen.Fact{Name: "Session began", Value: moment(s.Started)}, screen.Fact{Name: "Last used", Value: moment(s.Seen)},
		screen.Fact{Name: "Ends at the latest", Value: moment(s.Ends)})
	page.Forms = []screen.Form{{Action: p.base + logoutPath, Buttons: []screen.Button{{Text: "Log out"}}}}
	others, err := p.Sessions.Of(r.Context(), s.Principal.ID)
	if err != nil {
		page.Alert = "Your other sessions cannot be listed at the moment."
	}
	for i := range others {
		if o := &others[i]; o.ID != s.ID {
			page.Forms = append(page.Forms, p.other(o))
		}
	}
	page.Write(w)
}

// other shows another session of the same person.
func (p *Protocol) other(o *session.Login) screen.Form {
	client := o.Client
	if client == "" {
		client = "an unknown browser"
	}
	return screen.Form{Action: p.base + endPath, Title: "Another session of yours", Hidden: []screen.Hidden{{Name: "session", Value: hex.EncodeToString(o.ID[:])}},
		Facts:   []screen.Fact{{Name: "With", Value: client}, {Name: "Began", Value: moment(o.Started)}, {Name: "Ends at the latest", Value: moment(o.Ends)}},
		Buttons: []screen.Button{{Text: "End this session", Quiet: true}}}
}

func moment(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05 UTC") }

type meBody struct {
	Principal string     `json:"principal"`
	Name      string     `json:"name"`
	Method    string     `json:"method"`
	Roles     []string   `json:"roles"`
	Passed    []stepBody `json:"passed"`
	StartedAt time.Time  `json:"started_at"`
	SeenAt    time.Time  `json:"seen_at"`
	EndsAt    time.Time  `json:"ends_at"`
}

type stepBody struct {
	Authenticator string    `json:"authenticator"`
	Method        []string  `json:"method"`
	At            time.Time `json:"at"`
}

func (p *Protocol) meJSON(w http.ResponseWriter, s *session.Session) {
	out := meBody{Principal: s.Principal.ID, Name: s.Name, Method: string(s.Principal.Method), Roles: append([]string{}, s.Principal.Roles...), Passed: []stepBody{},
		StartedAt: s.Started.UTC(), SeenAt: s.Seen.UTC(), EndsAt: s.Ends.UTC()}
	for _, step := range s.Passed {
		out.Passed = append(out.Passed, stepBody{step.Authenticator, append([]string{}, step.Method...), step.At.UTC()})
	}
	screen.Secure(w.Header())
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) //nolint:errchkjson // fails only if the client is gone
}

// end ends another session of the same person.
func (p *Protocol) end(w http.ResponseWriter, r *http.Request) {
	s := login.PeerOf(r.Context()).Session
	if s == nil {
		login.Demand(w, r, p.base, p.base+mePath, p.Challenges())
		return
	}
	form, err := login.PostedForm(w, r)
	if err != nil {
		login.Fail(w, r, err)
		return
	}
	raw, err := hex.DecodeString(form.Get("session"))
	if err != nil || len(raw) != len(s.ID) {
		login.Fail(w, r, login.Mistake("session", "is none; expected one of those at "+p.base+mePath))
		return
	}
	if err := p.Sessions.End(r.Context(), s.Principal.ID, [32]byte(raw)); err != nil {
		login.Fail(w, r, err)
		return
	}
	login.PeerOf(r.Context()).Audit(r.Context(), s.Principal, "logout", "session", hex.EncodeToString(raw[:6]))
	login.Redirect(w, r, p.base+mePath)
}

// logout ends the session, and sends the browser to the identity provider to log out there if that was configured. Only POST does, so
// that no page elsewhere can log anybody out.
func (p *Protocol) logout(w http.ResponseWriter, r *http.Request) {
	s := login.PeerOf(r.Context()).Session
	if r.Method != http.MethodPost {
		page := &screen.Page{Title: "Log out", Text: []string{"You are not logged in."}, Links: []screen.Link{{URL: p.base + loginPath, Text: "Log in"}}}
		if s != nil {
			page = &screen.Page{Title: "Log out", Text: []string{"You are logged in as " + s.Name + "."},
				Forms: []screen.Form{{Action: p.base + logoutPath, Buttons: []screen.Button{{Text: "Log out"}}}}}
		}
		page.Write(w)
		return
	}
	if s == nil {
		http.SetCookie(w, session.Cookie(""))
		login.Redirect(w, r, p.base+login.ByePath)
		return
	}
	to, err := p.Logout.End(w, r, s, "")
	if err != nil {
		login.Fail(w, r, err)
		return
	}
	login.Redirect(w, r, cmp.Or(to, p.base+login.ByePath))
}

// bye is where somebody ends up who has logged out, unless an application waits.
func (p *Protocol) bye(w http.ResponseWriter, r *http.Request) {
	if to := p.Logout.Return(r.URL.Query().Get("state")); to != "" {
		login.Redirect(w, r, to)
		return
	}
	page := &screen.Page{Title: "Logged out", Text: []string{"You are logged out of this hub."}, Links: []screen.Link{{URL: p.base + loginPath, Text: "Log in again"}}}
	if login.PeerOf(r.Context()).Session != nil { // the browser has logged in again, or never out
		login.Redirect(w, r, p.base+mePath)
		return
	}
	page.Write(w)
}

// backChannel takes a logout token. Answers are those of OpenID Connect Back-Channel Logout 1.0 section 2.8. A forged token counts as
// refused credentials.
func (p *Protocol) backChannel(w http.ResponseWriter, r *http.Request) {
	screen.Secure(w.Header())
	peer := login.PeerOf(r.Context())
	if err := peer.Reserve(); err != nil {
		login.Fail(w, r, err)
		return
	}
	name, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), backChannelPath))
	if err != nil {
		login.Fail(w, r, login.Mistake("path", "has a % without two hexadecimal digits"))
		return
	}
	form, err := login.PostedForm(w, r)
	tokens := form["logout_token"]
	if err == nil && len(tokens) != 1 {
		err = login.Mistake("logout_token", "is missing, or given more than once")
	}
	if err != nil {
		login.Fail(w, r, err)
		return
	}
	if err := p.BackChannel(r.Context(), name, tokens[0]); err != nil {
		peer.Refused(r.Context(), err)
		told := login.Told(err)
		switch {
		case told == nil:
			told = problem.Internal(peer.CorrelationID)
		case told.Status == http.StatusForbidden:
			told = &problem.Details{Status: http.StatusBadRequest, Code: "invalid_request", Param: "logout_token", Detail: "is not valid"}
		}
		told.WriteJSON(w, peer.CorrelationID)
		return
	}
	peer.Return()
	w.WriteHeader(http.StatusOK)
}
