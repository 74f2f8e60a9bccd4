package auth

import (
	"fmt"
	"slices"
	"strings"
)

// source vouches for the names of callers: an issuer, the token service, or all credentials of one method. The hub's own API keys
// are not among them: operators name those.
type source struct {
	method    Method
	authority string
}

func (s source) String() string {
	if s.authority != "" {
		return "issuer " + s.authority
	}
	return "method " + string(s.method)
}

// sources lists who vouches for names.
func (s *Settings) sources() []source {
	var out []source
	for i := range s.Issuers {
		out = append(out, source{MethodToken, s.Issuers[i].Name})
	}
	if s.TokenService != nil {
		out = append(out, source{MethodToken, s.TokenService.Name})
	}
	for i := range s.IdentityProviders {
		name := s.IdentityProviders[i].Name
		namesake := func(is Issuer) bool { return is.Name == name }
		if s.IdentityProviders[i].Kind != KindKey && !slices.ContainsFunc(s.Issuers, namesake) {
			out = append(out, source{MethodSession, name})
		}
	}
	if s.ClientCertificates != nil {
		out = append(out, source{method: MethodCertificate})
	}
	if s.SignedRequests != nil {
		out = append(out, source{method: MethodSignature})
	}
	if s.GEOAuth != nil {
		out = append(out, source{method: MethodGEO})
	}
	return out
}

// pin ties the names in a rule to the source that vouches for them: equal names from two sources are two callers. It returns a
// copy, or an error if a name could be any source's.
func (s *Settings) pin(r Rule) (Rule, error) {
	all := s.sources()
	r.Who = slices.Clone(r.Who)
	for i := range r.Who {
		w := &r.Who[i]
		name, named := w.name()
		if !named || w.Issuer != "" || w.Principal != "" || w.Method == MethodAPIKey {
			continue
		}
		var of []source
		for _, src := range all {
			if w.Method == "" || w.Method == src.method {
				of = append(of, src)
			}
		}
		switch len(of) {
		case 0: // only API keys have names
		case 1:
			w.source = of[0]
		default:
			list := make([]string, len(of))
			for i, src := range of {
				list[i] = src.String()
			}
			return r, fmt.Errorf("%s: who[%d]: %s could be a name from %s; expected one of these beside it", r.Name, i, name, strings.Join(list, ", "))
		}
	}
	return r, nil
}

// name returns the first field that names a caller.
func (w *Who) name() (string, bool) {
	for _, f := range []struct{ name, value string }{{"subject", w.Subject}, {"client", w.Client}, {"user", w.User}} {
		if f.value != "" {
			return f.name + " " + f.value, true
		}
	}
	return "", false
}

// checkLinks checks links and returns whom each ID belongs to.
func (s *Settings) checkLinks() error {
	seen := map[string]string{}
	for name, ids := range s.Links {
		if !validName(name) {
			return fmt.Errorf("name %q; expected at most 64 letters, digits, dots, dashes and underscores", name)
		}
		if len(ids) < 2 {
			return fmt.Errorf("%s: has %d principals; expected two or more that are one", name, len(ids))
		}
		for _, id := range ids {
			if err := s.checkPrincipal(id); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if other, twice := seen[id]; twice {
				return fmt.Errorf("%s: %s is also in %s; expected it once", name, clip(id), other)
			}
			seen[id] = name
		}
	}
	return nil
}

// checkPrincipal checks the form of a principal's ID and, with settings, that its authority is known.
func (s *Settings) checkPrincipal(id string) error {
	const expected = "expected <authority>/<subject>, such as issuer:idp/123, token-service:authmanager/app, key/0123456789ab, cert/a.example.org or signed:rfc9421/meter-1"
	authority, subject, ok := strings.Cut(id, "/")
	kind, name, _ := strings.Cut(authority, ":")
	if !ok || subject == "" || len(id) > MaxIDBytes {
		return fmt.Errorf("principal %q; %s", clip(id), expected)
	}
	switch kind {
	case "key", "cert", "local":
		ok = name == ""
	case "signed":
		ok = name == "rfc9421" || name == "geo-auth"
	case "issuer":
		ok = name != "" && (s == nil || slices.ContainsFunc(s.Issuers, func(is Issuer) bool { return is.Name == name }) || s.hasProvider(name))
	case "token-service":
		ok = name != "" && (s == nil || s.TokenService != nil && s.TokenService.Name == name)
	case "session":
		ok = name != ""
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("principal %q: unknown authority %q; %s", clip(id), clip(authority), expected)
	}
	return nil
}

// hasProvider reports whether an identity provider vouches for principals issuer:<name>/….
func (s *Settings) hasProvider(name string) bool {
	p, ok := s.IdentityProvider(name)
	return ok && p.Kind == KindOIDC
}

// links maps the IDs of linked principals to all IDs of the same one, the first of which stands for it.
type links map[string][]string

func (s *Settings) links() links {
	out := links{}
	for _, ids := range s.Links {
		for _, id := range ids {
			out[id] = ids
		}
	}
	return out
}

// apply returns the principal that p is linked to.
func (l links) apply(p *Principal) *Principal {
	ids := l[p.ID]
	if ids == nil {
		return p
	}
	one := *p
	one.ID, one.aliases = ids[0], ids
	return &one
}
