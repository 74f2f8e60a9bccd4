package broker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"quorumhub/auth/session"
	"quorumhub/auth/ticket"
	"quorumhub/hub"
	"quorumhub/web/login"
	"quorumhub/web/login/screen"
	"quorumhub/web/problem"
)

const (
	// deviceTime is how long a terminal waits for somebody.
	deviceTime = 10 * time.Minute
	// maxHost bounds what a terminal says about where it runs.
	maxHost = 64
	// behind bounds how long a page waits for a node that is behind others.
	behind = 2 * time.Second
)

// requestDevice begins a login at a terminal (RFC 8628 section 3.1). The form may have host, which the person is shown, and idp, by whom
// to log in.
func (b *Broker) requestDevice(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	if err := plainForm(r); err != nil {
		login.Fail(w, r, login.Mistake("body", err.Error()))
		return
	}
	idp := r.PostForm.Get("idp")
	if _, ok := b.Settings().IdentityProvider(idp); idp != "" && !ok {
		login.Fail(w, r, login.Mistake("idp", "is "+problem.Quote(idp)+"; expected one of "+strings.Join(b.providers(), ", ")))
		return
	}
	if id := r.PostForm.Get("client_id"); id != "" && id != ticket.Terminal {
		login.Fail(w, r, login.Mistake("client_id", "is "+problem.Quote(id)+"; expected "+ticket.Terminal))
		return
	}
	peer := login.PeerOf(r.Context())
	d := &hub.Device{Client: ticket.Terminal, From: from(r.PostForm.Get("host"), peer.Client), Until: b.Now().Add(deviceTime)}
	code, err := b.newDevice(r.Context(), d, peer.Client)
	if err != nil {
		login.Fail(w, r, err)
		return
	}
	shown := d.UserCode[:4] + "-" + d.UserCode[4:]
	query := url.Values{"user_code": {shown}}
	if idp != "" {
		query.Set("idp", idp)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(&oidc.DeviceAuthorizationResponse{DeviceCode: code, UserCode: shown, //nolint:errchkjson // fails only if the client is gone
		VerificationURI: b.PublicURL + terminalPath, VerificationURIComplete: b.PublicURL + terminalPath + "?" + query.Encode(),
		ExpiresIn: int(deviceTime / time.Second), Interval: int(pollInterval / time.Second)})
}

// providers returns the names by which somebody can log in.
func (b *Broker) providers() (out []string) {
	s := b.Settings()
	for i := range s.IdentityProviders {
		out = append(out, s.IdentityProviders[i].Name)
	}
	return out
}

// from describes who asks, for the person who decides.
func from(host, address string) string {
	host = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) && c < 0x7f {
			return c
		}
		return -1
	}, host)
	if host = strings.TrimSpace(host); host == "" {
		return address
	}
	return host[:min(len(host), maxHost)] + ", from " + address
}

// newDevice records a terminal that waits, under a user code that no other has, and returns its device code.
func (b *Broker) newDevice(ctx context.Context, d *hub.Device, network string) (code string, err error) {
	for range 3 {
		var raw [32]byte
		_, _ = rand.Read(raw[:]) // never fails
		code = tokenText(raw[:])
		d.ID = sha256.Sum256([]byte(code))
		if d.UserCode, err = op.NewUserCode([]rune(op.CharSetBase20), op.UserCodeBase20.CharAmount, 0); err != nil {
			return "", err
		}
		if err = b.Service().RequestDevice(ctx, d, network); !errors.Is(err, hub.ErrCodeTaken) {
			break
		}
	}
	return code, err
}

// DeviceToken implements op.Server: a terminal asks whether somebody has let it in (RFC 8628 section 3.4).
func (s server) DeviceToken(ctx context.Context, r *op.ClientRequest[oidc.DeviceAccessTokenRequest]) (*op.Response, error) {
	id := hub.DeviceID(sha256.Sum256([]byte(r.Data.DeviceCode)))
	d, ok := s.device(ctx, func(st *hub.State) (hub.Device, bool) { return st.Device(id) })
	switch now := s.Now(); {
	case !ok || d.Client != r.Client.GetID():
		return nil, badGrant(ctx, errors.New("device code: is unknown, or has long expired"))
	case !now.Before(d.Until):
		return nil, oidc.ErrExpiredDeviceCode()
	case d.Denied:
		return nil, oidc.ErrAccessDenied()
	case !s.polls.Spend(id, hub.Rate{Requests: 1, Per: pollInterval - time.Second}, now).OK:
		return nil, oidc.ErrSlowDown()
	case !d.Decided:
		return nil, oidc.ErrAuthorizationPending()
	}
	t, err := ticket.Decode(d.Ticket)
	if err != nil {
		return nil, op.NewStatusError(oidc.ErrServerError().WithParent(err), http.StatusInternalServerError)
	}
	of := &subject{ticket: t, scopes: t.Scopes, renews: true}
	if err := s.use(ctx, of, &hub.GrantUse{Grant: t.Grant, Session: d.Session, Client: t.Client, Until: t.Ends}); err != nil {
		return nil, err
	}
	return answer(op.CreateDeviceTokenResponse(s.issuing(ctx), redeemed{of}, s, r.Client))
}

// device looks for a terminal that waits, again once this node has caught up if it does not know it.
func (b *Broker) device(ctx context.Context, find func(*hub.State) (hub.Device, bool)) (d hub.Device, ok bool) {
	b.Verifier.State.View(func(s *hub.State) { d, ok = find(s) })
	if ok {
		return d, true
	}
	ctx, cancel := context.WithTimeout(ctx, behind)
	defer cancel()
	if b.Reads.Consistent(ctx) == nil {
		b.Verifier.State.View(func(s *hub.State) { d, ok = find(s) })
	}
	return d, ok
}

// terminal is the page about terminals.
func (b *Broker) terminal(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		b.decideDevice(w, r)
		return
	}
	b.devicePage(w, r)
}

// devicePage is where somebody types the code that a terminal shows.
func (b *Broker) devicePage(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err == nil {
		err = once(query)
	}
	if err != nil {
		login.Fail(w, r, login.Mistake("query", "is not understood, or has a parameter twice"))
		return
	}
	code := userCode(query.Get("user_code"))
	peer := login.PeerOf(r.Context())
	if peer.Session == nil {
		b.demandLogin(w, r, code, query.Get("idp"))
		return
	}
	if code == "" {
		b.askCode(w, "")
		return
	}
	b.confirmDevice(w, r, code)
}

// demandLogin sends somebody to log in, and back to the page.
func (b *Broker) demandLogin(w http.ResponseWriter, r *http.Request, code, idp string) {
	to := b.base + terminalPath
	if code != "" {
		to += "?" + url.Values{"user_code": {code}}.Encode()
	}
	if idp == "" || !login.Navigates(r) {
		login.Demand(w, r, b.base, to, b.Challenges())
		return
	}
	login.Redirect(w, r, b.base+"/login?"+url.Values{"return": {to}, "idp": {idp}}.Encode())
}

// userCode returns what somebody typed as the state has it (RFC 8628 section 6.1): letters of the codes' alphabet, without what people
// put between them. Anything else is empty.
func userCode(typed string) string {
	code := strings.Map(func(c rune) rune {
		if c == '-' || c == ' ' || c == '\u2013' {
			return -1
		}
		return unicode.ToUpper(c)
	}, typed)
	if len(code) != op.UserCodeBase20.CharAmount || strings.Trim(code, op.CharSetBase20) != "" {
		return ""
	}
	return code
}

// askCode shows the form for a code.
func (b *Broker) askCode(w http.ResponseWriter, wrong string) {
	page := &screen.Page{Title: "Log in at a terminal", Alert: wrong, Forms: []screen.Form{{Action: b.base + terminalPath,
		Fields: []screen.Field{{Name: "user_code", Label: "Code that the terminal shows", Autocomplete: "off", Focus: true,
			Hint: "Eight letters, such as BCDF-GHJK."}},
		Buttons: []screen.Button{{Text: "Continue"}}}}}
	if wrong != "" {
		page.Status = http.StatusNotFound
	}
	page.Write(w)
}

// confirmDevice shows who asks, and lets the person decide.
func (b *Broker) confirmDevice(w http.ResponseWriter, r *http.Request, code string) {
	d, ok := b.waiting(w, r, code)
	if !ok {
		return
	}
	s := login.PeerOf(r.Context()).Session
	shown := code[:4] + "-" + code[4:]
	page := &screen.Page{Title: "Log in at a terminal",
		Text: []string{"A program on a terminal asks to act for you on this hub, with all that you may do, until it is logged out.",
			"Allow this only if you have just run quorumhub login yourself, and it shows this very code. Nobody else has a reason to send you one."},
		Facts: []screen.Fact{{Name: "Code", Value: shown}, {Name: "Asked by", Value: d.From},
			{Name: "Asked at", Value: d.At.UTC().Format("15:04:05 UTC")}, {Name: "You are", Value: s.Name}},
		Forms: []screen.Form{{Action: b.base + terminalPath, Hidden: []screen.Hidden{{Name: "user_code", Value: shown}},
			Buttons: []screen.Button{{Name: "decision", Value: "allow", Text: "Allow"}, {Name: "decision", Value: "deny", Text: "Deny", Quiet: true}}}}}
	page.Write(w)
}

// waiting returns the terminal that shows a code, or answers that there is none. Wrong codes are counted, by client and by principal.
func (b *Broker) waiting(w http.ResponseWriter, r *http.Request, code string) (hub.Device, bool) {
	peer := login.PeerOf(r.Context())
	if err := peer.Reserve(); err != nil {
		login.Fail(w, r, err)
		return hub.Device{}, false
	}
	who, now := peer.Session.Principal.ID, b.Now()
	if a := b.guesses.Spend(who, guessRate(), now); !a.OK {
		login.Fail(w, r, &problem.Details{Status: http.StatusTooManyRequests, Code: "rate_limited", Limit: "refused", RetryAfter: a.Wait,
			Detail: "You have tried too many codes; try again later."})
		return hub.Device{}, false
	}
	d, ok := b.device(r.Context(), func(s *hub.State) (hub.Device, bool) { return s.DeviceByUserCode(code) })
	if !ok || d.Decided || !now.Before(d.Until) {
		peer.Refused(r.Context(), fmt.Errorf("user code tried by %s: no terminal waits with it", who))
		b.askCode(w, "No terminal waits with this code. It may have expired: codes are good for ten minutes, and once.")
		return hub.Device{}, false
	}
	peer.Return()
	b.guesses.Return(who, guessRate(), now)
	return d, true
}

// decideDevice takes the code that somebody typed, and then what they decided.
func (b *Broker) decideDevice(w http.ResponseWriter, r *http.Request) {
	form, err := login.PostedForm(w, r)
	if err == nil {
		err = once(form)
	}
	if err != nil {
		login.Fail(w, r, err)
		return
	}
	code, peer := userCode(form.Get("user_code")), login.PeerOf(r.Context())
	switch decision := form.Get("decision"); {
	case peer.Session == nil:
		login.Fail(w, r, &problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: "log in at " + b.base + "/login first", Challenges: b.Challenges()})
	case code == "":
		b.askCode(w, "That is no code of a terminal.")
	case decision == "":
		b.confirmDevice(w, r, code)
	case !slices.Contains([]string{"allow", "deny"}, decision):
		login.Fail(w, r, login.Mistake("decision", "is "+problem.Quote(decision)+"; expected allow or deny"))
	default:
		if d, ok := b.waiting(w, r, code); ok {
			b.decide(w, r, &d, decision == "allow")
		}
	}
}

// decide records a decision.
func (b *Broker) decide(w http.ResponseWriter, r *http.Request, d *hub.Device, allow bool) {
	page := &screen.Page{Title: "Denied", Text: []string{"The terminal was told so. You can close this page."}}
	var id *hub.SessionID
	var what []byte
	var err error
	if allow {
		page = &screen.Page{Title: "Done", Text: []string{"The terminal is logged in now. You can close this page.",
			"It stays so until quorumhub logout, or until you end its session on the page about you."},
			Links: []screen.Link{{URL: b.base + "/login/me", Text: "About you"}}}
		id, what, err = b.admit(r.Context(), d, login.PeerOf(r.Context()).Session)
	}
	if err == nil {
		err = b.Service().DecideDevice(r.Context(), d.ID, id, what)
	}
	switch {
	case errors.Is(err, hub.ErrGrantEnded):
		b.askCode(w, "The terminal does not wait any more.")
	case err != nil:
		login.Fail(w, r, err)
	default:
		action := "terminal.deny"
		if allow {
			action = "terminal.allow"
		}
		peer := login.PeerOf(r.Context())
		peer.Audit(r.Context(), peer.Session.Principal, action, "from", d.From)
		page.Write(w)
	}
}

// admit starts a session for a terminal and returns what its tokens say.
func (b *Broker) admit(ctx context.Context, d *hub.Device, by *session.Session) (*hub.SessionID, []byte, error) {
	host, _, _ := strings.Cut(d.From, ", from ")
	s, _, err := b.Sessions.Start(ctx, &session.New{Principal: by.Principal, Name: by.Name, Passed: by.Passed, Client: "quorumhub login on " + host})
	if err != nil {
		return nil, nil, err
	}
	id, ends := hub.SessionID(s.ID), s.Ends
	t := &ticket.Ticket{Client: ticket.Terminal, Expires: ends, Ends: ends, Holder: ticket.HolderOf(by.Principal, by.Name), Scopes: []string{oidc.ScopeOfflineAccess}}
	_, _ = rand.Read(t.Grant[:]) // never fails
	what, err := ticket.Encode(t)
	return &id, what, err
}
