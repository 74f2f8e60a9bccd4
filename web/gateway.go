package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// gatewayRoutes are the routes of the gateway's registry. Its secrets go in and never come out.
func (s *Server) gatewayRoutes() []*route {
	of := access{changes: auth.ActionGateway}
	document := access{reads: auth.ActionGateway}
	read := func(h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodGet: h, http.MethodHead: h}
	}
	status := read(s.getGateway)
	status[http.MethodPut] = s.putGateway
	return append(s.serviceRoutes(), []*route{
		{name: "gateway_registry", paths: []string{"/v1/gateway"}, access: of, methods: status},
		{name: "gateway_document", paths: []string{"/v1/gateway/document"}, access: document, methods: read(s.getGatewayDocument)},
		{name: "gateway_jwks", paths: []string{tokenKeysPath}, access: access{public: true, limited: true}, methods: read(s.getTokenKeys)},
		{name: "gateway_usage", paths: []string{"/v1/gateway/usage"}, methods: read(s.getGatewayUsage)},
		{name: "gateway_explain", paths: []string{"/v1/gateway/explain"}, access: of, methods: map[string]http.HandlerFunc{http.MethodPost: s.explainRoute}},
	}...)
}

type gatewayBody struct {
	Hash      string                 `json:"hash"`
	Index     uint64                 `json:"index"`
	LoadedAt  *time.Time             `json:"loaded_at"`
	Node      string                 `json:"node"`
	Services  []gatewayService       `json:"services"`
	Errors    []string               `json:"errors"`
	Upstreams []view.GatewayUpstream `json:"upstreams"`
}

type gatewayService struct {
	Name     string           `json:"name"`
	URI      string           `json:"uri"`
	Aliases  []gatewayAlias   `json:"aliases"`
	Default  string           `json:"default"`
	Versions []gatewayVersion `json:"versions"`
}

type gatewayAlias struct {
	URI    string `json:"uri"`
	Status int    `json:"status,omitempty"`
}

type gatewayVersion struct {
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

// getGateway shows what this node serves.
func (s *Server) getGateway(w http.ResponseWriter, _ *http.Request) {
	out := gatewayBody{Node: s.Node.ID(), Services: []gatewayService{}, Errors: []string{}, Upstreams: []view.GatewayUpstream{}}
	if s.Gateway != nil {
		serving := s.Gateway.Serving()
		out.Hash, out.Index, out.LoadedAt = serving.Hash, serving.Index, moment(serving.LoadedAt)
		out.Errors = append(out.Errors, serving.Errors...)
		out.Upstreams = append(out.Upstreams, serving.Upstreams...)
		out.Services = append(out.Services, servicesOf(serving.Registry)...)
	}
	if out.Hash != "" {
		w.Header().Set("ETag", `"`+out.Hash+`"`)
	}
	writeJSON(w, http.StatusOK, out)
}

func servicesOf(r *registry.Registry) (out []gatewayService) {
	if r == nil {
		return nil
	}
	for i := range r.Services {
		svc := &r.Services[i]
		item := gatewayService{Name: svc.Name, URI: svc.FullURI(svc.URI), Aliases: []gatewayAlias{}, Default: svc.Default, Versions: []gatewayVersion{}}
		for _, a := range svc.Aliases {
			item.Aliases = append(item.Aliases, gatewayAlias{URI: svc.FullURI(a.URI), Status: a.Status})
		}
		for j := range svc.Versions {
			v := &svc.Versions[j]
			version := gatewayVersion{Version: v.Version, Status: string(v.Status), Methods: orEmpty(v.Methods), Target: v.Target.String(), Auth: v.Auth,
				Verifier: v.Verifier, DeprecatedAt: moment(v.DeprecatedAt), SunsetAt: moment(v.SunsetAt), Successor: v.Successor}
			if v.Permission != nil {
				version.Permission = v.Permission.Action + " " + v.Permission.Resource
			}
			item.Versions = append(item.Versions, version)
		}
		out = append(out, item)
	}
	return out
}

// gatewayDocument is a registry on the wire. Files are in base64.
type gatewayDocument struct {
	Text    string            `json:"text"`
	Files   map[string][]byte `json:"files"`
	Secrets map[string]string `json:"secrets,omitempty"` // only in requests
}

type gatewayApplied struct {
	Hash    string   `json:"hash"`
	Index   uint64   `json:"index"`
	Changed bool     `json:"changed"`
	DryRun  bool     `json:"dry_run,omitempty"`
	Secrets []string `json:"changed_secrets"` // names
}

// putGateway applies a registry, or with ?dry_run=true checks it and tells what would change.
func (s *Server) putGateway(w http.ResponseWriter, r *http.Request) {
	out, err := s.applyGateway(w, r)
	var invalid *hub.InvalidGatewayError
	switch {
	case errors.As(err, &invalid):
		s.refuseGateway(w, r, invalid)
	case errors.Is(err, hub.ErrGatewayReplaced):
		s.fail(w, r, &problem.Details{Status: http.StatusPreconditionFailed, Code: "replaced", Param: hub.ErrGatewayReplaced.Param, Detail: hub.ErrGatewayReplaced.Message})
	case err != nil:
		s.fail(w, r, err)
	default:
		w.Header().Set("ETag", `"`+out.Hash+`"`)
		writeJSON(w, http.StatusOK, out)
	}
}

func (s *Server) applyGateway(w http.ResponseWriter, r *http.Request) (out gatewayApplied, err error) {
	const expected = `expected JSON such as {"text": "version: 1 ...", "files": {"order.schema.json": "<base64>"}, "secrets": {"HR_KEY": "..."}}`
	c := hub.GatewayChange{By: principalName(r)}
	if c.DryRun, err = flagParam(r, "dry_run"); err != nil {
		return out, err
	}
	if c.Replaces, err = replacedHash(r); err != nil {
		return out, err
	}
	var in gatewayDocument
	if err := s.readJSON(w, r, min(2*hub.MaxGatewayBytes, s.budget.share), &in, expected); err != nil {
		return out, err
	}
	done, err := s.Service.ApplyGateway(r.Context(), hub.GatewayDocument{Text: []byte(in.Text), Files: in.Files, Secrets: in.Secrets}, c)
	if err != nil {
		return out, err
	}
	auth.Note(r.Context(), "gateway", done.Hash)
	if done.Changed && !c.DryRun {
		s.awaitServing(r.Context(), done.Hash)
	}
	return gatewayApplied{Hash: done.Hash, Index: done.Index, Changed: done.Changed, DryRun: c.DryRun, Secrets: orEmpty(done.Secrets)}, nil
}

// servingTime bounds how long a node that was given a registry waits before it answers until it serves it.
const servingTime = 3 * time.Second

// awaitServing waits until this node serves a registry, so that whoever applied it finds its routes at once.
func (s *Server) awaitServing(ctx context.Context, hash string) {
	if s.Gateway == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, servingTime)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.Gateway.Serving().Hash != hash {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// flagParam returns a parameter of the query that is true or false, false if it is absent.
func flagParam(r *http.Request, name string) (bool, error) {
	q, err := parseURLQuery(r.URL.RawQuery)
	if err != nil {
		return false, err
	}
	switch values := q[name]; {
	case len(values) == 0, len(values) == 1 && values[0] == "false":
		return false, nil
	case len(values) == 1 && values[0] == "true":
		return true, nil
	}
	return false, hub.ParamErrorf(name, "is %s; expected true or false", problem.Quote(strings.Join(q[name], ",")))
}

// replacedHash returns which registry a request may replace: one with the hash in If-Match, or none (If-None-Match: *). nil: any.
func replacedHash(r *http.Request) (*string, error) {
	match, none := r.Header["If-Match"], r.Header["If-None-Match"]
	switch {
	case len(match) == 0 && len(none) == 0:
		return nil, nil //nolint:nilnil // nil means any
	case len(match) == 0 && len(none) == 1 && none[0] == "*":
		return new(string), nil
	case len(match) == 1 && len(none) == 0:
		if hash, ok := strings.CutPrefix(match[0], `"`); ok {
			if hash, ok = strings.CutSuffix(hash, `"`); ok && hash != "" && !strings.Contains(hash, `"`) {
				return &hash, nil
			}
		}
	}
	return nil, hub.ParamErrorf("If-Match", `is not understood; expected the ETag of the registry to be replaced, or If-None-Match: * if there must be none`)
}

// refuseGateway answers with everything that is wrong with a registry.
func (s *Server) refuseGateway(w http.ResponseWriter, r *http.Request, e *hub.InvalidGatewayError) {
	p := &problem.Details{Status: http.StatusBadRequest, Code: "invalid", Param: "text", Detail: e.Error()}
	for i := range min(len(e.Mistakes), maxGatewayMistakes) {
		m := &e.Mistakes[i]
		p.Places = append(p.Places, problem.Place{Line: m.Line, Column: m.Column, Path: m.Path, Detail: m.Detail})
	}
	s.fail(w, r, p)
}

// maxGatewayMistakes bounds how many mistakes of a registry are listed.
const maxGatewayMistakes = 100

// getGatewayDocument shows the replicated registry as it was applied, without secrets.
func (s *Server) getGatewayDocument(w http.ResponseWriter, r *http.Request) {
	info, d, ok, err := s.Service.Gateway()
	switch {
	case err != nil:
		s.fail(w, r, err)
		return
	case !ok:
		s.fail(w, r, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Detail: "no registry has been applied; apply one with quorumhub gateway apply"})
		return
	}
	w.Header().Set("ETag", `"`+info.Hash+`"`)
	writeJSON(w, http.StatusOK, struct {
		Hash      string     `json:"hash"`
		Index     uint64     `json:"index"`
		AppliedAt *time.Time `json:"applied_at"`
		AppliedBy string     `json:"applied_by"`
		gatewayDocument
		SecretNames []string `json:"secret_names"`
	}{info.Hash, info.Index, moment(info.AppliedAt), info.By, gatewayDocument{Text: string(d.Text), Files: d.Files}, orEmpty(d.SecretNames())})
}

// getGatewayUsage shows who calls which version.
func (s *Server) getGatewayUsage(w http.ResponseWriter, r *http.Request) {
	out := view.GatewayUsage{}
	if s.Gateway != nil {
		out = s.Gateway.Usage(r.Context())
	}
	out.Items = append([]view.GatewayUse{}, out.Items...)
	out.Nodes, out.Missing = orEmpty(out.Nodes), orEmpty(out.Missing)
	writeJSON(w, http.StatusOK, out)
}
