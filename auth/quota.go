package auth

import (
	"context"
	"fmt"
	"strings"

	"quorumhub/hub"
)

// Quotas limit what one principal may have. 0: no limit.
type Quotas struct {
	hub.Quotas
	Streams int // open on one node
}

// defaultStreams is how many event streams a principal may have open on one node.
const defaultStreams = 200

// QuotaSetting is an entry of quotas in auth.file. What it leaves out is as by default.
type QuotaSetting struct {
	Topics          *int `yaml:"topics"`
	Subscriptions   *int `yaml:"subscriptions"`
	PendingRequests *int `yaml:"pending_requests"`
	IdempotencyKeys *int `yaml:"idempotency_keys"`
	APIKeys         *int `yaml:"api_keys"`
	NoncesPerMinute *int `yaml:"nonces_per_minute"`
	Streams         *int `yaml:"streams"`
}

// defaultQuotas is the name of the entry for everybody.
const defaultQuotas = "default"

// fields pairs each quota of q with the setting for it.
func (s *QuotaSetting) fields(q *Quotas) []struct {
	name string
	set  *int
	to   *int
} {
	return []struct {
		name string
		set  *int
		to   *int
	}{
		{"topics", s.Topics, &q.Topics}, {"subscriptions", s.Subscriptions, &q.Subscriptions}, {"pending_requests", s.PendingRequests, &q.PendingRequests},
		{"idempotency_keys", s.IdempotencyKeys, &q.IdempotencyKeys}, {"api_keys", s.APIKeys, &q.APIKeys},
		{"nonces_per_minute", s.NoncesPerMinute, &q.NoncesPerMinute}, {"streams", s.Streams, &q.Streams},
	}
}

// checkQuotas checks the quotas: default, principals (with a slash) and roles.
func (s *Settings) checkQuotas() error {
	for name, entry := range s.Quotas {
		if strings.Contains(name, "/") {
			if err := s.checkPrincipal(name); err != nil {
				return err
			}
		} else if name == "" || strings.ContainsAny(name, " \t,") {
			return fmt.Errorf("%q; expected default, a role, or a principal such as issuer:idp/123", clip(name))
		}
		for _, f := range entry.fields(&Quotas{}) {
			if f.set != nil && (*f.set < 0 || *f.set > 1<<30) {
				return fmt.Errorf("%s.%s: %d; expected a number from 0 (no limit) to %d", name, f.name, *f.set, 1<<30)
			}
		}
	}
	return nil
}

// quotasOf returns the quotas of a principal: its own entry's, or else the largest of its roles, or else the default ones.
func (s *Settings) quotasOf(principal string, roles []string) Quotas {
	q := Quotas{hub.DefaultQuotas(), defaultStreams}
	apply := func(name string) {
		if e, ok := s.Quotas[name]; ok {
			for _, f := range e.fields(&q) {
				if f.set != nil {
					*f.to = *f.set
				}
			}
		}
	}
	apply(defaultQuotas)
	granted := map[string]bool{}
	for _, role := range roles {
		e, ok := s.Quotas[role]
		if !ok || role == defaultQuotas || strings.Contains(role, "/") {
			continue
		}
		for _, f := range e.fields(&q) {
			if f.set != nil && (!granted[f.name] || *f.set == 0 || *f.to != 0 && *f.set > *f.to) {
				*f.to, granted[f.name] = *f.set, true
			}
		}
	}
	apply(principal)
	return q
}

// Quotas returns the quotas of a principal. Its roles count if it is the caller of ctx.
func (g *Guard) Quotas(ctx context.Context, principal string) Quotas {
	var roles []string
	if p := CallerOf(ctx).Principal; p.Is(principal) {
		roles = p.Roles
	}
	return g.rules().settings.quotasOf(principal, roles)
}
