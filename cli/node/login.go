package node

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"slices"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/oidc"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/login"
	"quorumhub/web/login/broker"
	"quorumhub/web/login/forward"
	"quorumhub/web/login/pages"
)

// routeProvider is the protocol of service providers that are the gateway's routes, see web.Server.StepsOfRoutes.
const routeProvider = pages.Name

// newLogin makes what people log in with. It is nil for a hub that asks for no credentials.
func (n *Node) newLogin() (*login.Handler, error) {
	a := n.access
	if a == nil {
		return nil, nil //nolint:nilnil // nobody can log in
	}
	protocols, err := n.protocols()
	if err != nil {
		return nil, err
	}
	return login.New(login.Options{PublicURL: n.cfg.PublicURL(), Processor: a, Sessions: a.sessions, Protocols: protocols,
		Ready: func() bool { return len(a.settings.Load().IdentityProviders) > 0 },
		Protocol: func(provider string) (string, bool) {
			if sp, ok := a.settings.Load().ServiceProvider(provider); ok {
				return sp.Protocol, true
			}
			_, ok := n.stepsOfRoutes(provider)
			return routeProvider, ok
		}})
}

// protocols lists the ways in which service providers ask who somebody is.
func (n *Node) protocols() ([]login.Protocol, error) {
	a, url := n.access, n.cfg.PublicURL()
	logout := &login.Logout{PublicURL: url, Sessions: a.sessions, EndSession: a.endSession, Box: n.keys.Ring(), Now: time.Now}
	own, err := pages.New(pages.Options{PublicURL: url, Sessions: a.sessions, Challenges: n.guard.Challenges, Logout: logout, BackChannel: a.backChannel,
		Providers: func() []auth.ServiceProvider { return a.providersOf(pages.Name) },
		Extra: func(provider string) bool {
			_, ok := n.stepsOfRoutes(provider)
			return ok
		}})
	if err != nil {
		return nil, err
	}
	proxies := forward.New(forward.Options{PublicURL: url, Processor: a, Sessions: a.sessions, Box: n.keys.Ring(), Claims: nonceClaims{a.service}, Now: time.Now,
		Challenges: n.guard.Challenges, Idle: func() time.Duration { return a.settings.Load().Sessions.Idle },
		Providers: func() []auth.ServiceProvider { return a.providersOf(forward.Name) }})
	applications, err := broker.New(broker.Options{PublicURL: strings.TrimSuffix(url, "/"), Settings: a.settings.Load, Keys: signingKeys{n}, Verifier: a.tickets,
		Service: a.service, Reads: n.raft, Sessions: a.sessions, Logout: logout, Challenges: n.guard.Challenges, Now: time.Now})
	if err != nil {
		return nil, err
	}
	return []login.Protocol{own, proxies, applications}, nil
}

// signingKeys are those of ID tokens. They are the keys of the gateway's tokens, and rotated with the sealing keys.
type signingKeys struct{ *Node }

// TokenKeys implements broker.Keys.
func (k signingKeys) TokenKeys() []*ecdsa.PrivateKey { return k.keys.Ring().TokenKeys() }

// FormerTokenKeys implements broker.Keys.
func (k signingKeys) FormerTokenKeys() (out [][]byte) {
	now := time.Now()
	k.store.View(func(s *hub.State) {
		for _, f := range s.FormerTokenKeys() {
			if f.Until.After(now) {
				out = append(out, f.Public)
			}
		}
	})
	return out
}

// stepsOfRoutes is web.Server.StepsOfRoutes, once there is a server.
func (n *Node) stepsOfRoutes(provider string) ([]auth.Step, bool) {
	if s := n.gateway.server.Load(); s != nil {
		return s.StepsOfRoutes(provider)
	}
	return nil, false
}

// providersOf returns the service providers with a protocol, in the order of the settings.
func (a *accessControl) providersOf(protocol string) []auth.ServiceProvider {
	return slices.DeleteFunc(slices.Clone(a.settings.Load().ServiceProviders), func(sp auth.ServiceProvider) bool { return sp.Protocol != protocol })
}

// sequences makes the processor of settings.
func (a *accessControl) sequences(s *auth.Settings, gate *auth.Gate, asked *authorities) (*sequence.Processor, error) {
	return sequence.New(sequence.Options{Settings: s, Gate: gate, Interactive: asked.interactive(), Extra: a.routes, Box: a.box, Claims: loginClaims{a.service}, Sessions: a.sessions,
		Callback: func(name string) string { return login.CallbackURL(a.cfg.PublicURL(), name) }, Log: a.log})
}

// Process implements login.Processor by the settings in force.
func (a *accessControl) Process(ctx context.Context, q *sequence.Request) *sequence.Result {
	return a.processor.Load().Process(ctx, q)
}

// Explain implements web.Explainer by the settings in force.
func (a *accessControl) Explain(ctx context.Context, q *sequence.Request) *sequence.Result {
	if cookies := q.Credentials.HTTP.CookiesNamed(session.CookieName); len(cookies) == 1 {
		q.Session, _, _ = a.sessions.Open(ctx, cookies[0].Value) // one that is over is none
	}
	return a.processor.Load().Explain(ctx, q)
}

// explainer returns who explains sequences; nil for a hub that asks for no credentials.
func (n *Node) explainer() web.Explainer {
	if n.access == nil {
		return nil
	}
	return n.access
}

// endSession returns where a browser logs out at the identity provider that its session began at; empty: nowhere.
func (a *accessControl) endSession(_ context.Context, s *session.Session, returnTo, state string) string {
	known := a.asked.Load().interactive()
	for i := range s.Passed {
		if p, ok := known[s.Passed[i].Authenticator].(*oidc.Provider); ok {
			if to := p.EndSession(s.IDToken, returnTo, state); to != "" {
				return to
			}
		}
	}
	return ""
}

// backChannel ends the sessions that an identity provider's logout token names.
func (a *accessControl) backChannel(ctx context.Context, name, token string) error {
	p, ok := a.asked.Load().interactive()[name].(*oidc.Provider)
	if !ok {
		return &auth.RefusalError{Method: auth.MethodSession, Reason: fmt.Sprintf("a logout token for %q, which is no identity provider with kind: oidc", name)}
	}
	out, err := p.Logout(ctx, token)
	if err != nil {
		return err
	}
	ended, err := a.sessions.EndPassed(ctx, name, out.Key)
	if err != nil {
		return fmt.Errorf("%w: %w", auth.ErrUnavailable, err)
	}
	a.log.Info("logged out by the identity provider", "identity_provider", name, "subject", out.Subject, "sessions", ended)
	return nil
}

// loginClaims claims the states of logins in the replicated log.
type loginClaims struct{ service func() *hub.Service }

// ClaimLogin implements sequence.Claims.
func (c loginClaims) ClaimLogin(ctx context.Context, state [32]byte, client string, until time.Time) (bool, error) {
	return c.service().ClaimLogin(ctx, state, client, until)
}
