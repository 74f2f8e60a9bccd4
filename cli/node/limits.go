package node

import (
	"context"
	"net/url"

	"quorumhub/auth"
	"quorumhub/configs"
	"quorumhub/delivery/intent"
	"quorumhub/hub"
	"quorumhub/web"
)

// requestLimits returns the configured request rates per caller.
func requestLimits(cfg *configs.Config) web.Limits {
	l := &cfg.Limits
	return web.Limits{Publish: hub.Rate(l.Publish), Subscribe: hub.Rate(l.Subscribe), Read: hub.Rate(l.Read), Admin: hub.Rate(l.Admin), Refused: hub.Rate(l.Refused)}
}

func callbackLimits(cfg *configs.Config) intent.Limits {
	return intent.Limits{Rate: hub.Rate(cfg.Limits.CallbackHost), Pending: cfg.Limits.Pending}
}

// callbackBounds limits subscribe requests. It asks the verifier, which knows all pending requests.
type callbackBounds struct{ verifier *intent.Verifier }

// Admit implements hub.CallbackBounds.
func (b callbackBounds) Admit(ctx context.Context, callback *url.URL, known bool) error {
	caller := auth.CallerOf(ctx)
	return b.verifier.Admit(caller.Name(), callback, known)
}

// Accepted implements hub.CallbackBounds.
func (b callbackBounds) Accepted(ctx context.Context, id hub.RequestID) {
	caller := auth.CallerOf(ctx)
	b.verifier.Taken(caller.Name(), id)
}
