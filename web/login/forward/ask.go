package forward

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/web/login"
	"quorumhub/web/login/screen"
	"quorumhub/web/problem"
)

// original is the request that a proxy asks about.
type original struct {
	method, host string
	url          *url.URL // absolute, as the client's
}

// originalOf reads it from the headers that a trusted proxy has set. Everything in them may be the client's choice except that it came
// this way.
func originalOf(r *http.Request) (*original, error) {
	if !login.PeerOf(r.Context()).Trusted {
		return nil, &problem.Details{Status: http.StatusForbidden, Code: "forbidden", Detail: "only the proxies in http.trusted_proxies may ask about requests to applications"}
	}
	said := map[string]string{}
	for _, name := range []string{"Method", "Proto", "Host", "Uri"} {
		name = "X-Forwarded-" + name
		values := r.Header[name]
		if len(values) != 1 || values[0] == "" {
			return nil, login.Mistake(name, "is missing or given more than once; expected the proxy to set it (docs/identity.md)")
		}
		said[name] = values[0]
	}
	o := &original{method: said["X-Forwarded-Method"], host: said["X-Forwarded-Host"]}
	if !validHost(o.host) {
		return nil, login.Mistake("X-Forwarded-Host", "is no host")
	}
	uri := said["X-Forwarded-Uri"]
	u, ok := applicationURL(said["X-Forwarded-Proto"] + "://" + o.host + uri)
	if !ok || !strings.HasPrefix(uri, "/") || len(uri) > maxTo {
		if len(uri) <= maxTo {
			return nil, login.Mistake("X-Forwarded-Uri", "makes no URL with X-Forwarded-Proto and X-Forwarded-Host; expected https, or http on this machine, and a path")
		}
		u = &url.URL{Scheme: said["X-Forwarded-Proto"], Host: o.host, Path: "/"} // too long to come back to
	}
	o.url = u
	return o, nil
}

// ask answers a proxy: 200 with who sends the request, or what the client is to be answered with instead. With nginx=1 in the query that
// is 401 where others get 302, with the same Location, because nginx passes on nothing else.
func (p *Protocol) ask(w http.ResponseWriter, r *http.Request) {
	screen.Secure(w.Header())
	o, err := originalOf(r)
	if err != nil {
		login.Fail(w, r, err)
		return
	}
	sp := p.providerOf(o.host)
	if sp == nil {
		login.Fail(w, r, &problem.Details{Status: http.StatusForbidden, Code: "forbidden", Param: "X-Forwarded-Host",
			Detail: "is " + problem.Quote(o.host) + ", which is the host of no service provider with protocol: forward-auth in auth.file"})
		return
	}
	if o.url.Path == exchangePath {
		p.exchange(w, r) // the proxy asks about this path, too, instead of passing it on
		return
	}
	peer := login.PeerOf(r.Context())
	s := p.visitor(r, o.host)
	res := p.Processor.Process(r.Context(), &sequence.Request{Provider: sp.Name, Credentials: o.credentials(peer.Credentials, r), Session: s, Client: peer.Client})
	var refusal *auth.RefusalError
	if res.Status == sequence.Authenticated {
		peer.Return()
	}
	switch {
	case res.Status == sequence.Authenticated && s != nil && res.Principal.ID == s.Principal.ID && o.navigates(r) && p.stale(s):
		p.send(w, r, o) // to keep the session from idling away while only the application is used
	case res.Status == sequence.Authenticated:
		p.admit(w, sp, res)
	case errors.As(res.Err, &refusal) && s == nil:
		peer.Refused(r.Context(), res.Err)
		if err := peer.Reserve(); err != nil {
			login.Fail(w, r, err)
			return
		}
		p.refuse(w, r, res)
	case errors.Is(res.Err, auth.ErrUnavailable):
		login.Fail(w, r, res.Err)
	case o.navigates(r):
		p.send(w, r, o)
	default:
		p.refuse(w, r, res)
	}
}

// credentials are those of the original request, as far as the proxy passes them on: its body is not among them.
func (o *original) credentials(asked *auth.Request, r *http.Request) *auth.Request {
	if asked == nil {
		return nil
	}
	own := *asked
	own.HTTP = r.Clone(r.Context())
	own.HTTP.Method, own.HTTP.URL, own.HTTP.Host = o.method, &url.URL{Path: o.url.Path, RawPath: o.url.RawPath, RawQuery: o.url.RawQuery}, o.host
	own.HTTP.RequestURI = own.HTTP.URL.RequestURI()
	own.HTTP.Header.Del("Cookie") // of another host than the hub's
	own.HTTP.TLS = nil            // the connection is the proxy's
	own.Host, own.Scheme = o.host, o.url.Scheme
	own.Body = func() ([]byte, error) {
		return nil, &auth.RefusalError{Method: auth.MethodSignature, Reason: "covers the body, which a proxy that asks does not pass on"}
	}
	return &own
}

// navigates reports whether a browser is on its way to a page, so that it can be sent to log in first.
func (o *original) navigates(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return (o.method == http.MethodGet || o.method == http.MethodHead) && login.WantsPage(r) && (mode == "" || mode == "navigate")
}

// send has the browser sent to the hub to log in, or to show that it has.
func (p *Protocol) send(w http.ResponseWriter, r *http.Request, o *original) {
	bind := p.bind(w, r)
	w.Header().Set("Location", p.public+startPath+"?"+url.Values{"to": {o.url.String()}, "bind": {bind}}.Encode())
	if r.URL.Query().Get("nginx") == "1" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusFound)
}

// refuse answers for a program without credentials, or with invalid ones.
func (p *Protocol) refuse(w http.ResponseWriter, r *http.Request, res *sequence.Result) {
	challenges := res.Challenges
	if len(challenges) == 0 {
		challenges = p.Challenges()
	}
	(&problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: "the application asks for a login", Challenges: challenges}).
		Write(w, r, login.PeerOf(r.Context()).CorrelationID)
}

// admit tells the proxy who sends the request, by all the headers each time: then no client's copy of one stays.
func (p *Protocol) admit(w http.ResponseWriter, sp *auth.ServiceProvider, res *sequence.Result) {
	who, name := res.Principal, ""
	var amr []string
	if s := res.Session; s != nil {
		name = s.Name
		amr = methods(s)
	}
	values := map[string]string{"id": headerText(who.ID), "name": headerText(name), "roles": headerList(who.Roles), "method": headerText(string(who.Method)),
		"scopes": headerList(who.Scopes), "subject": headerText(who.Subject), "authority": headerText(who.Authority), "user": headerText(who.User), "amr": headerList(amr)}
	h := w.Header()
	for header, claim := range map[string]string{"X-Principal-Id": "id", "X-Principal-Name": "name", "X-Principal-Roles": "roles", "X-Principal-Method": "method",
		"X-Principal-User": "user"} {
		h.Set(header, values[claim])
	}
	for header, claim := range sp.Claims {
		h.Set(header, values[claim])
	}
	w.WriteHeader(http.StatusOK)
}

// methods returns how the steps of a session were passed, each once.
func methods(s *session.Session) (out []string) {
	seen := map[string]bool{}
	for i := range s.Passed {
		for _, m := range s.Passed[i].Method {
			if !seen[m] {
				seen[m] = true
				out = append(out, m)
			}
		}
	}
	return out
}

// headerText makes any text the value of a header field: what is not printable ASCII, and the percent sign, is percent-encoded as in
// URLs, so that no value breaks a line or passes for another.
func headerText(s string) string { return encode(s, "") }

// headerList joins values by commas, which are encoded within them.
func headerList(values []string) string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		out = append(out, encode(v, ","))
	}
	return strings.Join(out, ",")
}

func encode(s, more string) string {
	const hexadecimal = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c >= 0x7f, c == '%', strings.IndexByte(more, c) >= 0, c == ' ' && (i == 0 || i == len(s)-1):
			b.Write([]byte{'%', hexadecimal[c>>4], hexadecimal[c&15]})
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
