package web

import (
	"context"
	"net/http"
	"slices"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/console"
	"quorumhub/web/problem"
	"quorumhub/web/sse"
	"quorumhub/web/view"
)

// newConsole makes the console.
func (s *Server) newConsole() (err error) {
	s.console, err = console.New(console.Options{Ports: consolePorts{s}, Service: s.Service, State: s.State, Messages: s.Messages, Nodes: s.Node,
		Base: prefixOf(s.PublicURL), Version: s.Version, Heartbeat: s.StreamHeartbeat, Clock: s.Clock, Log: s.Log})
	return err
}

// consoleRoutes are the pages of the console and what is done on them. Who may have them is who may have the same at the API.
func (s *Server) consoleRoutes() []*route {
	c := s.console
	page := func(path string, a access, h http.HandlerFunc) *route {
		a.page = true
		return &route{name: "console", paths: []string{"/console" + path}, access: a,
			methods: map[string]http.HandlerFunc{http.MethodGet: h, http.MethodHead: h}}
	}
	act := func(path string, a access, h http.HandlerFunc) *route {
		a.page = true
		return &route{name: "console", paths: []string{"/console" + path}, access: a, methods: map[string]http.HandlerFunc{http.MethodPost: h}}
	}
	nodes := access{changes: auth.ActionCluster}
	open := access{public: true, limited: true}
	return append([]*route{
		page("", open, c.Index),
		page("/static/*", open, c.Static),
		page("/", access{own: true}, c.Overview), // operators see all, others what is theirs
		page("/cluster", access{}, c.Cluster),
		page("/cluster/backup", access{reads: auth.ActionBackup}, s.getBackup),
		act("/cluster/transfer-leadership", nodes, c.TransferLeadership),
		act("/cluster/nodes/:id/promote", nodes, c.PromoteNode),
		act("/cluster/nodes/:id/demote", nodes, c.DemoteNode),
		act("/cluster/nodes/:id/drain", nodes, c.DrainNode),
		act("/cluster/nodes/:id/undrain", nodes, c.UndrainNode),
		act("/cluster/nodes/:id/remove", nodes, c.RemoveNode),
	}, slices.Concat(s.dataRoutes(page, act), s.gatewayPages(page, act), s.accessPages(page, act), s.eventPages(page))...)
}

// consolePorts is what the console needs of the server.
type consolePorts struct{ *Server }

// Viewer implements console.Ports.
func (p consolePorts) Viewer(ctx context.Context) console.Viewer {
	if p.Guard == nil {
		return console.Viewer{Operator: true}
	}
	c := auth.CallerOf(ctx)
	return console.Viewer{Name: c.Principal.String(), ID: c.Principal.ID, Session: c.Principal.Method == auth.MethodSession, Operator: c.Operator}
}

// May implements console.Ports.
func (p consolePorts) May(ctx context.Context, action auth.Action) bool {
	return p.Guard == nil || p.Guard.May(auth.CallerOf(ctx).Principal, action)
}

// Problem implements console.Ports.
func (p consolePorts) Problem(w http.ResponseWriter, r *http.Request, err error) *problem.Details {
	return p.describe(w, r, err)
}

// Health implements console.OverviewPorts.
func (p consolePorts) Health(ctx context.Context) *view.Health { return p.health(ctx) }

// Holding implements console.OverviewPorts.
func (p consolePorts) Holding(_ context.Context, principal string) (h console.Holding) {
	p.State.View(func(st *hub.State) {
		u := st.Usage(principal)
		h = console.Holding{Topics: u.Topics, Subscriptions: u.Subscriptions, Requests: u.PendingRequests, DeadLetters: u.DeadLetters}
	})
	return h
}

// Membership implements console.ClusterPorts.
func (p consolePorts) Membership() (view.Membership, error) { return p.membership() }

// ReadBody implements console.Ports.
func (p consolePorts) ReadBody(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	c, err := p.readBody(w, r, limit, hub.Errorf(hub.CodeTooLarge, "body: exceeds %d bytes", limit))
	if err != nil {
		c.release()
		return nil, nil, err
	}
	return c.bytes, c.release, nil
}

// OpenStream implements console.Ports.
func (p consolePorts) OpenStream(w http.ResponseWriter, r *http.Request) (context.Context, *sse.Writer, func(), error) {
	leave, err := p.enterStream(w, r)
	if err != nil {
		return nil, nil, nil, err
	}
	out := sse.NewWriter(w, p.StreamWriteTimeout)
	if c := connOfRequest(r); c != nil {
		_ = c.SetWriteBuffer(streamSendBuffer) // failing costs only kernel memory
	}
	ctx, end := context.WithCancelCause(r.Context())
	x, _ := w.(*exchange)
	watched := p.watchRights(ctx, func(ctx context.Context) (time.Time, error) { return p.stillViews(ctx, x.route) }, end)
	stopping := context.AfterFunc(p.streams.stopping, func() { end(errStopping) })
	finish := context.AfterFunc(ctx, func() { out.Finish(endGrace) })
	return ctx, out, func() {
		finish()
		stopping()
		end(nil)
		<-watched
		out.Close()
		leave()
	}, nil
}

// stillViews returns an error once the caller in ctx may no longer have a page as it began to. Otherwise it returns when its credentials
// end, as stillAllowed does.
func (s *Server) stillViews(ctx context.Context, rt *route) (until time.Time, err error) {
	if s.Guard == nil {
		return time.Time{}, nil
	}
	ctx, err = again(ctx)
	if err != nil {
		return time.Time{}, err
	}
	c := auth.CallerOf(ctx)
	action, own := rt.access.needs(http.MethodGet)
	if c.Operator && !s.Guard.May(c.Principal, action) || !c.Operator && !own {
		return time.Time{}, errForbidden
	}
	return c.Principal.Until, nil
}

// Written implements console.Ports.
func (p consolePorts) Written() uint64 { return p.Reads.Written() }

// AwaitIndex implements console.Ports.
func (p consolePorts) AwaitIndex(ctx context.Context, index uint64) error {
	return p.Reads.AwaitIndex(ctx, index)
}
