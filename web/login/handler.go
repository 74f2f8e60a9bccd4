package login

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/web/login/screen"
	"quorumhub/web/problem"
)

// Processor takes requests through sequences. It is a *sequence.Processor. Safe for concurrent use.
type Processor interface {
	Process(ctx context.Context, q *sequence.Request) *sequence.Result
}

// Sessions opens the cookies of sessions. Safe for concurrent use.
type Sessions interface {
	// Open returns the session of a cookie, and the cookie's new content if it is to be replaced. The error says why there is none.
	Open(ctx context.Context, cookie string) (s *session.Session, fresh string, err error)
}

// Options configures a Handler. All fields are required.
type Options struct {
	// PublicURL is the hub's public base URL.
	PublicURL string
	Processor Processor
	Sessions  Sessions
	// Protocol returns the protocol of a service provider, false if there is no such provider now.
	Protocol func(provider string) (string, bool)
	// Ready reports whether there is anything to log in with now. Otherwise all paths answer 404.
	Ready     func() bool
	Protocols []Protocol
}

// Handler serves the paths of all protocols, and what they share: callbacks and forms.
type Handler struct {
	Options
	base   string // path of PublicURL, without a slash at its end
	routes []Route
}

// Paths that all protocols share. What follows callbackPath is the identity provider's name.
const (
	callbackPath = "/login/callback/"
	formPath     = "/login/form"
)

// CallbackURL returns where an identity provider sends people back to. It is the redirect URI that is registered there.
func CallbackURL(publicURL, provider string) string {
	return strings.TrimSuffix(publicURL, "/") + callbackPath + url.PathEscape(provider)
}

// New makes a Handler. It is an error if two protocols have the same name or path.
func New(o Options) (*Handler, error) {
	public, err := url.Parse(o.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("login: PublicURL: %w", err)
	}
	h := &Handler{Options: o, base: strings.TrimSuffix(public.EscapedPath(), "/")}
	h.routes = []Route{
		{Path: callbackPath + "*", Methods: []string{http.MethodGet}, Serve: h.callback},
		{Path: formPath, Methods: []string{http.MethodPost}, Serve: h.form},
	}
	names, paths := map[string]bool{}, map[string]bool{callbackPath + "*": true, formPath: true}
	for _, p := range o.Protocols {
		if names[p.Name()] {
			return nil, fmt.Errorf("login: two protocols are called %q", p.Name())
		}
		names[p.Name()] = true
		for _, rt := range p.Routes() {
			if paths[rt.Path] {
				return nil, fmt.Errorf("login: two routes have the path %s", rt.Path)
			}
			paths[rt.Path] = true
			if rt.Begins {
				rt.Serve = func(w http.ResponseWriter, r *http.Request) { h.begin(w, r, p) }
			}
			h.routes = append(h.routes, rt)
		}
	}
	return h, nil
}

// Routes are the paths that the Handler serves, by Serve.
func (h *Handler) Routes() []Route { return h.routes }

// Serve answers a request to one of the Routes. Its context must have a Peer.
func (h *Handler) Serve(rt *Route, w http.ResponseWriter, r *http.Request) {
	if !h.Ready() {
		NotConfigured(w, r)
		return
	}
	peer := PeerOf(r.Context())
	if cookie, ok := only(r, session.CookieName); ok {
		s, fresh, err := h.Sessions.Open(r.Context(), cookie)
		var forged *auth.RefusalError
		switch {
		case errors.As(err, &forged): // or sealed by keys that are gone: the browser can begin anew
			peer.Refused(r.Context(), err)
			drop(w, session.CookieName)
		case fresh != "":
			http.SetCookie(w, session.Cookie(fresh))
		}
		peer.Session = s
	}
	rt.Serve(w, r)
}

// NotConfigured answers a request on a hub that nobody can log in to.
func NotConfigured(w http.ResponseWriter, r *http.Request) {
	Fail(w, r, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "path",
		Detail: "is for logging in, and nobody can log in here: auth.file has no identity_providers (docs/identity.md)"})
}

// only returns the value of a cookie that came exactly once.
func only(r *http.Request, name string) (string, bool) {
	got := r.CookiesNamed(name)
	if len(got) != 1 || got[0].Value == "" {
		return "", false
	}
	return got[0].Value, true
}

// begin takes a first request through the chain.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, p Protocol) {
	q, err := p.Request(r)
	if err == nil {
		q.Provider, err = p.Provider(r, q)
	}
	var own Answer
	switch {
	case errors.As(err, &own):
		own.Answer(w, r)
	case err != nil:
		Fail(w, r, err)
	default:
		h.process(w, r, p, q)
	}
}

// callback takes what an identity provider sent somebody back with.
func (h *Handler) callback(w http.ResponseWriter, r *http.Request) {
	name, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), callbackPath))
	if err != nil || name == "" {
		h.broken(w, r, fmt.Errorf("%w: a callback of no identity provider", sequence.ErrContext))
		return
	}
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		h.broken(w, r, fmt.Errorf("%w: the callback's query: %w", sequence.ErrContext, err))
		return
	}
	h.resume(w, r, name, form)
}

// maxFormBytes is more than any form of ours needs.
const maxFormBytes = 16 << 10

// form takes a form that somebody has filled in, or what somebody has chosen.
func (h *Handler) form(w http.ResponseWriter, r *http.Request) {
	form, err := PostedForm(w, r)
	if err != nil {
		Fail(w, r, err)
		return
	}
	h.resume(w, r, "", form)
}

// PostedForm reads the form that a page of ours has sent.
func PostedForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		return nil, &problem.Details{Status: http.StatusBadRequest, Code: "invalid", Param: "body", HangUp: true,
			Detail: fmt.Sprintf("is no form of at most %d bytes", maxFormBytes)}
	}
	return r.PostForm, nil
}

// resume continues the sequence whose state a callback or form has brought back. It is taken from the client's budget for refusals
// before anything is opened, and given back unless it is refused.
func (h *Handler) resume(w http.ResponseWriter, r *http.Request, authenticator string, form url.Values) {
	peer := PeerOf(r.Context())
	if err := peer.Reserve(); err != nil {
		Fail(w, r, err)
		return
	}
	states := form["state"]
	if len(states) != 1 || states[0] == "" || len(states[0]) > maxState {
		h.broken(w, r, fmt.Errorf("%w: %d states", sequence.ErrContext, len(states)))
		return
	}
	sealed, ok := only(r, contextCookie(states[0]))
	if !ok {
		h.broken(w, r, fmt.Errorf("%w: this browser has no login with that state", sequence.ErrContext))
		return
	}
	h.process(w, r, nil, &sequence.Request{Callback: true, Context: sealed, Form: form, Hint: authenticator, Interactive: true})
}

// process completes a request of a sequence, takes it on, and answers.
func (h *Handler) process(w http.ResponseWriter, r *http.Request, p Protocol, q *sequence.Request) {
	peer := PeerOf(r.Context())
	q.Credentials, q.Session, q.Client, q.Device = peer.Credentials, peer.Session, peer.Client, device(r.UserAgent())
	res := h.Processor.Process(r.Context(), q)
	if p == nil && res.Provider != "" {
		p = h.protocolOf(res.Provider)
	}
	if q.Callback && res.Next == nil {
		drop(w, contextCookie(q.Form.Get("state")))
	}
	if res.Cookie != "" {
		http.SetCookie(w, session.Cookie(res.Cookie))
		peer.Audit(r.Context(), res.Principal, "login", notes(res)...)
	}
	if refused := refusedBy(res); refused == nil {
		peer.Return()
	} else {
		peer.Refused(r.Context(), refused)
		if err := peer.Reserve(); err != nil {
			Fail(w, r, err)
			return
		}
	}
	switch {
	case res.Next != nil && p != nil:
		h.interact(w, r, res)
	case p == nil:
		h.Stop(w, r, res.Err)
	default:
		p.Respond(w, r, res)
	}
}

// refusedBy returns why credentials were refused in this request, and where in which sequence; nil: none were.
func refusedBy(res *sequence.Result) error {
	again := res.Next != nil && res.Err != nil && !errors.Is(res.Err, auth.ErrUnavailable) // it may be tried again
	if res.Status != sequence.Failed && !again {
		return nil
	}
	for _, t := range slices.Backward(res.Trail) {
		if t.Status == sequence.Failed {
			return fmt.Errorf("service provider %s, step %d (%s), %s: %w", res.Provider, t.Step, t.Strategy, t.Authenticator, res.Err)
		}
	}
	if res.Provider != "" {
		return fmt.Errorf("service provider %s: %w", res.Provider, res.Err)
	}
	return res.Err
}

// notes are what the audit line of a login says besides who it is.
func notes(res *sequence.Result) []string {
	out := []string{"service_provider", res.Provider}
	if s := res.Session; s != nil {
		out = append(out, "session", hex.EncodeToString(s.ID[:6]))
		for i := range s.Passed {
			out = append(out, "passed", s.Passed[i].Authenticator)
		}
	}
	return out
}

// protocolOf returns the protocol of a service provider, nil if there is none (any more).
func (h *Handler) protocolOf(provider string) Protocol {
	name, ok := h.Protocol(provider)
	i := slices.IndexFunc(h.Protocols, func(p Protocol) bool { return p.Name() == name })
	if !ok || i < 0 {
		return nil
	}
	return h.Protocols[i]
}

// interact sends somebody on to act, and gives the browser the context to come back with.
func (h *Handler) interact(w http.ResponseWriter, r *http.Request, res *sequence.Result) {
	remember(w, r, contextCookie(res.State), res.Context)
	next := res.Next
	hidden := []screen.Hidden{{Name: "state", Value: res.State}}
	switch {
	case next.Redirect != "":
		Redirect(w, r, next.Redirect)
	case next.Form != nil:
		h.ask(w, next.Form, hidden, res.Err).Write(w)
	default:
		page := &screen.Page{Title: "Log in", Text: []string{"How do you want to log in?"}}
		if res.Err != nil {
			page.Status, page.Alert = http.StatusUnauthorized, "You could not be logged in. Please try again."
		}
		f := screen.Form{Action: h.base + formPath, Hidden: hidden}
		for _, c := range next.Choose {
			f.Buttons = append(f.Buttons, screen.Button{Name: "idp", Value: c.Name, Text: c.Label})
		}
		page.Forms = []screen.Form{f}
		page.Write(w)
	}
}

// ask returns the page on which an authenticator's form is filled in.
func (h *Handler) ask(w http.ResponseWriter, form *sequence.Form, hidden []screen.Hidden, err error) *screen.Page {
	page := &screen.Page{Title: form.Label}
	if form.Wrong {
		page.Status, page.Alert = http.StatusUnauthorized, "That was not right. Please try again."
		if p := crowded(err); p != nil {
			page.Status, page.Alert = p.Status, p.Detail
			w.Header().Set("Retry-After", strconv.Itoa(problem.Seconds(p.RetryAfter)))
		}
		switch {
		case form.Left == 1:
			page.Text = []string{"You can try once more."}
		case form.Left > 1:
			page.Text = []string{fmt.Sprintf("You can try %d more times.", form.Left)}
		}
	}
	f := screen.Form{Action: h.base + formPath, Hidden: hidden, Buttons: []screen.Button{{Text: "Log in"}}}
	for i, field := range form.Fields {
		one := screen.Field{Name: field.Name, Label: field.Label, Secret: field.Secret, Autocomplete: field.Autocomplete, Focus: i == 0}
		if field.Autocomplete == "one-time-code" {
			one.Inputmode = "numeric"
		}
		f.Fields = append(f.Fields, one)
	}
	page.Forms = []screen.Form{f}
	return page
}

// Redirect sends a browser on by GET, and tells nobody from where.
func Redirect(w http.ResponseWriter, _ *http.Request, to string) {
	screen.Secure(w.Header())
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// Start returns the path at which somebody logs in for a service provider with pages, or for the first if it is empty, to go on to a
// path of this hub.
func (h *Handler) Start(provider, to string) string {
	q := url.Values{"return": {to}}
	if provider != "" {
		q.Set("sp", provider)
	}
	if !ReturnPath(to) {
		q.Del("return")
	}
	return h.base + "/login?" + q.Encode()
}

// broken refuses a callback or form before the sequences see it.
func (h *Handler) broken(w http.ResponseWriter, r *http.Request, err error) {
	peer := PeerOf(r.Context())
	if limited := peer.Reserve(); limited != nil {
		Fail(w, r, limited)
		return
	}
	peer.Refused(r.Context(), err)
	h.Stop(w, r, err)
}

// Stop answers a login that has failed. The answer says how to start again and not what was wrong with what came back.
func (h *Handler) Stop(w http.ResponseWriter, r *http.Request, err error) {
	Stop(w, r, err, h.base+"/login")
}

// Stop answers a login that has failed; again is where to start it again.
func Stop(w http.ResponseWriter, r *http.Request, err error, again string) {
	p, advice := stopped(err)
	if !WantsPage(r) {
		p.Write(w, r, PeerOf(r.Context()).CorrelationID)
		return
	}
	page := pageOf(r, p)
	page.Alert, page.Text = p.Detail, []string{advice}
	page.Links = []screen.Link{{URL: again, Text: "Start again"}}
	if s := PeerOf(r.Context()).Session; s != nil {
		page.Text = append(page.Text, "You are still logged in as "+s.Name+".")
	}
	write(w, page, p)
}

// crowded describes an attempt that was refused without a look at it, because too many have failed lately; nil: err is something else.
func crowded(err error) *problem.Details {
	var limited interface {
		error
		RetryAfter() time.Duration
	}
	if !errors.As(err, &limited) {
		return nil
	}
	after := max(limited.RetryAfter(), time.Second)
	return &problem.Details{Status: http.StatusTooManyRequests, Code: "rate_limited", RetryAfter: after,
		Detail: fmt.Sprintf("Too many attempts have failed lately. Please try again in %d seconds.", problem.Seconds(after))}
}

// stopped describes a failed login, and what to do.
func stopped(err error) (p *problem.Details, advice string) {
	var refusal *auth.RefusalError
	var told *problem.Details
	switch {
	case errors.As(err, &told):
		return told, "Please try again later."
	case crowded(err) != nil:
		return crowded(err), "Whoever guesses passwords has to wait, and so does everybody who looks like that."
	case errors.Is(err, auth.ErrUnavailable):
		return &problem.Details{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: retryLogin,
			Detail: "Logging in is not possible at the moment."}, "The identity provider cannot be reached or has trouble. Please try again shortly."
	case errors.Is(err, sequence.ErrHint):
		return &problem.Details{Status: http.StatusBadRequest, Code: "invalid", Param: "idp", Detail: "There is no such way to log in here."}, "Please start again and choose one that is offered."
	case errors.As(err, &refusal):
		return &problem.Details{Status: http.StatusForbidden, Code: "login_refused", Detail: "You could not be logged in."}, "What was presented was not accepted. Whoever runs this hub finds the reason in its log."
	}
	return &problem.Details{Status: http.StatusBadRequest, Code: "login_broken", Detail: "This login cannot be continued."},
		"It may have taken longer than ten minutes, have been continued already, or have begun in another browser. Please start again."
}
