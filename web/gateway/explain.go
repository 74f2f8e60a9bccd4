package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"quorumhub/web/gateway/registry"
)

// Step is what one stage does with the requests of a version or, after DryRun, what it made of one.
type Step struct {
	Stage   string `json:"stage"`
	Does    string `json:"does,omitempty"`
	Outcome string `json:"outcome,omitempty"` // of DryRun
}

// Outcomes of a Step.
const (
	outcomePassed     = "passed"
	outcomeNotReached = "not reached"
)

// ErrUnknownRoute means that the registry in force has no such service or version.
var ErrUnknownRoute = errors.New("no such service or version")

// Explain lists what the stages do with the requests of a service's version, the default one if version is empty. route is the
// service's name, or a URI without the prefix. The error is ErrUnknownRoute.
func (g *Gateway) Explain(route, version string) (service, chosen string, steps []Step, err error) {
	c := g.current.Load()
	if c == nil {
		return "", "", nil, ErrUnknownRoute
	}
	v := c.lookUp(route, version)
	if v == nil {
		return "", "", nil, ErrUnknownRoute
	}
	for _, s := range append(g.pipeline[:len(g.pipeline):len(g.pipeline)], g.ending...) {
		steps = append(steps, Step{Stage: s.name(), Does: s.explain(v)})
	}
	return v.service.Name, v.Version.Version, steps, nil
}

// lookUp finds a version by the name of its service, or by URI.
func (c *compiled) lookUp(route, version string) *version {
	for _, s := range c.services {
		if s.Name != route {
			continue
		}
		want := version
		if want == "" {
			want = s.Default
		}
		for _, v := range s.versions {
			if v.Version.Version == want {
				return v
			}
		}
		return nil
	}
	path := c.registry.Prefix + "/" + strings.TrimPrefix(strings.TrimPrefix(route, c.registry.Prefix), "/")
	m, err := c.router.Find(http.MethodGet, path)
	if err != nil {
		return nil
	}
	choice := m.Choose(version, "")
	if choice.Outcome == registry.UnknownVersion {
		return nil
	}
	return c.versions[choice.Version]
}

// DryRun says what each stage would make of a request. Nothing is called, claimed, published or counted; what the request's credentials
// prove is checked. w is for what Callers and Bodies keep of the request, and gets nothing.
func (g *Gateway) DryRun(w http.ResponseWriter, r *http.Request) (steps []Step, status int, code string) {
	x := &exchange{g: g, at: g.current.Load(), w: w, r: r, start: g.Clock(), dry: true}
	defer x.end()
	reached := true
	for _, s := range g.pipeline {
		step := Step{Stage: s.name()}
		if x.version != nil {
			step.Does = s.explain(x.version)
		}
		switch _, responds := s.(respondStage); {
		case !reached, x.resp != nil && x.resp.final && !responds:
			step.Outcome = outcomeNotReached
		default:
			step.Outcome, reached = x.try(s)
		}
		steps = append(steps, step)
	}
	if x.failed != nil {
		if d := g.describe(x.failed); d != nil {
			return steps, d.Status, d.Code
		}
		return steps, http.StatusInternalServerError, "internal"
	}
	if x.resp != nil {
		return steps, x.resp.status, ""
	}
	return steps, 0, ""
}

// try runs one stage of a dry run.
func (x *exchange) try(s stage) (outcome string, goOn bool) {
	switch s.(type) {
	case callStage:
		return x.wouldCall(), false
	case respondStage:
		return fmt.Sprintf("status %d", x.resp.status), false
	}
	err := s.do(x)
	if err == nil {
		return x.found(s), true
	}
	x.failed = err
	if d := x.g.describe(err); d != nil {
		return fmt.Sprintf("refused: %d %s: %s", d.Status, d.Code, d.Error()), false
	}
	return "failed: " + err.Error(), false
}

// found adds what a stage has found out.
func (x *exchange) found(s stage) string {
	switch s.(type) {
	case correlateStage:
		return x.correlation
	case matchStage:
		return "service " + x.version.service.Name + ", version " + x.version.Version.Version
	case authenticateStage, senderStage:
		if x.caller.Anonymous {
			return "anonymous"
		}
		return x.caller.ID
	}
	return outcomePassed
}

// wouldCall says what the target would get. Values of credentials are not shown.
func (x *exchange) wouldCall() string {
	v := x.version
	switch v.Target.Kind {
	case registry.TargetTopic:
		return fmt.Sprintf("would publish %d bytes to %s", len(x.body.held), v.Target.Name)
	case registry.TargetHub:
		return "would run " + v.Target.Name
	case registry.TargetUpstream:
	}
	names := sortedNames(x.out.header)
	return fmt.Sprintf("would call %s %s at %s with %s", x.r.Method, x.out.target, v.Target.Name, strings.Join(names, ", "))
}
