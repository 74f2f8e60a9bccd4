package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// GatewayPorts is what the pages about the gateway need of the server.
type GatewayPorts interface {
	// Gateway returns what the gateway of this node serves, and false if it has none.
	Gateway() (view.GatewayServing, bool)
	// GatewayUsage returns who calls which version, over all nodes that answer.
	GatewayUsage(ctx context.Context) view.GatewayUsage
	// Pipeline lists what the gateway does with the requests of a version, the default one if version is empty.
	Pipeline(service, version string) ([]Stage, error)
	// TryRequest takes a request, as it would be sent, through the gateway without calling anything. status is that of the answer as
	// far as it does not come from the service; 0: it would.
	TryRequest(w http.ResponseWriter, r *http.Request, text string) (stages []Stage, status int, code string, err error)
	// AwaitServing waits until this node serves a registry, but not for long.
	AwaitServing(ctx context.Context, hash string)
}

// Stage is a stage of the gateway: what it does with requests, or what it made of one.
type Stage struct{ Name, Does, Outcome string }

// Badge shows the outcome of a stage.
func (s Stage) Badge() badge {
	switch s.Outcome {
	case "passed":
		return badge{stateGood, s.Outcome}
	case "not reached":
		return badge{stateIdle, s.Outcome}
	}
	return badge{stateBad, "stops here"}
}

// Stops reports whether the request came to an end at the stage.
func (s Stage) Stops() bool {
	return s.Outcome != "" && s.Outcome != "passed" && s.Outcome != "not reached"
}

// routeRow is a version of a service in the list of routes.
type routeRow struct {
	Service, URI, Version string
	Default               bool
	Methods               string
	Target, Auth, Verify  string
	Permission            string
	Status                badge
	Sunset                time.Time
	Successor             string
	Requests, Failures    uint64
}

// servedRow is what a node's gateway serves.
type servedRow struct {
	Node, Hash string
	Badge      badge
}

type upstreamRow struct {
	Name, Breaker string
	BreakerBadge  badge
	view.GatewayAddress
	Badge badge
}

type gatewayData struct {
	State     state
	Verdict   string
	Serving   view.GatewayServing
	Nodes     []servedRow
	Routes    []routeRow
	Upstreams []upstreamRow
	Usage     view.GatewayUsage
	May       bool
	Example   string
}

// Gateway shows the routes of the gateway's registry, who calls them, and how the services behind are doing.
func (c *Console) Gateway(w http.ResponseWriter, r *http.Request) {
	c.show(w, r, sheet{template: "gateway", section: "gateway", build: c.buildGateway, personal: true,
		fragments: []string{"gateway-verdict", "gateway-routes", "gateway-upstreams", "gateway-usage"}})
}

func (c *Console) buildGateway(ctx context.Context) (*content, error) {
	d := gatewayData{May: c.Ports.May(ctx, auth.ActionGateway)}
	var there bool
	if d.Serving, there = c.Ports.Gateway(); !there {
		d.State, d.Verdict = stateIdle, "This node has no gateway."
		return &content{Title: "Gateway", Data: &d}, nil
	}
	d.Usage = c.Ports.GatewayUsage(ctx)
	d.Routes = routeRows(d.Serving.Registry, &d.Usage)
	for i := range d.Serving.Upstreams {
		d.Upstreams = append(d.Upstreams, upstreamRows(&d.Serving.Upstreams[i])...)
	}
	differ := 0
	for _, n := range c.Nodes.Nodes() {
		row := servedRow{n.ID, shortHash(n.Gateway), badge{stateGood, "serves it"}}
		switch {
		case n.Role == view.RoleDown:
			row.Badge = badge{stateBad, "down"}
		case n.Gateway != d.Serving.Hash:
			differ++
			row.Badge = badge{stateWarn, "another one"}
		}
		d.Nodes = append(d.Nodes, row)
	}
	d.State, d.Verdict = gatewayVerdict(&d, differ)
	d.Example = "GET /gateway/orders/42 HTTP/1.1\nHost: " + strings.TrimPrefix(strings.TrimPrefix(c.publicURL(), "https://"), "http://") + "\nAccept: application/json\n"
	return &content{Title: "Gateway", Lead: "Services behind this hub, as the gateway's registry has them: one document, the same on every node.", Data: &d}, nil
}

func gatewayVerdict(d *gatewayData, differ int) (state, string) {
	open := slices.ContainsFunc(d.Upstreams, func(u upstreamRow) bool { return !u.Healthy || u.Breaker == "open" })
	switch {
	case d.Serving.Hash == "":
		return stateIdle, "No registry has been applied, so nothing is served."
	case len(d.Serving.Errors) > 0:
		return stateBad, "This node does not serve the newest registry, or not all of it."
	case differ > 0:
		return stateWarn, countOf(differ, "node serves", "nodes serve") + " another registry than this one; they change within seconds, or say why not in their logs."
	case open:
		return stateWarn, "A service behind the gateway has trouble."
	}
	return stateGood, fmt.Sprintf("%s from one registry, the same on every node.", countOf(len(d.Routes), "version of services is served", "versions of services are served"))
}

// shortHash returns the beginning of a hash that is enough to tell two apart by eye.
func shortHash(h string) string {
	h = strings.TrimPrefix(h, "sha256:")
	return h[:min(len(h), 12)]
}

func routeRows(reg *registry.Registry, usage *view.GatewayUsage) (rows []routeRow) {
	if reg == nil {
		return nil
	}
	type key struct{ service, version string }
	used := map[key]*view.GatewayUse{}
	for i := range usage.Items {
		u := &usage.Items[i]
		sum := used[key{u.Service, u.Version}]
		if sum == nil {
			sum = new(view.GatewayUse)
			used[key{u.Service, u.Version}] = sum
		}
		sum.Requests += u.Requests
		sum.Failures += u.Failures
	}
	for i := range reg.Services {
		s := &reg.Services[i]
		for j := range s.Versions {
			v := &s.Versions[j]
			row := routeRow{Service: s.Name, URI: s.FullURI(s.URI), Version: v.Version, Default: v.Version == s.Default, Methods: strings.Join(v.Methods, " "),
				Target: v.Target.String(), Auth: v.Auth, Verify: v.Verifier, Sunset: v.SunsetAt, Successor: v.Successor, Status: badge{stateGood, string(v.Status)}}
			if v.Permission != nil {
				row.Permission = v.Permission.Action + " " + v.Permission.Resource
			}
			switch v.Status {
			case registry.StatusDeprecated:
				row.Status.State = stateWarn
			case registry.StatusRetired:
				row.Status.State = stateIdle
			case registry.StatusActive:
			}
			if u := used[key{s.Name, v.Version}]; u != nil {
				row.Requests, row.Failures = u.Requests, u.Failures
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func upstreamRows(u *view.GatewayUpstream) (rows []upstreamRow) {
	breaker := badge{stateGood, u.Breaker}
	if u.Breaker != "closed" {
		breaker.State = stateWarn
	}
	for _, a := range u.Addresses {
		row := upstreamRow{Name: u.Name, Breaker: u.Breaker, BreakerBadge: breaker, GatewayAddress: a, Badge: badge{stateGood, "healthy"}}
		if !a.Healthy {
			row.Badge = badge{stateBad, "ejected"}
		}
		rows = append(rows, row)
	}
	return rows
}

// pipelineData is what the page about a version shows, and the one about a request that was tried.
type pipelineData struct {
	Stages  []Stage
	Request string // that was tried; empty: none
	Outcome string
	State   state
	Curl    string
}

// Route shows what the gateway does with the requests of one version: /console/gateway/routes/<service>/<version>.
func (c *Console) Route(w http.ResponseWriter, r *http.Request) {
	service, version, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/console/gateway/routes/"), "/")
	c.show(w, r, sheet{template: "pipeline", section: "gateway", build: func(context.Context) (*content, error) {
		stages, err := c.Ports.Pipeline(service, version)
		if err != nil {
			return nil, err
		}
		title := service
		if version != "" {
			title += ", version " + version
		}
		return &content{Title: title, Lead: "What a request goes through, from top to bottom.", Crumbs: []crumb{{"/gateway", "Gateway"}}, Data: &pipelineData{Stages: stages}}, nil
	}})
}

// TryRequest shows what the gateway would make of a request.
func (c *Console) TryRequest(w http.ResponseWriter, r *http.Request) {
	if !c.readForm(w, r) {
		return
	}
	text := asRequest(r.PostForm.Get("request"))
	stages, status, code, err := c.Ports.TryRequest(w, r, text)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	d := &pipelineData{Stages: stages, Request: r.PostForm.Get("request"), State: stateGood, Outcome: "It would reach the service. Nothing was called."}
	if status != 0 {
		d.Outcome = fmt.Sprintf("The gateway itself would answer: %d %s", status, http.StatusText(status))
		if code != "" {
			d.Outcome += " (" + code + ")"
		}
		d.Outcome += ". Nothing was called."
		if status >= 400 {
			d.State = stateWarn
		}
	}
	c.write(w, r, http.StatusOK, "pipeline", c.frame(r, "gateway", &content{Title: "A request, tried", Crumbs: []crumb{{"/gateway", "Gateway"}}, Data: d}))
}

// asRequest gives the text of a form the line ends of HTTP, and the empty line after the header.
func asRequest(text string) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	head, body, found := strings.Cut(text, "\n\n")
	head = strings.ReplaceAll(strings.TrimRight(head, "\n"), "\n", "\r\n") + "\r\n\r\n"
	if found {
		return head + body
	}
	return head
}

// registryData is what the pages for changing the registry show.
type registryData struct {
	Text     string
	Secrets  string   // lines NAME=value, as they were given
	Names    []string // of the present secrets
	Files    []string
	Replaces string // hash of the present registry; none: there is none
	By       string
	At       time.Time
	Mistakes []problem.Place
	More     int // mistakes that are not listed
	Changes  []changeRow
	Same     bool // nothing but spelling differs
}

type changeRow struct {
	registry.Change
	Badge badge
}

// EditRegistry shows the present registry to be changed.
func (c *Console) EditRegistry(w http.ResponseWriter, r *http.Request) {
	c.show(w, r, sheet{template: "registry", section: "gateway", build: func(context.Context) (*content, error) {
		d, _, err := c.presentRegistry()
		return &content{Title: "The gateway's registry", Crumbs: []crumb{{"/gateway", "Gateway"}}, Data: d,
			Lead: "Change it here, and see what that would do before anything happens. Files of the registry stay as they are; new ones come with quorumhub gateway apply."}, err
	}})
}

// noRegistry stands for there being none in the form, whose other value is a hash.
const noRegistry = "none"

func (c *Console) presentRegistry() (*registryData, *hub.GatewayDocument, error) {
	info, doc, there, err := c.Service.Gateway()
	if err != nil {
		return nil, nil, err
	}
	d := &registryData{Replaces: noRegistry, Text: "version: 1\nservices: []\n"}
	if there {
		d.Text, d.Names, d.Replaces, d.By, d.At = string(doc.Text), doc.SecretNames(), info.Hash, info.By, info.AppliedAt
		for name := range doc.Files {
			d.Files = append(d.Files, name)
		}
		slices.Sort(d.Files)
		var lines strings.Builder
		for _, name := range d.Names {
			lines.WriteString(name + "=\n")
		}
		d.Secrets = lines.String()
	}
	return d, &doc, nil
}

// ApplyRegistry checks a registry, shows what would change and, once that is confirmed, applies it.
func (c *Console) ApplyRegistry(w http.ResponseWriter, r *http.Request) {
	body, release, err := c.Ports.ReadBody(w, r, 2*hub.MaxGatewayBytes)
	if err == nil {
		defer release()
		r.PostForm, err = parseForm(r.Header.Get("Content-Type"), body)
	}
	var d *registryData
	var present *hub.GatewayDocument
	if err == nil {
		d, present, err = c.presentRegistry()
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	was := d.Text
	d.Text, d.Secrets = strings.ReplaceAll(r.PostForm.Get("text"), "\r\n", "\n"), r.PostForm.Get("secrets")
	if given := r.PostForm.Get("replaces"); given != "" {
		d.Replaces = given
	}
	doc := hub.GatewayDocument{Text: []byte(d.Text), Files: present.Files}
	if doc.Secrets, err = secretLines(d.Secrets); err != nil {
		c.fail(w, r, err)
		return
	}
	change := hub.GatewayChange{DryRun: r.PostForm.Get(confirmField) == "", By: strings.ToValidUTF8(auth.CallerOf(r.Context()).Principal.String(), "?"), Replaces: &d.Replaces}
	if d.Replaces == noRegistry {
		change.Replaces = new(string)
	}
	applied, err := c.Service.ApplyGateway(r.Context(), doc, change)
	var invalid *hub.InvalidGatewayError
	switch {
	case errors.As(err, &invalid):
		d.mistaken(invalid)
		c.showRegistry(w, r, http.StatusUnprocessableEntity, "registry", "The registry is not applied", d)
	case errors.Is(err, hub.ErrGatewayReplaced):
		c.fail(w, r, &problem.Details{Status: http.StatusConflict, Code: "replaced", Detail: "Somebody else has applied a registry in the meantime, so nothing was changed. Look at the present one and begin again."})
	case err != nil:
		c.fail(w, r, err)
	case !applied.Changed:
		c.done(w, "/gateway", "The registry is as it was: there was nothing to change.")
	case change.DryRun:
		was := registry.Document{Text: []byte(was), Files: present.Files}
		if d.Replaces == noRegistry {
			was = registry.Document{}
		}
		changes, err := registry.Diff(was, registry.Document{Text: doc.Text, Files: doc.Files}, applied.Secrets)
		if err != nil {
			c.fail(w, r, err)
			return
		}
		for _, ch := range changes {
			d.Changes = append(d.Changes, changeRow{ch, changeBadge(ch.Op)})
		}
		d.Same = len(changes) == 0
		c.showRegistry(w, r, http.StatusOK, "registrydiff", "What would change", d)
	default:
		auth.Note(r.Context(), "gateway", applied.Hash)
		c.Ports.AwaitServing(r.Context(), applied.Hash)
		c.done(w, "/gateway", "The registry is applied. Every node serves it within seconds.")
	}
}

func (c *Console) showRegistry(w http.ResponseWriter, r *http.Request, status int, template, title string, d *registryData) {
	c.write(w, r, status, template, c.frame(r, "gateway", &content{Title: title, Crumbs: []crumb{{"/gateway", "Gateway"}, {"/gateway/registry", "Registry"}}, Data: d}))
}

// maxMistakes bounds how many mistakes of a registry a page lists.
const maxMistakes = 100

func (d *registryData) mistaken(e *hub.InvalidGatewayError) {
	for i := range min(len(e.Mistakes), maxMistakes) {
		m := &e.Mistakes[i]
		d.Mistakes = append(d.Mistakes, problem.Place{Line: m.Line, Column: m.Column, Path: m.Path, Detail: m.Detail})
	}
	d.More = len(e.Mistakes) - len(d.Mistakes)
}

func changeBadge(op string) badge {
	switch op {
	case "+":
		return badge{stateGood, "new"}
	case "-":
		return badge{stateBad, "gone"}
	}
	return badge{stateInfo, "changed"}
}

// secretLines reads lines NAME=value.
func secretLines(text string) (map[string]string, error) {
	out := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, hub.ParamErrorf("secrets", "line %d is not NAME=value", n)
		}
		if value == "" {
			return nil, hub.ParamErrorf("secrets", "line %d: %s has no value; secrets are never shown, so each must be given again with every change", n, problem.Quote(name))
		}
		out[name] = value
	}
	return out, nil
}
