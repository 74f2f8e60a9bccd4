package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"quorumhub/web/gateway/negotiate"
	"quorumhub/web/gateway/openapi"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/gateway/upstream"
	"quorumhub/web/gateway/webhook"
)

// compiled is a registry in the form in which requests are served by it. It is immutable.
type compiled struct {
	active   Active
	registry *registry.Registry
	router   *registry.Router
	versions map[*registry.Version]*version
	services []*service
	pools    map[string]*pooled
	minted   map[string]*minted // by upstream
	named    map[string]bool    // services with a label of their own
	// itself describes the registry's services, for all who can prove who they are.
	itself   *version
	known    map[[2]string]bool // service and version
	loadedAt time.Time
	errors   []string // about this node: what it cannot serve
}

// pooled is the pool of an upstream with what it was made from, so that a registry that leaves an upstream as it is also leaves its
// connections.
type pooled struct {
	of   registry.Upstream
	pool *upstream.Pool
}

// service is a service with its versions.
type service struct {
	*registry.Service
	versions []*version
	counters counters
}

// version is one version of a service, ready to serve.
type version struct {
	*registry.Version
	service    *service
	way        Way
	sequence   bool  // way is one
	unusable   error // why callers cannot be authenticated; nil: they can
	params     []param
	produces   []negotiate.Format
	schema     *jsonschema.Schema // of the request's body; nil: any
	asks       *shape             // of the request's body, with schema
	answers    *shape             // of the response; nil: no schema
	protection *protection        // nil: none
	verifier   webhook.Verifier   // nil: no webhook
	scheme     string             // of the verifier
	pool       *upstream.Pool     // nil: the target is no upstream, or cannot be called
	minted     *minted            // nil: the service gets no token
	patience   time.Duration      // how long the service may take to begin its answer
	// keyHeader names the header that is a message's key; empty: none.
	keyHeader  string
	document   func() []byte // of targetItself
	rateName   string
	ratePolicy []string
}

// compile makes a registry ready to serve. It fails if the document is one that this program does not understand; what only this
// node lacks makes single routes unavailable.
func (g *Gateway) compile(a Active, before *compiled) (_ *compiled, err error) {
	reg, mistakes := registry.Read(a.Document, nil)
	if len(mistakes) > 0 {
		return nil, fmt.Errorf("%d:%d: %s: %s", mistakes[0].Line, mistakes[0].Column, mistakes[0].Path, mistakes[0].Detail)
	}
	c := &compiled{active: a, registry: reg, versions: map[*registry.Version]*version{}, pools: map[string]*pooled{}, minted: map[string]*minted{}, named: map[string]bool{},
		known: map[[2]string]bool{}, loadedAt: g.Clock()}
	if c.router, err = registry.Compile(reg); err != nil {
		return nil, err
	}
	if reserved(reg.Prefix) {
		return nil, fmt.Errorf("prefix: %s is the hub's own", reg.Prefix)
	}
	for name, u := range reg.Upstreams {
		m, err := g.mintedFor(reg, u, before)
		if err != nil {
			c.errors = append(c.errors, fmt.Sprintf("upstreams.%s.token: %v", name, err))
			continue
		}
		if m != nil {
			c.minted[name] = m
		}
		p, err := g.poolFor(u, before)
		if err != nil {
			c.errors = append(c.errors, fmt.Sprintf("upstreams.%s: %v", name, err))
			continue
		}
		c.pools[name] = p
	}
	verifiers := map[string]webhook.Verifier{}
	for name, v := range reg.Verifiers {
		if verifiers[name], err = webhook.New(v.Config); err != nil {
			return nil, fmt.Errorf("verifiers.%s: %w", name, err)
		}
	}
	for i := range reg.Services {
		s := &service{Service: &reg.Services[i]}
		label := serviceOther
		if len(c.services) < maxNamedServices {
			label = s.Name
			c.named[label] = true
		}
		s.counters = g.metrics.of(label)
		for j := range s.Service.Versions {
			v, err := g.compileVersion(c, s, &s.Service.Versions[j], verifiers)
			if err != nil {
				return nil, fmt.Errorf("services[%d] (%s): version %s: %w", i, s.Name, s.Service.Versions[j].Version, err)
			}
			s.versions = append(s.versions, v)
			c.versions[v.Version] = v
			c.known[[2]string{s.Name, v.Version.Version}] = true
		}
		c.services = append(c.services, s)
	}
	return c, c.describeItself(g)
}

// describeItself adds the route of the OpenAPI document.
func (c *compiled) describeItself(g *Gateway) error {
	s := &service{Service: &registry.Service{Name: "openapi", URI: "openapi.json"}, counters: g.metrics.of(serviceOther)}
	way, err := g.Callers.Way(registry.AuthDefault, nil)
	if err != nil {
		return err
	}
	c.itself = &version{Version: &registry.Version{Version: "1", Status: registry.StatusActive, Methods: []string{http.MethodGet, http.MethodHead}, Auth: registry.AuthDefault,
		Target: registry.Target{Kind: targetItself}}, service: s, way: way, document: sync.OnceValue(func() []byte { return openapi.Describe(c.registry) })}
	return nil
}

// targetItself is the gateway's description of its services.
const targetItself registry.TargetKind = "openapi"

// poolFor returns the pool of an upstream: the present one if nothing about it has changed.
func (g *Gateway) poolFor(u registry.Upstream, before *compiled) (*pooled, error) {
	if before != nil {
		if p := before.pools[u.Name]; p != nil && reflect.DeepEqual(p.of, u) {
			return p, nil
		}
	}
	transport, err := g.Transports(u)
	if err != nil {
		return nil, err
	}
	pool, err := upstream.New(upstream.Config{Name: u.Name, URLs: u.URLs, Retry: u.Retry, Headers: u.Headers, Timeout: u.Timeout,
		ConnectTimeout: u.ConnectTimeout, IdleTimeout: u.IdleTimeout, MaxInFlight: u.MaxInFlight, Eject: upstream.Eject(u.Eject), Breaker: upstream.Breaker(u.Breaker)}, transport, g.Log)
	if err != nil {
		return nil, err
	}
	return &pooled{u, pool}, nil
}

func (g *Gateway) compileVersion(c *compiled, s *service, rv *registry.Version, verifiers map[string]webhook.Verifier) (*version, error) {
	v := &version{Version: rv, service: s}
	steps := c.registry.Sequences[rv.Auth]
	v.sequence = steps != nil
	var err error
	if v.way, err = g.Callers.Way(rv.Auth, steps); err != nil {
		v.unusable = err
		c.errors = append(c.errors, fmt.Sprintf("services.%s: version %s: auth: %v", s.Name, rv.Version, err))
	}
	for _, p := range rv.Params {
		one := param{Param: p}
		if p.Pattern != "" {
			if one.pattern, err = wholePattern(p.Pattern); err != nil {
				return nil, fmt.Errorf("params: %s: %w", p.Name, err)
			}
		}
		v.params = append(v.params, one)
	}
	for _, f := range rv.Produces {
		v.produces = append(v.produces, negotiate.Format(f))
	}
	if b := rv.Body; b != nil && b.Schema != "" {
		if v.schema = c.registry.Schemas[b.Schema]; v.schema == nil {
			return nil, fmt.Errorf("body.schema: %s is not in the document", b.Schema)
		}
		v.asks = shapeOf(v.schema)
	}
	v.answers = shapeOf(c.registry.Schemas[rv.Response.Schema])
	if v.protection, err = compileProtect(c.registry, rv.Protect); err != nil {
		return nil, fmt.Errorf("protect: %w", err)
	}
	if rv.Verifier != "" {
		if v.verifier = verifiers[rv.Verifier]; v.verifier == nil {
			return nil, fmt.Errorf("verifier: %s does not exist", rv.Verifier)
		}
		v.scheme = c.registry.Verifiers[rv.Verifier].Scheme
	}
	if rv.Target.Kind == registry.TargetUpstream {
		if p := c.pools[rv.Target.Name]; p != nil {
			v.pool, v.minted = p.pool, c.minted[rv.Target.Name]
		}
		if v.patience = rv.Timeout; c.registry.Upstreams[rv.Target.Name].Timeout > 0 {
			v.patience = min(v.patience, c.registry.Upstreams[rv.Target.Name].Timeout)
		}
	}
	if v.keyHeader, err = keyHeaderOf(rv.Key); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if err := v.options().Check(); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	if l := rv.Limits.Rate; l.Requests > 0 {
		v.rateName = strconv.Quote(s.Name + "-" + rv.Version)
		v.ratePolicy = []string{fmt.Sprintf("%s;q=%d;w=%d", v.rateName, l.Requests, int(l.Per.Seconds()))}
	}
	return v, nil
}

// keyHeaderOf returns the header that a message's key is in.
func keyHeaderOf(key string) (string, error) {
	name, ok := strings.CutPrefix(key, "header:")
	if key != "" && !ok {
		return "", fmt.Errorf("%q; expected header: and the name of a header", key)
	}
	return name, nil
}

// reserved reports whether a prefix would hide paths of the hub itself.
func reserved(prefix string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(prefix, "/"), "/")
	return slices.Contains([]string{"", "hub", "topics", "v1", "health", "metrics", "debug", "share", ".well-known"}, first)
}

// closePools closes what another registry does not use.
func (c *compiled) closePools(but *compiled) {
	if c == nil {
		return
	}
	for name, p := range c.pools {
		if but != nil && but.pools[name] == p {
			continue
		}
		p.pool.Close()
	}
	c.closeMinted(but)
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// wholePattern compiles a pattern for whole values.
func wholePattern(text string) (*regexp.Regexp, error) { return regexp.Compile(`\A(?:` + text + `)\z`) }
