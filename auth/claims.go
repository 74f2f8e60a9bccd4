package auth

import (
	"fmt"
	"strings"
)

// ClaimMapping maps a token's claims to a principal. Each field is a list of JSON pointers (RFC 6901), such as /scope or
// /realm_access/roles. Client and User come from the first pointer that resolves; Scopes and Roles are collected from all of
// them, from arrays of strings and from strings of words separated by spaces or commas.
type ClaimMapping struct {
	Client []string `yaml:"client"`
	User   []string `yaml:"user"`
	Scopes []string `yaml:"scopes"`
	Roles  []string `yaml:"roles"`
}

func (m *ClaimMapping) setDefaults() {
	for _, d := range []struct {
		field *[]string
		def   []string
	}{
		{&m.Client, []string{"/client_id", "/azp"}},
		{&m.User, []string{"/preferred_username", "/sub"}},
		{&m.Scopes, []string{"/scope", "/scp"}},
		{&m.Roles, []string{"/roles", "/realm_access/roles"}},
	} {
		if *d.field == nil {
			*d.field = d.def
		}
	}
}

func (m *ClaimMapping) check() error {
	for name, list := range map[string][]string{"client": m.Client, "user": m.User, "scopes": m.Scopes, "roles": m.Roles} {
		for _, p := range list {
			if !strings.HasPrefix(p, "/") {
				return fmt.Errorf("claims.%s: %q is not a JSON pointer; expected for example /scope or /realm_access/roles", name, p)
			}
		}
	}
	return nil
}

// first returns the string at the first pointer that resolves.
func (m *ClaimMapping) first(c tokenClaims, pointers []string) (string, error) {
	for _, p := range pointers {
		switch v := lookup(c, p).(type) {
		case nil:
		case string:
			return v, nil
		default:
			return "", refuse(MethodToken, "claim %s is not a string", p)
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
