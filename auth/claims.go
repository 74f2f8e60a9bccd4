package auth

import (
	"fmt"
	"strings"
)

// ClaimMapping maps a token's claims to a principal. Each field is a list of JSON pointers (RFC 6901), such as /scope or
// /realm_access/roles. Subject and User take one pointer each, since names of two claims could be mistaken for each other; Client
// comes from the first pointer that resolves; Scopes and Roles are collected from all of them, from arrays of strings and from
// strings of words separated by spaces or commas.
type ClaimMapping struct {
	// Subject is who the caller is at the issuer and owns what it makes. It must be stable: sub, unless an operator knows better.
	Subject Pointers `yaml:"subject"`
	Client  Pointers `yaml:"client"`
	// User is the name that rules compare with parts of a topic. Default: sub. Claims such as preferred_username can often be
	// chosen by their user.
	User   Pointers `yaml:"user"`
	Scopes Pointers `yaml:"scopes"`
	Roles  Pointers `yaml:"roles"`
}

func (m *ClaimMapping) setDefaults() {
	for _, d := range []struct {
		field *Pointers
		def   Pointers
	}{
		{&m.Subject, Pointers{"/sub"}},
		{&m.Client, Pointers{"/client_id", "/azp"}},
		{&m.User, Pointers{"/sub"}},
		{&m.Scopes, Pointers{"/scope", "/scp"}},
		{&m.Roles, Pointers{"/roles", "/realm_access/roles"}},
	} {
		if *d.field == nil {
			*d.field = d.def
		}
	}
}

func (m *ClaimMapping) check() error {
	for _, of := range []struct {
		name string
		list []string
		one  bool
	}{{"subject", m.Subject, true}, {"user", m.User, true}, {"client", m.Client, false}, {"scopes", m.Scopes, false}, {"roles", m.Roles, false}} {
		name := of.name
		if of.one && len(of.list) != 1 {
			return fmt.Errorf("claims.%s: names %d claims; expected one, such as [/sub], because a name from one claim could pass for the same name from another", name, len(of.list))
		}
		for _, p := range of.list {
			if !strings.HasPrefix(p, "/") {
				return fmt.Errorf("claims.%s: %q is not a JSON pointer; expected for example /scope or /realm_access/roles", name, p)
			}
		}
	}
	return nil
}

// Principal returns whom claims name, which the issuer of this name has vouched for: issuer:<issuer>/<subject>. The error is a
// *RefusalError. Numbers in claims should be json.Number.
func (m *ClaimMapping) Principal(method Method, issuer string, claims map[string]any) (*Principal, error) {
	p, err := m.principal(method, issuer, claims)
	if err != nil {
		return nil, err
	}
	return p, p.checkID()
}

func (m *ClaimMapping) principal(method Method, issuer string, c tokenClaims) (*Principal, error) {
	p := &Principal{Method: method, Authority: issuer}
	for _, f := range []struct {
		field    *string
		pointers []string
	}{{&p.Subject, m.Subject}, {&p.Client, m.Client}, {&p.User, m.User}} {
		var err error
		if *f.field, err = m.first(method, c, f.pointers); err != nil {
			return nil, err
		}
	}
	if p.Subject == "" {
		return nil, refuse(method, "%s is missing, which names the caller", m.Subject[0])
	}
	p.ID = identity("issuer:"+issuer, p.Subject)
	p.Scopes = m.words(c, m.Scopes)
	p.Roles = m.words(c, m.Roles)
	return p, nil
}

// Claim resolves a JSON pointer (RFC 6901) through objects; nil if it leads nowhere.
func Claim(claims map[string]any, pointer string) any { return lookup(claims, pointer) }

// first returns the string at the first pointer that resolves.
func (m *ClaimMapping) first(method Method, c tokenClaims, pointers []string) (string, error) {
	for _, p := range pointers {
		switch v := lookup(c, p).(type) {
		case nil:
		case string:
			return v, nil
		default:
			return "", refuse(method, "claim %s is not a string", p)
		}
	}
	return "", nil
}

// words returns the words at all pointers. Values of other types contain none.
func (m *ClaimMapping) words(c tokenClaims, pointers []string) []string {
	var out []string
	for _, p := range pointers {
		switch v := lookup(c, p).(type) {
		case string:
			out = append(out, strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == ',' })...)
		case []any:
			for _, e := range v {
				if s, ok := e.(string); ok && s != "" {
					out = append(out, s)
				}
			}
		}
	}
	return out
}

// lookup resolves a JSON pointer through objects; nil if it leads nowhere.
func lookup(c tokenClaims, pointer string) any {
	var at any = map[string]any(c)
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for _, step := range strings.Split(pointer[1:], "/") {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[unescape.Replace(step)]
	}
	return at
}
