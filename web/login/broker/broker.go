// Package broker is the protocol of OpenID Connect: the hub is the identity provider of registered applications (service_providers with
// protocol: oidc), and of terminals (quorumhub login). People log in by the sequence of the application; the application gets a code,
// and tokens for it (OpenID Connect Core 1.0, RFC 6749, RFC 7636, RFC 8628, RFC 9207).
//
// The library zitadel/oidc reads requests and makes tokens. What it would store is sealed in codes and tokens instead (auth/ticket), so
// that any node serves any request; that each is used once, and ends with the session, is for the replicated log to say.
package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"github.com/zitadel/schema"

	"quorumhub/auth"
	"quorumhub/auth/session"
	"quorumhub/auth/ticket"
	"quorumhub/hub"
	"quorumhub/web/login"
	"quorumhub/web/problem"
)

// Name of the protocol.
const Name = auth.ProtocolOIDC

// Paths.
const (
	basePath      = "/oidc"
	authorizePath = basePath + "/authorize"
	devicePath    = "/v1/auth/device"
	terminalPath  = "/login/device"
)

// Reads is the part of the node that tells how far it is behind others. Safe for concurrent use.
type Reads interface {
	ticket.Reads
	// Consistent returns when this node has applied every write acknowledged by any node before the call.
	Consistent(ctx context.Context) error
}

// Sessions are those of the cluster. It is a *session.Manager. Safe for concurrent use.
type Sessions interface {
	// Start begins a session. Terminals need no cookie.
	Start(ctx context.Context, n *session.New) (s *session.Session, cookie string, err error)
	// End ends one of a principal's sessions.
	End(ctx context.Context, principal string, id [32]byte) error
}

// Options configures a Broker. All fields are required.
type Options struct {
	// PublicURL is the hub's public base URL, without a slash at its end.
	PublicURL string
	// Settings are those in force.
	Settings func() *auth.Settings
	Keys     Keys
	Verifier *ticket.Verifier
	// Service returns the hub's.
	Service  func() *hub.Service
	Reads    Reads
	Sessions Sessions
	Logout   *login.Logout
	// Challenges are the WWW-Authenticate values for programs that ask for a page without a session.
	Challenges func() []string
	Now        func() time.Time
}

// Broker implements login.Protocol.
type Broker struct {
	Options
	// Issuer is the iss of its tokens.
	Issuer  string
	base    string // path of PublicURL
	library http.Handler
	decoder *schema.Decoder
	encoder *schema.Encoder
	polls   *hub.Throttle[hub.DeviceID]
	guesses *hub.Throttle[string] // of user codes, by principal
}

// Bounds of what the node remembers about terminals, and of how often somebody may ask.
const (
	maxPolls     = 10_000
	pollInterval = 5 * time.Second
)

// guessRate is how many user codes somebody may try (RFC 8628 section 5.1). Of 20⁸ codes at most hub.MaxDevices are good at a time.
func guessRate() hub.Rate { return hub.Rate{Requests: 10, Per: 10 * time.Minute} }

// New makes a Broker.
func New(o Options) (*Broker, error) {
	public, err := url.Parse(o.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("broker: PublicURL: %w", err)
	}
	b := &Broker{Options: o, Issuer: o.PublicURL + basePath, base: strings.TrimSuffix(public.EscapedPath(), "/"),
		decoder: schema.NewDecoder(), encoder: oidc.NewEncoder(),
		polls: hub.NewThrottle[hub.DeviceID](maxPolls, o.Now()), guesses: hub.NewThrottle[string](maxPolls, o.Now())}
	b.decoder.IgnoreUnknownKeys(true)
	b.library = op.RegisterServer(server{Broker: b}, op.Endpoints{
		Token: op.NewEndpoint("token"), Userinfo: op.NewEndpoint("userinfo"), Revocation: op.NewEndpoint("revoke"),
		Introspection: op.NewEndpoint("introspect"), JwksURI: op.NewEndpoint("jwks"),
	}, op.WithServerCORSOptions(nil), op.WithFallbackLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	return b, nil
}

// Name implements login.Protocol.
func (*Broker) Name() string { return Name }

// Routes implements login.Protocol.
func (b *Broker) Routes() []login.Route {
	get, post := []string{http.MethodGet}, []string{http.MethodPost}
	both := []string{http.MethodGet, http.MethodPost}
	return []login.Route{
		{Path: basePath + oidc.DiscoveryEndpoint, Methods: get, Serve: b.public},
		{Path: basePath + "/jwks", Methods: get, Serve: b.public},
		{Path: authorizePath, Methods: get, Begins: true},
		{Path: basePath + "/token", Methods: post, Frequent: true, Serve: b.tokens},
		{Path: basePath + "/userinfo", Methods: both, Frequent: true, Serve: b.tokens},
		{Path: basePath + "/revoke", Methods: post, Frequent: true, Serve: b.tokens},
		{Path: basePath + "/introspect", Methods: post, Frequent: true, Serve: b.tokens},
		{Path: basePath + "/end_session", Methods: both, Serve: b.endSession},
		{Path: devicePath, Methods: post, Serve: b.requestDevice},
		{Path: terminalPath, Methods: both, Serve: b.terminal},
	}
}

// public serves what everybody may know.
func (b *Broker) public(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	b.library.ServeHTTP(w, b.below(r))
}

// below returns a request as the library expects it: with the path below the issuer's.
func (b *Broker) below(r *http.Request) *http.Request {
	at, below := *r.URL, *r
	_, at.Path, _ = strings.Cut(r.URL.Path, basePath)
	at.RawPath = ""
	below.URL = &at
	return &below
}

// maxRequest bounds the body of a request for tokens.
const maxRequest = 32 << 10

// tokens serves what needs a secret or a token. Each request is taken from the client's budget for refusals before anything is looked at,
// and given back unless it is refused.
func (b *Broker) tokens(w http.ResponseWriter, r *http.Request) {
	peer, h := login.PeerOf(r.Context()), w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if err := peer.Reserve(); err != nil {
		tooMany(w, r, err)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	tried := &attempt{}
	r = b.below(r.WithContext(context.WithValue(r.Context(), attemptKey{}, tried)))
	answer := &challenged{ResponseWriter: w, challenge: `Basic realm="quorumhub"`}
	if strings.HasSuffix(r.URL.Path, "/userinfo") {
		answer.challenge = `Bearer realm="quorumhub", error="invalid_token"`
	}
	if err := plainForm(r); err != nil {
		tried.reason = err
		op.WriteError(answer, r, oidc.ErrInvalidRequest().WithDescription("%s", err.Error()), slog.New(slog.DiscardHandler))
	} else {
		b.library.ServeHTTP(answer, r)
	}
	if tried.reason != nil {
		peer.Refused(r.Context(), tried.reason)
		return
	}
	peer.Return()
}

// tooMany answers a client whose budget is used up in the way that clients of OAuth understand.
func tooMany(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusServiceUnavailable, "try again later"
	if p := login.Told(err); p != nil {
		status, text = p.Status, p.Detail
		if p.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(problem.Seconds(p.RetryAfter)))
		}
	}
	op.WriteError(w, r, op.NewStatusError(&oidc.Error{ErrorType: "temporarily_unavailable", Description: text}, status), slog.New(slog.DiscardHandler))
}

// plainForm reads the parameters of a request, and refuses those in its URL, where they would end up in logs (RFC 6749 section 2.3.1),
// and those given twice (section 3.2).
func plainForm(r *http.Request) error {
	if r.URL.RawQuery != "" {
		return errors.New("has parameters in its URL; expected them in the body, as application/x-www-form-urlencoded")
	}
	if err := r.ParseForm(); err != nil {
		return fmt.Errorf("its body is no form of at most %d bytes", maxRequest)
	}
	return once(r.Form)
}

// once refuses parameters that are given more than once.
func once(form url.Values) error {
	for name, values := range form {
		if len(values) > 1 {
			return fmt.Errorf("%s is given %d times; expected once", problem.Quote(name), len(values))
		}
	}
	return nil
}

// challenged adds to a 401 how to authenticate, which the library leaves out (RFC 6749 section 5.2, RFC 6750 section 3).
type challenged struct {
	http.ResponseWriter
	challenge string
}

// WriteHeader implements http.ResponseWriter.
func (c *challenged) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		c.Header().Set("WWW-Authenticate", c.challenge)
	}
	c.ResponseWriter.WriteHeader(status)
}

// until returns the end of something that lasts for some time, and not beyond a moment.
func (b *Broker) until(time time.Duration, most time.Time) time.Time {
	at := b.Now().Add(time)
	if !most.IsZero() && most.Before(at) {
		return most
	}
	return at
}

// end ends the grant of a ticket; that of a terminal with its session, which has no other use.
func (b *Broker) end(ctx context.Context, t *ticket.Ticket) error {
	if t.Client == ticket.Terminal {
		if err := b.Reads.Consistent(ctx); err != nil {
			return err
		}
		var g hub.Grant
		var ok bool
		b.Verifier.State.View(func(s *hub.State) { g, ok = s.Grant(t.Grant) })
		if ok {
			return b.Sessions.End(ctx, t.Holder.ID, g.Session)
		}
	}
	return b.Service().EndGrants(ctx, t.Grant)
}
