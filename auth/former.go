package auth

import (
	"strings"

	"quorumhub/hub"
)

// MayStill reports whether the rules may allow the owner of something an action on a topic. Of the owner only the ID is known, and of
// an API key, if it is one, its scopes and roles; what is unknown, such as the roles in a token, counts as sufficient. So a no is
// certain.
func (g *Guard) MayStill(owner string, key *hub.APIKey, a Action, topic string) bool {
	p, unknown := former(owner, key)
	p.aliases = g.gate().links[owner]
	rules := g.rules().Rules()
	for i := range rules {
		r := &rules[i]
		if !r.covers(a) {
			continue
		}
		for _, bound := range r.matches(a, topic, owner) {
			if len(r.Who) == 0 {
				return true
			}
			for j := range r.Who {
				if r.Who[j].may(p, bound, unknown) {
					return true
				}
			}
		}
	}
	return false
}

// former returns what is known of an owner, and the parts of a Who that are not.
func former(owner string, key *hub.APIKey) (p *Principal, unknown string) {
	authority, subject, _ := strings.Cut(owner, "/")
	kind, name, _ := strings.Cut(authority, ":")
	p = &Principal{ID: owner, Subject: subject, Authority: name}
	switch kind {
	case "key":
		p.Method = MethodAPIKey
		if key == nil {
			return p, "subject user scope role"
		}
		p.Subject, p.User, p.Scopes, p.Roles = key.Name, key.Name, key.Scopes, key.Roles
		return p, ""
	case "local":
		p.Method = MethodSession
		return p, "issuer subject client user scope role"
	case "cert":
		p.Method, p.User = MethodCertificate, subject
		return p, "role"
	case "signed":
		p.Authority, p.Method = "", MethodSignature
		if name == "geo-auth" {
			p.Method = MethodGEO
		}
		return p, "subject client user scope role"
	}
	p.Method = MethodToken
	return p, "client user scope role"
}

// may is missing without the parts that are unknown.
func (w *Who) may(p *Principal, bound map[string]string, unknown string) bool {
	if w.Anonymous {
		return true
	}
	for _, part := range w.parts() {
		want, whole := expand(part.want, bound)
		if part.name == "method" && want == string(MethodSession) {
			continue // anybody may have logged in
		}
		if strings.Contains(" "+unknown+" ", " "+part.name+" ") {
			continue
		}
		if !whole || !part.has(p, want) {
			return false
		}
	}
	return true
}
