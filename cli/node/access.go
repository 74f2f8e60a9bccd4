package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/auth/ticket"
	"quorumhub/configs"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

const (
	// issuerTimeout limits one request to an issuer.
	issuerTimeout = 10 * time.Second
	// newIssuers is how long new settings wait for the keys of issuers that were not known before.
	newIssuers = 2 * time.Second
)

// accessControl wires the auth room: it identifies callers and decides what they may do. A nil accessControl is for a hub that asks for
// no credentials.
type accessControl struct {
	cfg *configs.Config
	own []string // the node's addresses, which it never calls
	log *slog.Logger

	// Set by wire.
	state   hub.StateReader
	service func() *hub.Service
	node    string
	guard   *auth.Guard
	// sessions keeps who has logged in. It is there even if nobody can.
	sessions *session.Manager
	tickets  *ticket.Verifier // what applications and programs have instead of a cookie
	box      hub.SecretBox
	// routes returns what the gateway's routes ask for, see web.Server.StepsOfRoutes.
	routes    func(provider string) ([]auth.Step, bool)
	processor atomic.Pointer[sequence.Processor]

	settings atomic.Pointer[auth.Settings]
	asked    atomic.Pointer[authorities]
	mu       sync.Mutex      // one change at a time; guards what follows
	client   *egress.Client  // for requests to issuers and the token service; nil without any
	work     context.Context // of start
	unwatch  context.CancelFunc
	running  sync.WaitGroup
}

// authorities are those that are asked about credentials.
type authorities struct {
	issuers  []*issuerKeys
	service  *tokenService // nil: none
	identity []*identityProvider
}

type issuerKeys struct {
	issuer auth.Issuer
	set    *auth.KeySet
	stop   context.CancelFunc // nil: not running
}

type tokenService struct {
	settings auth.TokenService
	remote   *auth.RemoteTokens
	stop     context.CancelFunc
}

func newAccessControl(cfg *configs.Config, s *auth.Settings, own []string, log *slog.Logger) *accessControl {
	a := &accessControl{cfg: cfg, own: own, log: log}
	a.settings.Store(s)
	a.asked.Store(new(authorities))
	return a
}

// open makes those who are asked about credentials.
func (a *accessControl) open() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked, err := a.authoritiesLocked(a.settings.Load())
	a.asked.Store(asked)
	return err
}

// authoritiesLocked returns the authorities of settings; the present ones as far as nothing about them has changed.
func (a *accessControl) authoritiesLocked(s *auth.Settings) (*authorities, error) {
	was, out := a.asked.Load(), new(authorities)
	client := func(timeout time.Duration) (*http.Client, error) {
		c, err := a.clientLocked()
		if err != nil {
			return nil, err
		}
		return c.HTTPClient(timeout), nil
	}
	for _, is := range s.Issuers {
		if i := slices.IndexFunc(was.issuers, func(k *issuerKeys) bool { return reflect.DeepEqual(k.issuer, is) }); i >= 0 {
			out.issuers = append(out.issuers, was.issuers[i])
			continue
		}
		c, err := client(issuerTimeout)
		if err != nil {
			return out, err
		}
		out.issuers = append(out.issuers, &issuerKeys{issuer: is, set: auth.NewKeySet(is, c, a.log, time.Now)})
	}
	switch t := s.TokenService; {
	case t == nil:
	case was.service != nil && reflect.DeepEqual(was.service.settings, *t):
		out.service = was.service
	default:
		c, err := client(0)
		if err != nil {
			return out, err
		}
		out.service = &tokenService{settings: *t, remote: auth.NewRemoteTokens(*t, c, a.log, time.Now)}
	}
	var err error
	out.identity, err = a.identityLocked(s, out)
	return out, err
}

// clientLocked returns what issuers, the token service and identity providers are called with.
func (a *accessControl) clientLocked() (*egress.Client, error) {
	if a.client == nil {
		policy, err := egressPolicy("auth.egress", a.cfg.Auth.Egress, a.own)
		if err != nil {
			return nil, err
		}
		a.client = egress.NewClient(policy, egress.ClientOptions{})
	}
	return a.client, nil
}

// wire returns the guard. service is called only when something is recorded, so it may be set later.
func (a *accessControl) wire(state hub.StateReader, service func() *hub.Service, box hub.SecretBox, reads ticket.Reads, node string) (*auth.Guard, error) {
	a.state, a.service, a.box, a.node = state, service, box, node
	a.sessions = session.NewManager(session.Options{Box: box, State: state, Sessions: func() session.Log { return service() }, Now: time.Now, Log: a.log,
		Limits:   func() auth.SessionSettings { return a.settings.Load().Sessions },
		Standing: session.Standing(a.settings.Load, a, time.Now)})
	a.tickets = &ticket.Verifier{Sealer: ticket.Sealer{Box: box, Now: time.Now}, State: state, Reads: reads, Alive: a.sessions.Alive}
	a.mu.Lock()
	defer a.mu.Unlock()
	s, asked := a.settings.Load(), a.asked.Load()
	gate := a.gate(s, asked)
	a.guard = auth.NewGuard(gate, auth.NewRuleSet(s, state, a.log), auth.Audit(a.cfg.Auth.Audit), node, a.log)
	a.guard.Whole = auth.HubLimits{StoredBytes: int64(a.cfg.Retention.MaxBytes), DeadLetterBytes: int64(a.cfg.Letters.MaxBytes)}
	p, err := a.sequences(s, gate, asked)
	if err != nil {
		return nil, fmt.Errorf("auth.file: %w", err)
	}
	a.processor.Store(p)
	return a.guard, nil
}

// gate returns the authenticators of settings, those of a single request before those of a whole connection.
func (a *accessControl) gate(s *auth.Settings, asked *authorities) *auth.Gate {
	now := time.Now
	var list []auth.Authenticator
	nonces := nonceClaims{a.service}
	if s.SignedRequests != nil {
		list = append(list, auth.NewSignatures(*s.SignedRequests, nonces, now))
	}
	if s.GEOAuth != nil {
		list = append(list, auth.NewGEO(*s.GEOAuth, nonces, now))
	}
	list = append(list, auth.NewAPIKeys(a, now))
	if len(s.Issuers) > 0 {
		list = append(list, auth.NewTokens(s.Issuers, asked.keysOf, now))
	}
	if asked.service != nil {
		list = append(list, asked.service.remote)
	}
	if len(s.IdentityProviders) > 0 {
		list = append(list, a.sessions.Authenticator())
	}
	list = append(list, auth.NewTickets(a.tickets)) // even if nobody can log in any more: what it is must not look like no credentials
	if m := s.ClientCertificates; m != nil {
		list = append(list, auth.NewCertificates(*m, now, func(err error) {
			a.log.Error("cannot read the revocation lists; the last good ones stay in force", "error", err)
		}))
	}
	return auth.NewGate(s, list...)
}

// APIKey implements auth.APIKeyLookup by the settings in force, so that whoever was let in with a key of former ones is asked again.
func (a *accessControl) APIKey(id string) (hub.APIKey, bool) {
	return auth.NewAPIKeyLookup(a.settings.Load().APIKeys, a.state).APIKey(id)
}

// start keeps the issuers' keys up to date until close, and runs watch.
func (a *accessControl) start(ctx context.Context, watch func(context.Context, *auth.Guard)) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.work = ctx
	watching, stop := context.WithCancel(ctx)
	a.unwatch = stop
	a.running.Go(func() { watch(watching, a.guard) })
	a.runLocked(a.asked.Load())
}

// runLocked runs those that do not run yet.
func (a *accessControl) runLocked(asked *authorities) {
	run := func(stop *context.CancelFunc, f func(context.Context)) {
		if *stop == nil {
			var ctx context.Context
			ctx, *stop = context.WithCancel(a.work) //nolint:gosec // replace and close call it
			a.running.Go(func() { f(ctx) })
		}
	}
	for _, k := range asked.issuers {
		run(&k.stop, k.set.Run)
	}
	if asked.service != nil {
		run(&asked.service.stop, asked.service.remote.Run)
	}
	for _, p := range asked.identity {
		if p.remote != nil {
			run(&p.stop, p.remote.Run)
		}
	}
}

// replace puts other settings in force, and stops asking the authorities that they do not name. It waits for the keys of new issuers,
// but not for long.
func (a *accessControl) replace(ctx context.Context, s *auth.Settings, audit auth.Audit) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked, err := a.authoritiesLocked(s)
	if err != nil {
		return err
	}
	a.runLocked(asked)
	ctx, cancel := context.WithTimeout(ctx, newIssuers)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for (slices.ContainsFunc(asked.issuers, func(k *issuerKeys) bool { return k.set.Ready() != nil }) || asked.silent() != nil) && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	gate := a.gate(s, asked)
	sequences, err := a.sequences(s, gate, asked)
	if err != nil {
		return err
	}
	a.settings.Store(s)
	a.processor.Store(sequences)
	a.guard.Replace(gate, auth.NewRuleSet(s, a.state, a.log), audit)
	was := a.asked.Swap(asked)
	for _, k := range was.issuers {
		if !slices.Contains(asked.issuers, k) {
			k.stop()
		}
	}
	for _, p := range was.identity {
		if p.stop != nil && !slices.Contains(asked.identity, p) {
			p.stop()
		}
	}
	if was.service != nil && was.service != asked.service {
		was.service.remote.Retire()
		was.service.stop()
		a.running.Go(was.service.remote.Close)
	}
	return nil
}

// close stops asking. Nothing may be asked any more.
func (a *accessControl) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unwatch != nil {
		a.unwatch()
	}
	asked := a.asked.Load()
	for _, k := range asked.issuers {
		if k.stop != nil {
			k.stop()
		}
	}
	if s := asked.service; s != nil && s.stop != nil {
		s.stop()
	}
	for _, p := range asked.identity {
		if p.stop != nil {
			p.stop()
		}
	}
	a.running.Wait()
	if s := asked.service; s != nil {
		s.remote.Close()
	}
	if a.client != nil {
		a.client.Close()
	}
}

// probes returns a function for each authority that asks it once.
func (a *accessControl) probes() (out []func(context.Context) error) {
	asked := a.asked.Load()
	for _, k := range asked.issuers {
		out = append(out, k.set.Probe)
	}
	if asked.service != nil {
		out = append(out, asked.service.remote.Probe)
	}
	for _, p := range asked.identity {
		if p.remote != nil {
			out = append(out, p.remote.Probe)
		}
	}
	return out
}

// notReady returns a line for each issuer whose tokens cannot be verified.
func (a *accessControl) notReady() (out []string) {
	asked := a.asked.Load()
	for _, k := range asked.issuers {
		if err := k.set.Ready(); err != nil {
			out = append(out, err.Error())
		}
	}
	if asked.service != nil {
		if err := asked.service.remote.Ready(); err != nil {
			out = append(out, err.Error())
		}
	}
	return out
}

// warnings returns problems that do not keep the node from serving.
func (a *accessControl) warnings() []string {
	if a == nil {
		return nil
	}
	asked := a.asked.Load()
	out := asked.silent() // a hub without one of its identity providers serves whoever needs none, or has another
	if s := asked.service; s != nil {
		if w := s.remote.Warning(); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// nonceClaims claims nonces in the replicated log.
type nonceClaims struct{ service func() *hub.Service }

// Claim implements auth.Nonces.
func (n nonceClaims) Claim(ctx context.Context, principal string, nonce [32]byte, until time.Time) (bool, error) {
	return n.service().ClaimNonce(ctx, principal, nonce, until)
}
