package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/gateway"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/login"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// ServiceOptions say which services the gateway of a Server serves, and how it reaches them.
type ServiceOptions struct {
	Source     gateway.Source
	Transports gateway.Transports
	// Loaded is gateway.Options.Loaded; nil: nobody is told.
	Loaded func(*registry.Registry) []string
	// TokenKeys sign tokens for the services behind; nil: they get none.
	TokenKeys TokenKeys
}

// newGateway makes the gateway if there is to be one.
func (s *Server) newGateway() (err error) {
	if s.Services == nil {
		return nil
	}
	p := gatewayPorts{s}
	var tokens *gateway.TokenOptions
	if s.Services.TokenKeys != nil {
		tokens = &gateway.TokenOptions{Issuer: strings.TrimSuffix(s.PublicURL, "/"), Keys: tokenKeys{s}, Newest: s.newestOf}
	}
	s.gateway, err = gateway.New(gateway.Options{Source: s.Services.Source, Transports: s.Services.Transports, Loaded: s.Services.Loaded,
		Callers: p, Bodies: p, Publisher: p, Nonces: p, Operations: p, Tokens: tokens, Log: s.Log, Registry: s.Registry, Clock: s.Clock.Now})
	return err
}

// StartServices makes the gateway serve, until Close. Serve does so, too.
func (s *Server) StartServices(ctx context.Context) {
	if s.gateway != nil {
		s.services.Do(func() { s.gateway.Start(ctx) })
	}
}

// Serving returns what the gateway serves at present.
func (s *Server) Serving() view.GatewayServing {
	if s.gateway == nil {
		return view.GatewayServing{}
	}
	status := s.gateway.Status()
	out := view.GatewayServing{Hash: status.Hash, Index: status.Index, LoadedAt: status.LoadedAt, Registry: status.Registry, Errors: status.Errors}
	for i := range status.Upstreams {
		u := &status.Upstreams[i]
		one := view.GatewayUpstream{Name: u.Name, Breaker: string(u.Breaker), Addresses: []view.GatewayAddress{}}
		for j := range u.Addresses {
			a := &u.Addresses[j]
			failed := a.Attempts.Unavailable
			for _, n := range a.Attempts.Failed {
				failed += n
			}
			one.Addresses = append(one.Addresses, view.GatewayAddress{URL: a.URL, Healthy: a.Healthy, Ejected: moment(a.EjectedUntil), InFlight: int(a.InFlight),
				Requests: a.Attempts.Answered + failed, Failures: failed})
		}
		out.Upstreams = append(out.Upstreams, one)
	}
	return out
}

// ServicesUsed returns who has called what through the gateway of this node since it started.
func (s *Server) ServicesUsed() (out []view.GatewayUse) {
	if s.gateway == nil {
		return nil
	}
	for _, u := range s.gateway.Usage() {
		out = append(out, view.GatewayUse{Consumer: u.Consumer, Service: u.Service, Version: u.Version, Requests: u.Requests, Failures: u.Failed, LastAt: u.Last})
	}
	return out
}

// serviceRoutes returns the route below which the services of the registry are.
func (s *Server) serviceRoutes() []*route {
	if s.gateway == nil {
		return nil
	}
	s.gatewayRoute = &route{name: "gateway", paths: []string{gateway.DefaultPrefix, gateway.DefaultPrefix + "/*"},
		methods: map[string]http.HandlerFunc{}, every: s.serveGateway, access: access{itself: true}}
	return []*route{s.gatewayRoute}
}

// gatewayServes reports whether a request is for the gateway, whose registry may have another prefix than its route.
func (s *Server) gatewayServes(r *http.Request) bool {
	path := r.URL.EscapedPath()
	return s.gateway != nil && path != tokenKeysPath && s.gateway.Serves(path)
}

// gatewayPorts is what the gateway needs of the server.
type gatewayPorts struct{ *Server }

// Way implements gateway.Callers.
func (p gatewayPorts) Way(name string, steps []registry.Step) (gateway.Way, error) {
	w := &gatewayWay{s: p.Server, name: name}
	switch {
	case name == registry.AuthNone:
		return w, nil
	case p.Guard == nil && name == registry.AuthDefault && steps == nil:
		return w, nil
	case p.Guard == nil:
		return nil, errOpenHub
	}
	var err error
	w.by, err = p.Guard.Demand(name, stepsOf(steps))
	return w, err
}

func stepsOf(steps []registry.Step) (out []auth.Step) {
	for _, s := range steps {
		out = append(out, auth.Step{Strategy: s.Strategy, Of: s.Of, Require: s.Require, Min: s.Min, Principal: auth.PrincipalAny})
	}
	return out
}

var errOpenHub = hub.Errorf(hub.CodeInvalid, "this hub asks for no credentials (auth.mode: open), so only %s and %s can be served", registry.AuthDefault, registry.AuthNone)

// gatewayWay is a gateway.Way. Without by, nobody has to prove anything.
type gatewayWay struct {
	s    *Server
	name string
	by   *auth.Demand
}

// Required implements gateway.Way.
func (g *gatewayWay) Required() bool { return g.by != nil }

// Challenges implements gateway.Way.
func (g *gatewayWay) Challenges() []string {
	if g.by == nil {
		return nil
	}
	return g.by.Challenges()
}

// LogIn implements gateway.Way.
func (g *gatewayWay) LogIn(w http.ResponseWriter, r *http.Request) string {
	if g.by == nil || g.s.Login == nil || !g.by.Acts() || !login.Navigates(r) {
		return ""
	}
	return g.s.Login.Start(routeProvider+g.name, askedOf(w, r).RequestURI())
}

// routeProvider begins the names of service providers that are no application's: what a route of the gateway asks for in its auth.
const routeProvider = "gateway:"

// StepsOfRoutes returns what the gateway's routes ask for whose auth is the rest of a service provider's name, false if there are none.
func (s *Server) StepsOfRoutes(provider string) ([]auth.Step, bool) {
	name, ok := strings.CutPrefix(provider, routeProvider)
	if !ok || s.gateway == nil || s.Guard == nil {
		return nil, false
	}
	reg := s.gateway.Status().Registry
	if reg == nil {
		return nil, false
	}
	for i := range reg.Services {
		for j := range reg.Services[i].Versions {
			if v := &reg.Services[i].Versions[j]; v.Auth == name {
				if steps := reg.Sequences[name]; len(steps) > 0 {
					return stepsOf(steps), true
				}
				return s.Guard.StepsOf(name)
			}
		}
	}
	return nil, false
}

// Authenticate implements gateway.Way.
func (g *gatewayWay) Authenticate(w http.ResponseWriter, r *http.Request, maxBody int64) (*http.Request, gateway.Caller, error) {
	x, _ := w.(*exchange)
	caller := auth.Caller{Principal: auth.Anonymous(), CorrelationID: idOf(x), Address: g.s.addressOf(x, r), Client: x.client}
	if g.by != nil {
		if err := g.s.authenticateBy(x, r, &caller, g.by, maxBody); err != nil {
			return r, gateway.Caller{}, err
		}
	}
	r, out := g.s.calls(x, r, caller)
	return r, out, nil
}

// calls makes somebody the caller of a request to the gateway. What the caller's credentials have to settle is up to the gateway, and
// so is not part of what the context says.
func (s *Server) calls(x *exchange, r *http.Request, caller auth.Caller) (*http.Request, gateway.Caller) {
	p := caller.Principal
	out := gateway.Caller{ID: p.ID, Issuer: p.Authority, Subject: p.Subject, Method: string(p.Method), Anonymous: p.Method == auth.MethodAnonymous,
		Address: x.client.String(), Scheme: "http", Settle: caller.Settle}
	if out.Key = cmp.Or(p.ID, out.Address); !out.Anonymous {
		out.Key = cmp.Or(p.ID, p.String())
	}
	if r.TLS != nil {
		out.Scheme = "https"
		if len(r.TLS.VerifiedChains) > 0 {
			out.Certificate = r.TLS.PeerCertificates[0]
		}
	}
	if p.GEO != nil {
		out.Geo = &gateway.Geo{Username: p.GEO.Username, SourceSystem: p.GEO.SourceSystem, TargetSystem: p.GEO.TargetSystem}
	}
	if s.Guard != nil {
		out.EncryptionKey = s.Guard.EncryptionKey(p)
	}
	caller.Settle, caller.Trail = nil, &x.trail
	x.audited = caller
	x.caller = callerOf(p, x.client)
	return r.WithContext(auth.WithCaller(r.Context(), caller)), out
}

// Sender implements gateway.Callers.
func (p gatewayPorts) Sender(w http.ResponseWriter, r *http.Request, verifier string) (*http.Request, gateway.Caller) {
	x, _ := w.(*exchange)
	caller := auth.CallerOf(r.Context())
	caller.Principal = auth.WebhookSender(verifier)
	return p.calls(x, r, caller)
}

// Allowed implements gateway.Callers.
func (p gatewayPorts) Allowed(ctx context.Context, action, resource string) error {
	if p.Guard == nil {
		return nil
	}
	return p.Guard.Allow(ctx, auth.Action(action), resource)
}

// Holds implements gateway.Callers.
func (p gatewayPorts) Holds(ctx context.Context, action, resource string) bool {
	return p.Guard == nil || p.Guard.Holds(ctx, auth.Action(action), resource)
}

// Problem implements gateway.Callers.
func (p gatewayPorts) Problem(err error) *problem.Details {
	if d := p.accessProblem(err); d != nil {
		return d
	}
	return problem.Of(err)
}

// Hold implements gateway.Bodies. A body that was read for its signature is not read again.
func (p gatewayPorts) Hold(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	x, _ := w.(*exchange)
	if x.signed.bytes != nil {
		return x.signed.bytes, func() {}, nil
	}
	c, err := p.readBody(w, r, limit, hub.Errorf(hub.CodeTooLarge, "the body is larger than %d bytes, which this route accepts", limit))
	return c.bytes, c.release, err
}

// serveGateway serves a request for a service. What is still to come of a body that nobody wants any more is bounded, as elsewhere.
func (s *Server) serveGateway(w http.ResponseWriter, r *http.Request) {
	s.gateway.ServeHTTP(w, r)
	if x, ok := w.(*exchange); ok && x.passing.Load() {
		x.boundUnread()
	}
}

// Stream implements gateway.Bodies. What is passed on as it arrives is not counted: a request holds one buffer of it.
func (p gatewayPorts) Stream(w http.ResponseWriter, _ *http.Request, deadline time.Time) (ended func()) {
	control := http.NewResponseController(w)
	x, _ := w.(*exchange)
	if !deadline.IsZero() {
		x.passing.Store(true)                 // an answer may begin long before the body ends
		_ = control.SetReadDeadline(deadline) // fails without a connection, as in tests
	}
	return func() {
		x.unread.Store(false)
		x.passing.Store(false)
		_ = control.SetReadDeadline(time.Time{})
	}
}

// Take implements gateway.Bodies.
func (p gatewayPorts) Take(w http.ResponseWriter, bytes int64) error {
	return p.budget.take(callerAt(w), bytes)
}

// Give implements gateway.Bodies.
func (p gatewayPorts) Give(w http.ResponseWriter, bytes int64) { p.budget.give(callerAt(w), bytes) }

// MaxBytes implements gateway.Publisher.
func (p gatewayPorts) MaxBytes() int64 { return p.Service.Policy().MaxMessageBytes }

// Publish implements gateway.Publisher.
func (p gatewayPorts) Publish(w http.ResponseWriter, r *http.Request, topic string, pub gateway.Publication) (id string, duplicate bool, err error) {
	start := time.Now()
	name, err := p.Service.Namer().HostedName("topic", topic)
	if err == nil {
		err = p.spend(w, classPublish)
	}
	var receipt hub.Receipt
	if err == nil {
		out := hub.Publication{Topic: name, ContentType: pub.ContentType, Body: pub.Body, IdempotencyKey: pub.IdempotencyKey,
			Authorized: pub.Granted && !hub.Reserved(name)}
		for _, h := range pub.Headers {
			out.Headers = append(out.Headers, hub.Header{Name: h.Name, Value: h.Value, Carried: h.Carried})
		}
		receipt, err = p.Service.Publish(r.Context(), out)
	}
	if err != nil {
		if d := p.Problem(err); d != nil {
			p.metrics.notPublished(d)
		} else {
			p.metrics.notPublished(problem.Internal(idOf(w)))
		}
		return "", false, err
	}
	p.metrics.published(int64(len(pub.Body)), receipt.Duplicate, start)
	return receipt.MessageID(), receipt.Duplicate, nil
}

// Claim implements gateway.Nonces.
func (p gatewayPorts) Claim(ctx context.Context, scope string, nonce [32]byte, until time.Time) (bool, error) {
	return p.Service.ClaimNonce(ctx, scope, nonce, until)
}

// operation is one of the hub that a registry may offer: a request to the API.
type operation struct {
	path   string // at the API; what follows the service's URI is added if it ends in a slash
	method string
	serve  func(*Server) http.HandlerFunc
	access access
}

func (s *Server) operations() map[string]operation {
	return map[string]operation{
		"topics":        {"/v1/topics", http.MethodGet, func(s *Server) http.HandlerFunc { return s.listTopics }, access{}},
		"subscriptions": {"/v1/subscriptions", http.MethodGet, func(s *Server) http.HandlerFunc { return s.listSubscriptions }, access{own: true}},
		"publish":       {"/topics/", http.MethodPost, func(s *Server) http.HandlerFunc { return s.postTopic }, access{byTopic: true}},
		"health":        {"/health", http.MethodGet, func(*Server) http.HandlerFunc { return getHealth }, access{public: true}},
	}
}

// gatewayOperations lists the operations of the hub that a registry may offer.
func gatewayOperations() []string { return []string{"health", "publish", "subscriptions", "topics"} }

// CheckOperation returns nil if a registry may offer the operation of the hub, and else an error that lists those it may.
func CheckOperation(name string) error {
	if slices.Contains(gatewayOperations(), name) {
		return nil
	}
	return hub.Errorf(hub.CodeInvalid, "the hub has no operation %s; expected one of %s", problem.Quote(name), strings.Join(gatewayOperations(), ", "))
}

// Operation implements gateway.Operations. The caller needs the same permission as at the API.
func (p gatewayPorts) Operation(name string) (func(outer, w http.ResponseWriter, r *http.Request, rest string), bool) {
	op, ok := p.operations()[name]
	if !ok {
		return nil, false
	}
	return func(outer, w http.ResponseWriter, r *http.Request, rest string) {
		x, _ := outer.(*exchange)
		inner := &exchange{ResponseWriter: w, route: x.route, client: x.client, caller: x.caller, reads: x.reads}
		inner.unread.Store(x.unread.Load())
		at := op.path
		if strings.HasSuffix(at, "/") {
			at += strings.TrimPrefix(rest, "/")
		}
		u := &url.URL{RawQuery: r.URL.RawQuery}
		var err error
		if u.Path, err = url.PathUnescape(at); err != nil {
			p.fail(inner, r, hub.ParamErrorf("path", "has a %% without two hexadecimal digits"))
			return
		}
		u.RawPath = at
		to := r.Clone(r.Context())
		to.URL, to.Method = u, op.method
		if to, err = p.permit(inner, to, op); err != nil {
			p.fail(inner, to, err)
			return
		}
		op.serve(p.Server)(inner, to)
		x.unread.Store(inner.unread.Load())
	}, true
}

// permit checks that the caller of an operation may have it, as admit does for the API.
func (p gatewayPorts) permit(x *exchange, r *http.Request, op operation) (*http.Request, error) {
	if op.method == http.MethodGet {
		if err := p.spend(x, classRead); err != nil {
			return r, err
		}
	}
	caller := auth.CallerOf(r.Context())
	switch {
	case p.Guard == nil, op.access.public, op.access.byTopic:
		return r, nil
	case op.access.own && !p.Guard.May(caller.Principal, auth.ActionView):
		return r, p.Guard.AllowOwn(r.Context(), auth.ActionView)
	}
	if err := p.Guard.Allow(r.Context(), auth.ActionView, ""); err != nil {
		return r, err
	}
	caller.Operator = true
	return r.WithContext(auth.WithCaller(r.Context(), caller)), nil
}
