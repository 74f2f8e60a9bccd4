package forward

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/web/login"
)

// Cookies on the application's host.
const (
	// visitorCookie names the session.
	visitorCookie = session.CookieName + "-app"
	// bindCookie names the browser, so that a ticket is worth nothing in another.
	bindCookie = session.CookieName + "-bind"
)

const (
	// ticketTime is how long a ticket can be exchanged.
	ticketTime = time.Minute
	// maxTo bounds the URL that somebody comes back to.
	maxTo = 1024
	// freshShare is the share of the idle time after which a visit of the application is shown to the hub.
	freshShare = 3
)

// visit is what tickets and cookies of the application's host say, sealed for that host alone.
type visit struct {
	Session [32]byte `json:"s"`
	// Seen is when the hub last saw the browser, in Unix seconds.
	Seen      int64    `json:"t"`
	ID        string   `json:"i"`
	Authority string   `json:"a,omitempty"`
	Subject   string   `json:"b,omitempty"`
	User      string   `json:"u,omitempty"`
	Client    string   `json:"c,omitempty"`
	Roles     []string `json:"r,omitempty"`
	Scopes    []string `json:"o,omitempty"`
	Name      string   `json:"n,omitempty"`

	// Of tickets only: Bind names the browser, Path is where it was going, Expires when the ticket ends, in Unix seconds.
	Bind    string `json:"d,omitempty"`
	Path    string `json:"p,omitempty"`
	Expires int64  `json:"e,omitempty"`
}

func ticketBinding(host string) string { return "forward-auth ticket\x00" + canonicalHost(host) }
func visitBinding(host string) string  { return "forward-auth session\x00" + canonicalHost(host) }

// sealTicket makes the ticket for a browser that goes to u.
func (p *Protocol) sealTicket(u *url.URL, bind string, s *session.Session) (string, error) {
	who, now := s.Principal, p.Now()
	v := &visit{Session: s.ID, Seen: now.Unix(), ID: who.ID, Authority: who.Authority, Subject: who.Subject, User: who.User, Client: who.Client, Roles: who.Roles,
		Scopes: who.Scopes, Name: s.Name, Bind: bind, Path: u.RequestURI(), Expires: now.Add(ticketTime).Unix()}
	return p.seal(v, ticketBinding(u.Host))
}

// maxVisit is what fits into a cookie with its name.
const maxVisit = 3800

// seal seals a visit. If it is too long, it loses scopes, then roles, then the name: whoever needs them sees that they are missing.
func (p *Protocol) seal(v *visit, binding string) (string, error) {
	short := *v
	for _, less := range []func(){func() {}, func() { short.Scopes = nil }, func() { short.Roles = nil }, func() { short.Name = "" }} {
		less()
		plain, err := json.Marshal(&short)
		if err != nil {
			return "", fmt.Errorf("encode a visit: %w", err)
		}
		sealed, err := p.Box.Seal(plain, binding)
		if err != nil {
			return "", fmt.Errorf("seal a visit: %w", err)
		}
		if text := base64.RawURLEncoding.EncodeToString(sealed); len(text) <= maxVisit {
			return text, nil
		}
	}
	return "", &auth.RefusalError{Method: auth.MethodSession, Reason: "the principal's ID does not fit into a cookie"}
}

func (p *Protocol) open(text, binding string) (v visit, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return v, false
	}
	plain, err := p.Box.Open(sealed, binding)
	return v, err == nil && json.Unmarshal(plain, &v) == nil
}

// visitor returns the session of the browser that visits an application's host, nil if it has none there.
func (p *Protocol) visitor(r *http.Request, host string) *session.Session {
	got := r.CookiesNamed(visitorCookie)
	if len(got) != 1 {
		return nil
	}
	v, ok := p.open(got[0].Value, visitBinding(host))
	if !ok {
		return nil
	}
	seen := time.Unix(v.Seen, 0)
	if p.Now().Sub(seen) >= p.Idle() {
		return nil
	}
	s, ok := p.Sessions.Find(r.Context(), v.Session)
	if !ok || s.Principal.ID != v.ID || !p.Now().Before(s.Ends) {
		return nil
	}
	out := *s
	out.Seen, out.Name = seen, v.Name
	out.Principal = &auth.Principal{Method: auth.MethodSession, ID: v.ID, Authority: v.Authority, Subject: v.Subject, User: v.User, Client: v.Client,
		Roles: v.Roles, Scopes: v.Scopes, Until: s.Ends}
	return &out
}

// stale reports whether it is time to show the hub that a session is used.
func (p *Protocol) stale(s *session.Session) bool { return p.Now().Sub(s.Seen) > p.Idle()/freshShare }

// bind returns the digest of the browser's name on this host, and gives it a name if it has none.
func (p *Protocol) bind(w http.ResponseWriter, r *http.Request) string {
	if got := r.CookiesNamed(bindCookie); len(got) == 1 && validDigest(got[0].Value) {
		return digest(got[0].Value)
	}
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	name := base64.RawURLEncoding.EncodeToString(raw[:])
	c := session.Cookie(name) //nolint:gosec // it has the attributes
	c.Name = bindCookie
	http.SetCookie(w, c)
	return digest(name)
}

func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// validDigest reports whether text could be a digest or a browser's name: 256 bits in base64.
func validDigest(text string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && len(raw) == sha256.Size
}

// exchange takes a ticket, on the application's host, and gives the browser the cookie there.
func (p *Protocol) exchange(w http.ResponseWriter, r *http.Request) {
	peer := login.PeerOf(r.Context())
	host, query := r.Host, r.URL.RawQuery
	if o, err := originalOf(r); err == nil {
		host, query = o.host, o.url.RawQuery
	}
	if err := peer.Reserve(); err != nil {
		login.Fail(w, r, err)
		return
	}
	v, err := p.redeem(r, host, query)
	var cookie string
	if err == nil {
		path := v.Path
		v.Bind, v.Path, v.Expires = "", "", 0
		cookie, err = p.seal(&v, visitBinding(host))
		v.Path = path
	}
	if err != nil {
		peer.Refused(r.Context(), err)
		login.Stop(w, r, err, "/") // of the application
		return
	}
	peer.Return()
	c := session.Cookie(cookie) //nolint:gosec // it has the attributes
	c.Name = visitorCookie
	http.SetCookie(w, c)
	login.Redirect(w, r, v.Path)
}

// redeem checks a ticket and uses it up.
func (p *Protocol) redeem(r *http.Request, host, rawQuery string) (v visit, err error) {
	broken := func(why string) (visit, error) {
		return v, fmt.Errorf("%w: ticket for %s: %s", sequence.ErrContext, host, why)
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil || len(query["ticket"]) != 1 {
		return broken("there is none")
	}
	v, ok := p.open(query.Get("ticket"), ticketBinding(host))
	switch got := r.CookiesNamed(bindCookie); {
	case !ok:
		return broken("it was not sealed by this hub for this host")
	case p.Now().Unix() >= v.Expires:
		return broken("it has expired")
	case len(got) != 1 || subtle.ConstantTimeCompare([]byte(digest(got[0].Value)), []byte(v.Bind)) != 1:
		return broken("it is another browser's")
	case p.providerOf(host) == nil:
		return broken("no application has this host any more")
	}
	fresh, err := p.Claims.Claim(r.Context(), v.ID, sha256.Sum256([]byte("forward-auth\x00"+query.Get("ticket"))), time.Unix(v.Expires, 0))
	if err != nil {
		return v, fmt.Errorf("%w: use up a ticket: %w", auth.ErrUnavailable, err)
	}
	if !fresh {
		return broken("it was used before")
	}
	// After the claim: once this node has applied that, it knows the session, too, which began before on whatever node.
	if _, ok := p.Sessions.Find(r.Context(), v.Session); !ok {
		return broken("its session has ended")
	}
	if !strings.HasPrefix(v.Path, "/") || strings.HasPrefix(v.Path, "//") {
		v.Path = "/"
	}
	return v, nil
}

// destination is where a browser goes after it has logged in.
type destination struct{ to, bind string }

func (d *destination) text() string { return d.bind + " " + d.to }

func parseDestination(text string) (destination, bool) {
	bind, to, ok := strings.Cut(text, " ")
	return destination{to, bind}, ok
}
