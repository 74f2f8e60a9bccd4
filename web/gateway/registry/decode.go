package registry

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"quorumhub/configs/quantity"
)

const (
	defaultTimeout = 10 * time.Second
	defaultMaxBody = 1 << 20
	defaultPrefix  = "/gateway"
	defaultOpenFor = 10 * time.Second

	defaultEject    = 3
	defaultEjectFor = 5 * time.Second
	defaultEjectMax = 5 * time.Minute
	defaultTTL      = time.Minute
)

// decoder makes a Registry of a tree. It overlooks what is not of the right shape, which walk reports.
type decoder struct {
	known func(name string) (string, bool)
}

// pairs calls do with each key and value of a mapping.
func pairs(n *yaml.Node, do func(key string, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if v := n.Content[i+1]; !null(v) {
			do(n.Content[i].Value, v)
		}
	}
}

func items(n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

func text(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

func texts[T ~string](n *yaml.Node) []T {
	var out []T
	for _, item := range items(n) {
		out = append(out, T(text(item)))
	}
	return out
}

func number(n *yaml.Node) int {
	i, err := strconv.Atoi(text(n))
	if err != nil {
		return 0
	}
	return i
}

func truth(n *yaml.Node) bool { return text(n) == "true" }

func duration(n *yaml.Node) time.Duration {
	d, err := quantity.ParseDuration(text(n))
	if err != nil {
		return 0
	}
	return d
}

func size(n *yaml.Node) int64 {
	b, err := quantity.ParseBytes(text(n))
	if err != nil {
		return 0
	}
	return b
}

func date(n *yaml.Node) time.Time {
	t, err := parseDate(text(n))
	if err != nil {
		return time.Time{}
	}
	return t
}

// value returns a text with its references replaced, or as it is written if one has no value.
func (d *decoder) value(n *yaml.Node) string {
	s, complete := text(n), true
	out, err := expand(s, func(name string) string {
		value, ok := d.known(name)
		complete = complete && ok
		return value
	})
	if err != nil || !complete {
		return s
	}
	return out
}

func (d *decoder) headers(n *yaml.Node) map[string]string {
	out := map[string]string{}
	pairs(n, func(k string, v *yaml.Node) { out[k] = d.value(v) })
	return out
}

func (d *decoder) registry(root *yaml.Node) *Registry {
	r := &Registry{Prefix: defaultPrefix, Upstreams: map[string]Upstream{}, Verifiers: map[string]Verifier{}, Sequences: map[string][]Step{},
		Trust: map[string]Trust{}, Keys: map[string]Key{}}
	if n := valueOf(root, "defaults"); n != nil {
		r.Defaults = d.defaults(n)
	}
	r.Defaults.fill()
	pairs(root, func(k string, v *yaml.Node) {
		switch k {
		case "version":
			r.Version = number(v)
		case "prefix":
			r.Prefix = text(v)
		case "upstreams":
			pairs(v, func(name string, v *yaml.Node) { r.Upstreams[name] = d.upstream(name, v) })
		case "verifiers":
			pairs(v, func(name string, v *yaml.Node) { r.Verifiers[name] = d.verifier(name, v) })
		case "sequences":
			pairs(v, func(name string, v *yaml.Node) {
				for _, item := range items(v) {
					r.Sequences[name] = append(r.Sequences[name], d.step(item))
				}
			})
		case "keys":
			pairs(v, func(name string, v *yaml.Node) {
				key := Key{Name: name}
				if n := valueOf(v, "private"); n != nil {
					key.Private = d.value(n)
				}
				r.Keys[name] = key
			})
		case "trust":
			pairs(v, func(name string, _ *yaml.Node) { r.Trust[name] = Trust{Name: name} }) // the checker adds the files
		case "services":
			r.Services = make([]Service, 0, len(items(v)))
			for _, item := range items(v) {
				r.Services = append(r.Services, d.service(item, &r.Defaults))
			}
		case "topics":
			for _, item := range items(v) {
				r.Topics = append(r.Topics, d.topic(item))
			}
		}
	})
	return r
}

func (d *decoder) defaults(n *yaml.Node) (out Defaults) {
	pairs(n, func(k string, v *yaml.Node) {
		switch k {
		case "timeout":
			out.Timeout = duration(v)
		case "max_body":
			out.MaxBody = size(v)
		case "produces":
			out.Produces = texts[Format](v)
		case "auth":
			out.Auth = text(v)
		}
	})
	return out
}

func (d *decoder) upstream(name string, n *yaml.Node) Upstream {
	u := Upstream{Name: name, Eject: Eject{Failures: defaultEject, For: defaultEjectFor, Max: defaultEjectMax}}
	pairs(n, func(k string, v *yaml.Node) {
		switch k {
		case "urls":
			for _, item := range items(v) {
				u.URLs = append(u.URLs, strings.TrimRight(d.value(item), "/"))
			}
		case "retry":
			u.Retry = number(v)
		case "breaker":
			u.Breaker.OpenFor = defaultOpenFor
			pairs(v, func(k string, v *yaml.Node) {
				switch k {
				case "failures":
					u.Breaker.Failures = number(v)
				case "open_for":
					u.Breaker.OpenFor = duration(v)
				}
			})
		case "headers":
			u.Headers = d.headers(v)
		case "timeout":
			u.Timeout = duration(v)
		case "connect_timeout":
			u.ConnectTimeout = duration(v)
		case "idle_timeout":
			u.IdleTimeout = duration(v)
		case "max_in_flight":
			u.MaxInFlight = number(v)
		case "eject":
			pairs(v, func(k string, v *yaml.Node) {
				switch k {
				case "failures":
					u.Eject.Failures = number(v)
				case "for":
					u.Eject.For = duration(v)
				case "max":
					u.Eject.Max = duration(v)
				}
			})
		case "token":
			u.Token = d.token(v)
		}
	})
	return u
}

func (d *decoder) token(n *yaml.Node) *Token {
	t := &Token{TTL: defaultTTL}
	pairs(n, func(k string, v *yaml.Node) {
		switch k {
		case "audience":
			t.Audience = d.value(v)
		case "ttl":
			t.TTL = duration(v)
		case "claims":
			t.Claims = map[string]any{}
			pairs(v, func(k string, v *yaml.Node) { t.Claims[k] = anything(v, 0) })
		case "accounts":
			t.Accounts = d.value(v)
		}
	})
	return t
}

// anything returns a value as JSON would have it.
func anything(n *yaml.Node, depth int) any {
	if depth > maxDepth {
		return nil
	}
	switch n.Kind { //nolint:exhaustive // the rest are scalars
	case yaml.SequenceNode:
		out := []any{}
		for _, item := range n.Content {
			out = append(out, anything(item, depth+1))
		}
		return out
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			out[n.Content[i].Value] = anything(n.Content[i+1], depth+1)
		}
		return out
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return n.Value == "true" || n.Value == "True" || n.Value == "TRUE"
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value)
		}
	}
	return n.Value
}

func (d *decoder) verifier(name string, n *yaml.Node) Verifier {
	r := Verifier{Name: name}
	pairs(n, func(k string, v *yaml.Node) {
		switch k {
		case "scheme":
			r.Scheme = text(v)
		case "secret":
			r.Secrets = append([]string{d.value(v)}, r.Secrets...)
		case "secrets":
			for _, item := range items(v) {
				r.Secrets = append(r.Secrets, d.value(item))
			}
		case "tolerance":
			r.Tolerance = duration(v)
		case "header":
			r.Header = text(v)
		case "algorithm":
			r.Algorithm = text(v)
		case "encoding":
			r.Encoding = text(v)
		case "prefix":
			r.Prefix = text(v)
		case "timestamp_header":
			r.TimestampHeader = text(v)
		case "timestamp_format":
			r.TimestampFormat = text(v)
		case "event_header":
			r.EventHeader = text(v)
		case "signed":
			r.Signed = text(v)
		case "id_header":
			r.IDHeader = text(v)
		}
	})
	return r
}

func (d *decoder) step(n *yaml.Node) Step {
	s := Step{Strategy: "single"}
	pairs(n, func(k string, v *yaml.Node) {
		switch k {
		case "strategy":
			s.Strategy = text(v)
		case "of":
			s.Of = texts[string](v)
		case "require":
			s.Require = text(v)
		case "min":
			s.Min = number(v)
		case "retries":
			s.Retries = number(v)
		}
	})
	if s.Strategy == "parallel" && s.Require == "" && s.Min == 0 {
		s.Require = "all"
	}
	return s
}

func (d *decoder) service(n *yaml.Node, defaults *Defaults) Service {
	s := Service{Position: positionOf(n)}
	pairs(n, func(k string, v *yaml.Node) {
		switch k {
		case "name":
			s.Name = text(v)
		case "uri":
			s.URI, s.Wildcard = cutWildcard(text(v))
		case "aliases":
			for _, item := range items(v) {
				s.Aliases = append(s.Aliases, alias(item))
			}
		case "default":
			s.Default = text(v)
		case "versions":
			s.Versions = make([]Version, 0, len(items(v)))
			for _, item := range items(v) {
				s.Versions = append(s.Versions, d.version(item, defaults))
			}
		}
	})
	if s.Default == "" && len(s.Versions) == 1 {
		s.Default = s.Versions[0].Version
	}
	return s
}

func alias(n *yaml.Node) (a Alias) {
	pairs(n, func(k string, v *yaml.Node) {
		switch k {
		case "uri":
			a.URI, _ = cutWildcard(text(v))
		case "status":
			a.Status = number(v)
		}
	})
	return a
}

// cutWildcard splits the /* off a URI.
func cutWildcard(uri string) (string, bool) {
	if uri == "*" {
		return "", true
	}
	return strings.CutSuffix(uri, "/*")
}
