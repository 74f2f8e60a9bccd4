// Package pages is the protocol of the hub's own pages: somebody logs in, is sent on to a page of this hub, sees who they are, and logs
// out. It also takes the back-channel logouts of identity providers.
package pages

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/web/login"
	"quorumhub/web/problem"
)

// Name of the protocol.
const Name = "pages"

// Options configures a Protocol. All fields are required.
type Options struct {
	PublicURL string
	// Providers returns the service providers with this protocol, in the order of auth.file.
	Providers func() []auth.ServiceProvider
	// Extra reports whether there is a service provider of pages that auth.file does not have, such as a route of the gateway.
	Extra    func(provider string) bool
	Sessions Sessions
	// Challenges are the WWW-Authenticate values for programs that ask for a page without a session.
	Challenges func() []string
	Logout     *login.Logout
	// BackChannel ends the sessions that an identity provider's logout token names (OpenID Connect Back-Channel Logout 1.0).
	BackChannel func(ctx context.Context, provider, token string) error
}

// Sessions are those of the cluster. Safe for concurrent use.
type Sessions interface {
	// Of returns the sessions of a principal, the newest first.
	Of(ctx context.Context, principal string) ([]session.Login, error)
	// End ends one of a principal's sessions. That it has ended already is no error; that it is somebody else's has no effect.
	End(ctx context.Context, principal string, id [32]byte) error
}

// Protocol implements login.Protocol.
type Protocol struct {
	Options
	base string
}

// New makes a Protocol.
func New(o Options) (*Protocol, error) {
	public, err := url.Parse(o.PublicURL)
	if err != nil {
		return nil, err
	}
	return &Protocol{Options: o, base: strings.TrimSuffix(public.EscapedPath(), "/")}, nil
}

// Paths of this protocol's.
const (
	loginPath       = "/login"
	mePath          = "/login/me"
	endPath         = "/login/end"
	logoutPath      = "/login/logout"
	backChannelPath = "/login/backchannel/"
)

// Name implements login.Protocol.
func (*Protocol) Name() string { return Name }

// Routes implements login.Protocol.
func (p *Protocol) Routes() []login.Route {
	get, post := []string{http.MethodGet}, []string{http.MethodPost}
	return []login.Route{
		{Path: loginPath, Methods: get, Begins: true},
		{Path: mePath, Methods: get, Serve: p.me},
		{Path: endPath, Methods: post, Serve: p.end},
		{Path: logoutPath, Methods: []string{http.MethodGet, http.MethodPost}, Serve: p.logout},
		{Path: login.ByePath, Methods: get, Serve: p.bye},
		{Path: backChannelPath + "*", Methods: post, Serve: p.backChannel},
	}
}

// Request implements login.Protocol. The query may have return, where to go on to, and idp, by whom to log in.
func (p *Protocol) Request(r *http.Request) (*sequence.Request, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, login.Mistake("query", "is not understood")
	}
	q := &sequence.Request{Interactive: login.WantsPage(r), Return: p.base + mePath}
	for name, values := range query {
		if len(values) != 1 {
			return nil, login.Mistake(problem.Quote(name), "is given more than once")
		}
	}
	if query.Has("return") {
		if q.Return = query.Get("return"); !login.ReturnPath(q.Return) {
			return nil, login.Mistake("return", "is not a path on this hub; expected one such as "+p.base+mePath)
		}
	}
	q.Hint = query.Get("idp")
	q.Anew = query.Get("anew") == "true"
	return q, nil
}

// Provider implements login.Protocol: the one that the query names as sp, or else the first in auth.file.
func (p *Protocol) Provider(r *http.Request, _ *sequence.Request) (string, error) {
	providers := p.Providers()
	name := r.URL.Query().Get("sp")
	if name == "" && len(providers) > 0 {
		return providers[0].Name, nil
	}
	known := slices.ContainsFunc(providers, func(sp auth.ServiceProvider) bool { return sp.Name == name })
	if known || name != "" && p.Extra(name) {
		return name, nil
	}
	if name == "" {
		return "", &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "sp",
			Detail: "is not given, and auth.file has no service provider with protocol: pages to log in to"}
	}
	return "", login.Mistake("sp", "is no service provider with pages of this hub")
}

// Respond implements login.Protocol.
func (p *Protocol) Respond(w http.ResponseWriter, r *http.Request, res *sequence.Result) {
	if res.Status == sequence.Initial { // without credentials, and there is nothing that a person could do
		login.Fail(w, r, &problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Challenges: res.Challenges,
			Detail: "nobody can log in here with a browser now; programs send credentials"})
		return
	}
	if res.Status != sequence.Authenticated {
		login.Stop(w, r, res.Err, p.again(res))
		return
	}
	to := res.Return
	if !login.ReturnPath(to) {
		to = p.base + mePath
	}
	login.Redirect(w, r, to)
}

// again is where somebody whose login failed starts again.
func (p *Protocol) again(res *sequence.Result) string {
	q := url.Values{}
	if res.Provider != "" {
		q.Set("sp", res.Provider)
	}
	if login.ReturnPath(res.Return) {
		q.Set("return", res.Return)
	}
	if len(q) == 0 {
		return p.base + loginPath
	}
	return p.base + loginPath + "?" + q.Encode()
}
