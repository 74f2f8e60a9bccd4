package web

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"quorumhub/auth"
	"quorumhub/web/console"
	"quorumhub/web/gateway"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// gatewayPages are the pages about the gateway, and what is done on them.
func (s *Server) gatewayPages(page, act func(path string, a access, h http.HandlerFunc) *route) []*route {
	c := s.console
	of := access{reads: auth.ActionGateway, changes: auth.ActionGateway}
	document := page("/gateway/registry", of, c.EditRegistry)
	document.methods[http.MethodPost] = c.ApplyRegistry
	return []*route{
		page("/gateway", access{}, c.Gateway), document,
		page("/gateway/routes/*", of, c.Route),
		act("/gateway/try", of, c.TryRequest),
	}
}

// Gateway implements console.GatewayPorts.
func (p consolePorts) Gateway() (view.GatewayServing, bool) {
	if p.Options.Gateway == nil {
		return view.GatewayServing{}, false
	}
	return p.Options.Gateway.Serving(), true
}

// GatewayUsage implements console.GatewayPorts.
func (p consolePorts) GatewayUsage(ctx context.Context) view.GatewayUsage {
	return p.Options.Gateway.Usage(ctx)
}

// Pipeline implements console.GatewayPorts.
func (p consolePorts) Pipeline(service, version string) ([]console.Stage, error) {
	_, _, steps, err := p.pipeline(service, version)
	return stagesOf(steps), err
}

// pipeline is gateway.Explain with errors for clients.
func (s *Server) pipeline(route, version string) (service, of string, steps []gateway.Step, err error) {
	if s.gateway == nil {
		return "", "", nil, errNoGateway
	}
	service, of, steps, err = s.gateway.Explain(route, version)
	if errors.Is(err, gateway.ErrUnknownRoute) {
		err = &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "route",
			Detail: problem.Quote(strings.TrimSpace(route+" "+version)) + " is no service of the registry in force; see /v1/gateway"}
	}
	return service, of, steps, err
}

var errNoGateway = &problem.Details{Status: http.StatusNotFound, Code: "not_found", Detail: "this node has no gateway"}

func stagesOf(steps []gateway.Step) (out []console.Stage) {
	for _, s := range steps {
		out = append(out, console.Stage{Name: s.Stage, Does: s.Does, Outcome: s.Outcome})
	}
	return out
}

// TryRequest implements console.GatewayPorts.
func (p consolePorts) TryRequest(w http.ResponseWriter, r *http.Request, text string) ([]console.Stage, int, string, error) {
	if p.gateway == nil {
		return nil, 0, "", errNoGateway
	}
	steps, status, code, err := p.dryRun(w, r, text)
	return stagesOf(steps), status, code, err
}

// AwaitServing implements console.GatewayPorts.
func (p consolePorts) AwaitServing(ctx context.Context, hash string) { p.awaitServing(ctx, hash) }
