// Package forward is the protocol of reverse proxies that ask about each request to the applications behind them: Caddy's forward_auth,
// Traefik's ForwardAuth, nginx's auth_request.
//
// An application has another host than the hub, whose session cookie therefore never reaches it. So a browser that comes to the
// application without a session there is sent to log in at the hub, and returns with a ticket, which it exchanges for a cookie of the
// application's host. That cookie names the session and is worth nothing elsewhere: neither the application nor its proxy can use it to
// act on the hub. It ends with the session. The ticket is good for one use, by the browser that was sent.
package forward

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/web/login"
	"quorumhub/web/problem"
)

// Name of the protocol.
const Name = "forward-auth"

// Options configures a Protocol. All fields are required.
type Options struct {
	PublicURL string
	// Providers returns the service providers with this protocol.
	Providers func() []auth.ServiceProvider
	Processor login.Processor
	Sessions  Sessions
	// Idle returns how long a session lives without being used.
	Idle func() time.Duration
	// Box seals tickets and cookies with a key that all nodes have.
	Box Box
	// Claims makes each ticket good for one use, on any node.
	Claims auth.Nonces
	// Challenges are the WWW-Authenticate values for programs without credentials.
	Challenges func() []string
	Now        func() time.Time
}

// Sessions are those of the cluster. Safe for concurrent use.
type Sessions interface {
	// Find returns a session that has not ended, without what only its cookie holds. It does not wait for other nodes.
	Find(ctx context.Context, id [32]byte) (*session.Session, bool)
}

// Box seals what browsers carry. Safe for concurrent use.
type Box interface {
	Seal(plain []byte, bound string) ([]byte, error)
	Open(sealed []byte, bound string) ([]byte, error)
}

// Protocol implements login.Protocol.
type Protocol struct {
	Options
	public string // PublicURL without a slash at its end
}

// New makes a Protocol.
func New(o Options) *Protocol {
	return &Protocol{Options: o, public: strings.TrimSuffix(o.PublicURL, "/")}
}

// Paths of this protocol's. A proxy asks at askPath, a browser logs in at startPath, and the proxy passes exchangePath on the
// application's host to the hub.
const (
	askPath      = "/auth/forward"
	startPath    = "/auth/login"
	exchangePath = "/.quorumhub/session"
)

// Name implements login.Protocol.
func (*Protocol) Name() string { return Name }

// Routes implements login.Protocol.
func (p *Protocol) Routes() []login.Route {
	get := []string{http.MethodGet}
	return []login.Route{
		{Path: askPath, Methods: get, Frequent: true, Serve: p.ask},
		{Path: startPath, Methods: get, Begins: true},
		{Path: exchangePath, Methods: get, Serve: p.exchange},
	}
}

// Request implements login.Protocol, for a browser that was sent to log in. The query has to, where it was going, and bind, which names
// the browser.
func (p *Protocol) Request(r *http.Request) (*sequence.Request, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(query["to"]) != 1 || len(query["bind"]) != 1 {
		return nil, login.Mistake("query", "is not one that an application's proxy was given; open the application again")
	}
	if !validDigest(query.Get("bind")) {
		return nil, login.Mistake("bind", "names no browser; open the application again")
	}
	if len(query.Get("to")) > maxTo {
		return nil, login.Mistake("to", "is too long; open the application's first page")
	}
	return &sequence.Request{Interactive: true, Return: (&destination{query.Get("to"), query.Get("bind")}).text()}, nil
}

// Provider implements login.Protocol: the one that the host in the request's destination belongs to, so that nobody is sent elsewhere.
func (p *Protocol) Provider(_ *http.Request, q *sequence.Request) (string, error) {
	d, _ := parseDestination(q.Return)
	u, ok := applicationURL(d.to)
	if !ok {
		return "", login.Mistake("to", "is no URL of an application")
	}
	sp := p.providerOf(u.Host)
	if sp == nil {
		return "", login.Mistake("to", "leads to "+problem.Quote(u.Host)+", which is the host of no application that logs in here")
	}
	return sp.Name, nil
}

// Respond implements login.Protocol: it sends a browser that has logged in back to its application with a ticket.
func (p *Protocol) Respond(w http.ResponseWriter, r *http.Request, res *sequence.Result) {
	d, ok := parseDestination(res.Return)
	u, valid := applicationURL(d.to)
	if res.Status != sequence.Authenticated || !ok || !valid || res.Session == nil {
		again := p.public + "/login"
		if valid {
			again = u.String() // the application's proxy sends the browser here again
		}
		login.Stop(w, r, res.Err, again)
		return
	}
	if sp := p.providerOf(u.Host); sp == nil || sp.Name != res.Provider {
		login.Stop(w, r, sequence.ErrContext, p.public+"/login") // the settings have changed meanwhile
		return
	}
	sealed, err := p.sealTicket(u, d.bind, res.Session)
	if err != nil {
		login.Fail(w, r, err)
		return
	}
	login.Redirect(w, r, u.Scheme+"://"+u.Host+exchangePath+"?"+url.Values{"ticket": {sealed}}.Encode())
}

// providerOf returns the service provider that a host belongs to, nil if there is none.
func (p *Protocol) providerOf(host string) *auth.ServiceProvider {
	host = canonicalHost(host)
	if host == "" {
		return nil
	}
	list := p.Providers()
	for i := range list {
		for _, h := range list[i].Hosts {
			if canonicalHost(h) == host {
				return &list[i]
			}
		}
	}
	return nil
}

// canonicalHost returns a host in lower case, and without the port if that is the scheme's own.
func canonicalHost(host string) string {
	host = strings.ToLower(host)
	return strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":80")
}

// applicationURL parses the URL of a page of an application: https, or http on this machine, where browsers keep cookies that are meant
// for secure connections, too.
func applicationURL(to string) (*url.URL, bool) {
	if strings.ContainsFunc(to, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '\\' }) {
		return nil, false
	}
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" || u.Fragment != "" || !strings.HasPrefix(u.EscapedPath(), "/") || !validHost(u.Host) {
		return nil, false
	}
	if u.Scheme != "https" && (u.Scheme != "http" || auth.CheckEndpoint("http://"+u.Host+"/") != nil) {
		return nil, false
	}
	return u, true
}

// validHost reports whether text is a host, and a port perhaps, as a header field may have it.
func validHost(host string) bool {
	return host != "" && len(host) <= 260 && !strings.ContainsFunc(host, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(".-:[]_", c)
	})
}
