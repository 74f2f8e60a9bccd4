package registry

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"quorumhub/configs/quantity"
)

func (d *decoder) version(n *yaml.Node, defaults *Defaults) Version {
	v := Version{Status: StatusActive, Timeout: defaults.Timeout, MaxBody: defaults.MaxBody, Auth: defaults.Auth, Produces: defaults.Produces, Position: positionOf(n)}
	pairs(n, func(k string, n *yaml.Node) {
		switch k {
		case "version":
			v.Version = text(n)
		case "status":
			v.Status = Status(text(n))
		case "deprecated_at":
			v.DeprecatedAt = date(n)
		case "sunset_at":
			v.SunsetAt = date(n)
		case "successor":
			v.Successor = text(n)
		case "target":
			v.Target = parseTarget(text(n))
		case "methods":
			v.Methods = texts[string](n)
		case "timeout":
			v.Timeout = duration(n)
		case "max_body":
			v.MaxBody = size(n)
		case "auth":
			v.Auth = text(n)
		case "produces":
			v.Produces = texts[Format](n)
		default:
			d.versionPart(k, n, &v)
		}
	})
	return v
}

// versionPart reads what not every version has.
func (d *decoder) versionPart(k string, n *yaml.Node, v *Version) {
	switch k {
	case "permission":
		v.Permission = &Permission{Action: "call"}
		pairs(n, func(k string, n *yaml.Node) {
			switch k {
			case "action":
				v.Permission.Action = text(n)
			case "resource":
				v.Permission.Resource = text(n)
			}
		})
	case "params":
		for _, item := range items(n) {
			v.Params = append(v.Params, param(item))
		}
	case "body":
		v.Body = body(n)
	case "response":
		v.Response = response(n)
	case "limits":
		v.Limits = limits(n)
	case "format_param":
		v.FormatParam = truth(n)
	case "verifier":
		v.Verifier = text(n)
	case "key":
		v.Key = text(n)
	case "carry_headers":
		v.CarryHeaders = texts[string](n)
	case "protect":
		v.Protect = protect(n)
	}
}

func parseTarget(s string) Target {
	name, rest, _ := strings.Cut(s, ":")
	switch name {
	case "":
		return Target{}
	case string(TargetTopic), string(TargetHub):
		return Target{Kind: TargetKind(name), Name: rest}
	default:
		return Target{Kind: TargetUpstream, Name: name, Path: rest}
	}
}

func param(n *yaml.Node) Param {
	p := Param{In: "query"}
	pairs(n, func(k string, n *yaml.Node) {
		switch k {
		case "name":
			p.Name = text(n)
		case "in":
			p.In = text(n)
		case "required":
			p.Required = truth(n)
		case "pattern":
			p.Pattern = text(n)
		case "max_bytes":
			p.MaxBytes = number(n)
		}
	})
	return p
}

func body(n *yaml.Node) *Body {
	b := &Body{Enforce: true}
	pairs(n, func(k string, n *yaml.Node) {
		switch k {
		case "schema":
			b.Schema = text(n)
		case "consumes":
			b.Consumes = texts[Format](n)
		case "enforce":
			b.Enforce = truth(n)
		}
	})
	return b
}

func response(n *yaml.Node) (r Response) {
	pairs(n, func(k string, n *yaml.Node) {
		switch k {
		case "unwrap":
			r.Unwrap = truth(n)
		case "arrays":
			r.Arrays = texts[string](n)
		case "strip":
			r.Strip = texts[string](n)
		case "root":
			r.Root = text(n)
		case "namespaces":
			r.Namespaces = text(n) == "keep"
		case "schema":
			r.Schema = text(n)
		}
	})
	return r
}

func limits(n *yaml.Node) (l Limits) {
	pairs(n, func(k string, n *yaml.Node) {
		switch k {
		case "rate":
			if requests, per, err := quantity.ParseRate(text(n)); err == nil {
				l.Rate = Rate{requests, per}
			}
		case "concurrency":
			l.Concurrency = number(n)
		case "per_principal":
			l.PerPrincipal = number(n)
		}
	})
	return l
}

func protect(n *yaml.Node) *Protect {
	p := &Protect{}
	pairs(n, func(k string, n *yaml.Node) {
		switch k {
		case "decrypt":
			p.Decrypt = text(n)
		case "verify":
			p.Verify = &Verify{}
			pairs(n, func(k string, n *yaml.Node) {
				switch k {
				case "jws":
					p.Verify.JWS = truth(n)
				case "trust":
					p.Verify.Trust = text(n)
				}
			})
		case "release":
			p.Release = map[string][]string{}
			pairs(n, func(k string, n *yaml.Node) { p.Release[k] = texts[string](n) })
		case "encrypt":
			p.Encrypt = text(n)
		case "trust":
			p.Trust = text(n)
		}
	})
	return p
}

func (d *decoder) topic(n *yaml.Node) TopicPolicy {
	t := TopicPolicy{Position: positionOf(n)}
	pairs(n, func(k string, n *yaml.Node) {
		switch k {
		case "match":
			t.Match = text(n)
		case "publish":
			t.Publish = &PublishPolicy{}
			pairs(n, func(k string, n *yaml.Node) {
				switch k {
				case "auth":
					t.Publish.Auth = text(n)
				case "body":
					t.Publish.Body = body(n)
				case "limits":
					t.Publish.Limits = limits(n)
				}
			})
		case "subscribe":
			t.Subscribe = subscribePolicy(n)
		case "deliver":
			t.Deliver = &DeliverPolicy{}
			pairs(n, func(k string, n *yaml.Node) {
				switch k {
				case "headers":
					t.Deliver.Headers = d.headers(n)
				case "strip":
					t.Deliver.Strip = texts[string](n)
				case "protect":
					t.Deliver.Protect = protect(n)
				}
			})
		}
	})
	return t
}

func subscribePolicy(n *yaml.Node) *SubscribePolicy {
	s := &SubscribePolicy{}
	pairs(n, func(k string, n *yaml.Node) {
		switch k {
		case "auth":
			s.Auth = text(n)
		case "callback_hosts":
			s.CallbackHosts = texts[string](n)
		case "require_https":
			s.RequireHTTPS = truth(n)
		case "limits":
			s.Limits = limits(n)
		}
	})
	return s
}
