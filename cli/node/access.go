package node

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"quorumhub/auth"
	"quorumhub/configs"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// accessControl wires the auth room: it identifies callers and decides what they may do.
type accessControl struct {
	settings *auth.Settings
	client   *egress.Client // for requests to issuers and the token service; nil without any
	sources  []*auth.KeySet
	remote   *auth.RemoteTokens // nil without a token service
	guard    *auth.Guard        // see wire

	stop    context.CancelFunc
	running sync.WaitGroup
}

// issuerTimeout limits one request to an issuer.
const issuerTimeout = 10 * time.Second

// openAccess reads auth.file. It returns nil if auth.mode requires no credentials. own are the node's addresses, which it never calls.
func openAccess(cfg *configs.Config, own []string) (*accessControl, error) {
	if cfg.Auth.Mode != "required" {
		return nil, nil //nolint:nilnil // nil means no access control
	}
	settings, err := auth.LoadSettings(cfg.Auth.File)
	if err != nil {
		return nil, err
	}
	a := &accessControl{settings: settings}
	if len(settings.Issuers) > 0 || settings.TokenService != nil {
		policy, err := egressPolicy("auth.egress", cfg.Auth.Egress, own)
		if err != nil {
			return nil, err
		}
		a.client = egress.NewClient(policy, egress.ClientOptions{})
	}
	return a, nil
}

// wire returns the guard. service is called only when a nonce is claimed, so it may be set later.
func (a *accessControl) wire(cfg *configs.Config, state hub.StateReader, service func() *hub.Service, node string, log *slog.Logger) *auth.Guard {
	now := time.Now
	var list []auth.Authenticator
	nonces := nonceClaims{service}
	if s := a.settings.SignedRequests; s != nil {
		list = append(list, auth.NewSignatures(*s, nonces, now))
	}
	if g := a.settings.GEOAuth; g != nil {
		list = append(list, auth.NewGEO(*g, nonces, now))
	}
	list = append(list, auth.NewAPIKeys(auth.NewAPIKeyLookup(a.settings.APIKeys, state), now))
	if len(a.settings.Issuers) > 0 {
		client := a.client.HTTPClient(issuerTimeout)
		list = append(list, auth.NewTokens(a.settings.Issuers, func(is auth.Issuer) *auth.KeySet {
			source := auth.NewKeySet(is, client, log, now)
			a.sources = append(a.sources, source)
			return source
		}, now))
	}
	if s := a.settings.TokenService; s != nil {
		a.remote = auth.NewRemoteTokens(*s, a.client.HTTPClient(0), log, now)
		list = append(list, a.remote)
	}
	if m := a.settings.ClientCertificates; m != nil {
		list = append(list, auth.NewCertificates(*m, now, func(err error) {
			log.Error("cannot read the revocation lists; the last good ones stay in force", "error", err)
		}))
	}
	guard := auth.NewGuard(auth.NewGate(a.settings, list...), auth.NewRuleSet(a.settings, state, log), auth.Audit(cfg.Auth.Audit), node, log)
	guard.Whole = auth.HubLimits{StoredBytes: int64(cfg.Retention.MaxBytes), DeadLetterBytes: int64(cfg.Letters.MaxBytes)}
	a.guard = guard
	return guard
}

// start keeps the issuers' keys up to date until close, and runs watch.
func (a *accessControl) start(ctx context.Context, watch func(context.Context, *auth.Guard)) {
	if a == nil {
		return
	}
	ctx, a.stop = context.WithCancel(ctx)
	a.running.Go(func() { watch(ctx, a.guard) })
	for _, s := range a.sources {
		a.running.Go(func() { s.Run(ctx) })
	}
	if a.remote != nil {
		a.running.Go(func() { a.remote.Run(ctx) })
	}
}

func (a *accessControl) close() {
	if a == nil || a.stop == nil {
		return
	}
	a.stop()
	a.running.Wait()
	if a.client != nil {
		a.client.Close()
	}
}

// notReady returns a line for each issuer whose tokens cannot be verified.
func (a *accessControl) notReady() []string {
	if a == nil {
		return nil
	}
	var out []string
	for _, s := range a.sources {
		if err := s.Ready(); err != nil {
			out = append(out, err.Error())
		}
	}
	if a.remote != nil {
		if err := a.remote.Ready(); err != nil {
			out = append(out, err.Error())
		}
	}
	return out
}

// warnings returns problems that do not keep the node from serving.
func (a *accessControl) warnings() []string {
	if a == nil || a.remote == nil {
		return nil
	}
	if w := a.remote.Warning(); w != "" {
		return []string{w}
	}
	return nil
}

// nonceClaims claims nonces in the replicated log.
type nonceClaims struct{ service func() *hub.Service }

// Claim implements auth.Nonces.
func (n nonceClaims) Claim(ctx context.Context, principal string, nonce [32]byte, until time.Time) (bool, error) {
	return n.service().ClaimNonce(ctx, principal, nonce, until)
}

// serverTLS returns the settings for HTTPS, or nil if the configuration is for plain HTTP.
func serverTLS(cfg *configs.Config, log *slog.Logger) (*tls.Config, error) {
	files := cfg.HTTP.TLS
	if files.Cert == "" {
		return nil, nil //nolint:nilnil // nil means plain HTTP
	}
	t := &auth.ServerTLS{Cert: files.Cert, Key: files.Key, ClientCA: files.ClientCA, Failed: func(err error) {
		log.Error("cannot load renewed TLS files; still using the previous ones", "error", err)
	}}
	return t.Config()
}
