package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"quorumhub/web/gateway/registry"
)

// Service is a service as GET /v1/gateway shows it.
type Service struct {
	Name     string    `json:"name"`
	URI      string    `json:"uri"`
	Aliases  []Alias   `json:"aliases"`
	Default  string    `json:"default"`
	Versions []Version `json:"versions"`
}

// Alias is another URI of a service.
type Alias struct {
	URI    string `json:"uri"`
	Status int    `json:"status,omitempty"`
}

// Version is a version of a service.
type Version struct {
	Version      string     `json:"version"`
	Status       string     `json:"status"`
	Methods      []string   `json:"methods"`
	Target       string     `json:"target"`
	Auth         string     `json:"auth"`
	Permission   string     `json:"permission,omitempty"` // action and resource
	Verifier     string     `json:"verifier,omitempty"`
	DeprecatedAt *time.Time `json:"deprecated_at,omitempty"`
	SunsetAt     *time.Time `json:"sunset_at,omitempty"`
	Successor    string     `json:"successor,omitempty"`
}

// Services shows a registry's services as a hub does.
func Services(reg *registry.Registry) []Service {
	out := make([]Service, 0, len(reg.Services))
	for i := range reg.Services {
		s := &reg.Services[i]
		item := Service{Name: s.Name, URI: s.FullURI(s.URI), Aliases: []Alias{}, Default: s.Default, Versions: []Version{}}
		for _, a := range s.Aliases {
			item.Aliases = append(item.Aliases, Alias{URI: s.FullURI(a.URI), Status: a.Status})
		}
		for j := range s.Versions {
			v := &s.Versions[j]
			shown := Version{Version: v.Version, Status: string(v.Status), Methods: append([]string{}, v.Methods...), Target: v.Target.String(), Auth: v.Auth,
				Verifier: v.Verifier, DeprecatedAt: moment(v.DeprecatedAt), SunsetAt: moment(v.SunsetAt), Successor: v.Successor}
			if v.Permission != nil {
				shown.Permission = v.Permission.Action + " " + v.Permission.Resource
			}
			item.Versions = append(item.Versions, shown)
		}
		out = append(out, item)
	}
	return out
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// RoutesHead names the columns of Routes.
const RoutesHead = "METHODS\tURI\tVERSION\tSTATUS\tAUTH\tTARGET\tSERVICE"

// Routes returns one row for each version of each service and for each alias, sorted by URI. An asterisk marks the default version.
func Routes(services []Service) []string {
	services = slices.Clone(services)
	slices.SortStableFunc(services, func(a, b Service) int { return cmp.Compare(a.URI, b.URI) })
	var rows []string
	for _, s := range services {
		for _, v := range s.Versions {
			version := v.Version
			if v.Version == s.Default {
				version += "*"
			}
			rows = append(rows, strings.Join([]string{cmp.Or(strings.Join(v.Methods, ","), "any"), s.URI, version, status(v), authOf(v), cmp.Or(v.Target, "-"), s.Name}, "\t"))
		}
		for _, a := range s.Aliases {
			to := "is " + s.URI
			if a.Status != 0 {
				to = fmt.Sprintf("%d to %s", a.Status, s.URI)
			}
			rows = append(rows, strings.Join([]string{"any", a.URI, "any", "alias", "-", to, s.Name}, "\t"))
		}
	}
	return rows
}

// status says in what stage of its life a version is, and when that ends.
func status(v Version) string {
	switch {
	case v.SunsetAt == nil:
		return v.Status
	case v.Status == string(registry.StatusRetired):
		return v.Status + " since " + v.SunsetAt.Format(time.DateOnly)
	default:
		return v.Status + " until " + v.SunsetAt.Format(time.DateOnly)
	}
}

func authOf(v Version) string {
	if v.Verifier != "" && v.Auth == registry.AuthNone {
		return "verifier " + v.Verifier
	}
	return v.Auth
}
