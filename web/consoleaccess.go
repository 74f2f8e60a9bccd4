package web

import (
	"context"
	"net/http"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/console"
	"quorumhub/web/view"
)

// accessPages are the pages about access, and what is done on them. Each is for whom the routes under /v1/auth show and do the same.
func (s *Server) accessPages(page, act func(path string, a access, h http.HandlerFunc) *route) []*route {
	c := s.console
	of := access{reads: auth.ActionAuth, changes: auth.ActionAuth, byCredentials: true}
	own, ownReads := of, of
	own.own, ownReads.ownReads = true, true
	explain := page("/access/explain", access{reads: auth.ActionAuth, changes: auth.ActionAuth}, c.Explain)
	explain.methods[http.MethodPost] = c.Explain
	rules := page("/access/rules", of, c.Rules)
	rules.methods[http.MethodPost] = c.SetRule
	return []*route{
		page("/access", ownReads, c.Keys), rules, explain,
		page("/access/sessions", ownReads, c.Sessions),
		page("/access/principals", access{own: true}, c.Principals),
		act("/access/keys", ownReads, c.CreateKey),
		act("/access/keys/:id/revoke", own, c.RevokeKey),
		act("/access/rules/remove", of, c.RemoveRule),
		act("/access/sessions/:id/end", own, c.EndLogin),
	}
}

// APIKeys implements console.AccessPorts.
func (p consolePorts) APIKeys(ctx context.Context) []hub.APIKey { return p.apiKeys(ctx) }

// CreateAPIKey implements console.AccessPorts.
func (p consolePorts) CreateAPIKey(ctx context.Context, k hub.APIKey, expiresIn string) (hub.APIKey, string, error) {
	k.By = callerName(ctx)
	return p.newAPIKey(ctx, k, expiresIn)
}

// RevokeAPIKey implements console.AccessPorts.
func (p consolePorts) RevokeAPIKey(ctx context.Context, id string, end bool) (int, error) {
	return p.endAPIKey(ctx, id, callerName(ctx), end)
}

// AccessRules implements console.AccessPorts.
func (p consolePorts) AccessRules() []view.AccessRule { return p.accessRules() }

// SetRule implements console.AccessPorts.
func (p consolePorts) SetRule(ctx context.Context, text string) (string, error) {
	rule, err := auth.ParseRule([]byte(text))
	if err != nil {
		return "", hub.ParamErrorf("rule", "%s", err.Error())
	}
	auth.Note(ctx, "rule", rule.Name)
	return rule.Name, p.setRule(ctx, &rule, callerName(ctx))
}

// RemoveRule implements console.AccessPorts.
func (p consolePorts) RemoveRule(ctx context.Context, name string) error {
	auth.Note(ctx, "rule", name)
	return p.removeRule(ctx, name, callerName(ctx))
}

// LoginSessions implements console.AccessPorts.
func (p consolePorts) LoginSessions(ctx context.Context, principal, authenticator string, after hub.SessionID, limit int) ([]hub.Session, hub.SessionID, error) {
	return p.findSessions(ctx, principal, authenticator, after, limit)
}

// EndLogin implements console.AccessPorts.
func (p consolePorts) EndLogin(ctx context.Context, id string) error {
	return p.endOneSession(ctx, id, callerName(ctx))
}

// Usages implements console.AccessPorts.
func (p consolePorts) Usages(ctx context.Context, principal, after string, limit int) ([]view.Usage, string, error) {
	return p.usages(ctx, principal, after, limit)
}

// QuotaEntries implements console.AccessPorts.
func (p consolePorts) QuotaEntries() []auth.QuotaEntry {
	if p.Guard == nil {
		return nil
	}
	return p.Guard.QuotaEntries()
}

// Explain implements console.AccessPorts.
func (p consolePorts) Explain(ctx context.Context, who *auth.Principal, action auth.Action, topic string) (console.Explained, error) {
	if who == nil {
		who = auth.CallerOf(ctx).Principal
	}
	d, err := p.decide(who, action, topic)
	return console.Explained{Allowed: d.Allowed, Principal: who.String(), Reason: d.Reason, Rule: d.Rule, Missing: d.Missing, Topic: d.topic}, err
}
