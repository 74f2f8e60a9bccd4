package cli

import (
	"quorumhub/configs"
	"quorumhub/hub"
	"quorumhub/web"
)

// requestLimits are the budgets of callers.
func requestLimits(cfg *configs.Config) web.Limits {
	l := &cfg.Limits
	return web.Limits{Publish: hub.Rate(l.Publish), Subscribe: hub.Rate(l.Subscribe), Read: hub.Rate(l.Read), Admin: hub.Rate(l.Admin), Refused: hub.Rate(l.Refused)}
}
