package web

import (
	"errors"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"quorumhub/auth"
	"quorumhub/web/problem"
)

// route is a path and its methods. Its name labels the metrics.
type route struct {
	name    string
	paths   []string // in echo's notation: /v1/subscriptions/:id, /topics/*
	methods map[string]http.HandlerFunc
	every   http.HandlerFunc // serves all methods, known or not; nil: methods does
	access  access
	streams bool // GET may be for an event stream
	allow   string
	counts  routeCounts
}

// table lists all routes.
func (s *Server) table() []*route {
	get := func(h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodGet: h, http.MethodHead: h}
	}
	post := func(h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodPost: h}
	}
	hubEndpoint := s.postHub
	if s.Profile != ProfileNative {
		hubEndpoint = s.postCompat
	}
	hubMethods := post(hubEndpoint)
	if s.Profile == ProfileMOSIP {
		hubMethods[http.MethodGet] = s.getFailedContent
	}
	subscriptions := access{changes: auth.ActionSubscriptions}
	ownSubscriptions := access{changes: auth.ActionSubscriptions, own: true}          // for handlers that look at the owner
	letters := access{reads: auth.ActionDeadLetters, changes: auth.ActionDeadLetters} // they contain what was published
	ownLetters := letters
	ownLetters.ownReads = true
	routes := []*route{
		{name: "hub", paths: []string{"/hub", "/hub/"}, methods: hubMethods, access: access{byTopic: true}},
		{name: "topics", paths: []string{"/topics/*"}, methods: map[string]http.HandlerFunc{
			http.MethodGet: s.getTopic, http.MethodHead: s.getTopic, http.MethodPost: s.postTopic}, access: access{byTopic: true}, streams: true},
		{name: "stream_tickets", paths: []string{"/v1/stream-tickets"}, methods: post(s.createTicket), access: access{byTopic: true}},
		{name: "subscriptions", paths: []string{"/v1/subscriptions"}, methods: get(s.listSubscriptions), access: access{own: true}},
		{name: "subscription", paths: []string{"/v1/subscriptions/:id"}, methods: map[string]http.HandlerFunc{
			http.MethodGet: s.getSubscription, http.MethodHead: s.getSubscription, http.MethodDelete: s.endSubscription}, access: ownSubscriptions},
		{name: "rewind", paths: []string{"/v1/subscriptions/:id/rewind"}, methods: post(s.rewindSubscription), access: ownSubscriptions},
		{name: "pause", paths: []string{"/v1/subscriptions/:id/pause"}, methods: post(s.pauseSubscription), access: ownSubscriptions},
		{name: "resume", paths: []string{"/v1/subscriptions/:id/resume"}, methods: post(s.resumeSubscription), access: ownSubscriptions},
		{name: "reassign", paths: []string{"/v1/subscriptions/reassign"}, methods: post(s.reassignSubscriptions), access: subscriptions},
		{name: "signature", paths: []string{"/v1/subscriptions/:id/signature"}, methods: map[string]http.HandlerFunc{http.MethodPut: s.setSignature}, access: subscriptions},
		{name: "topic_list", paths: []string{"/v1/topics"}, methods: get(s.listTopics), access: access{own: true}},
		{name: "topic", paths: []string{"/v1/topics/*"}, methods: map[string]http.HandlerFunc{
			http.MethodGet: s.getTopicItem, http.MethodHead: s.getTopicItem, http.MethodPut: s.putTopic}, access: access{changes: auth.ActionTopics, ownTopic: true}},
		{name: "dead_letters", paths: []string{"/v1/dead-letters"}, methods: get(s.listDeadLetters), access: ownLetters},
		{name: "dead_letter_export", paths: []string{"/v1/dead-letters/export"}, methods: get(s.exportDeadLetters), access: letters},
		{name: "dead_letter_replay", paths: []string{"/v1/dead-letters/replay"}, methods: post(s.replayDeadLetters), access: letters},
		{name: "dead_letter_drop", paths: []string{"/v1/dead-letters/drop"}, methods: post(s.dropDeadLetters), access: letters},
		{name: "dead_letter", paths: []string{"/v1/dead-letters/:id"}, methods: map[string]http.HandlerFunc{
			http.MethodGet: s.getDeadLetter, http.MethodHead: s.getDeadLetter, http.MethodDelete: s.dropDeadLetter}, access: ownLetters},
		{name: "dead_letter_replay_one", paths: []string{"/v1/dead-letters/:id/replay"}, methods: post(s.replayDeadLetter), access: letters},
		{name: "backup", paths: []string{"/v1/backup"}, methods: map[string]http.HandlerFunc{http.MethodGet: s.getBackup}, access: access{reads: auth.ActionBackup}},
		{name: "import", paths: []string{"/v1/import"}, methods: post(s.postImport), access: access{changes: auth.ActionImport}},
		{name: "openapi", paths: []string{"/v1/openapi.json"}, methods: get(s.getOpenAPI), access: access{public: true, limited: true}},
		{name: "health", paths: []string{"/health"}, methods: get(getHealth), access: access{public: true, anyHost: true}},
		{name: "live", paths: []string{"/health/live"}, methods: get(s.getLive), access: access{public: true, anyHost: true, details: true}},
		{name: "ready", paths: []string{"/health/ready"}, methods: get(s.getReady), access: access{public: true, anyHost: true, details: true}},
		{name: "metrics", paths: []string{"/metrics"}, methods: get(metricsHandler(s.Registry))},
		{name: "landing", paths: []string{"/"}, methods: get(s.getLanding), access: access{public: true, limited: true}},
	}
	routes = append(routes, append(s.clusterRoutes(), s.accessRoutes()...)...)
	routes = append(routes, s.messageRoutes()...)
	routes = append(routes, s.eventRoutes()...)
	routes = append(routes, s.keyRoutes()...)
	routes = append(routes, s.callbackRoutes()...)
	routes = append(routes, append(s.gatewayRoutes(), s.shareRoutes()...)...)
	routes = append(routes, append(s.loginRoutes(), s.consoleRoutes()...)...)
	if s.Profile != ProfileNative {
		routes = append(routes, s.compatRoutes()...)
	}
	if s.Profiling {
		routes = append(routes,
			&route{name: "pprof", paths: []string{"/debug/pprof/*"}, methods: get(pprof.Index), access: access{reads: auth.ActionCluster}},
			&route{name: "pprof", paths: []string{"/debug/pprof/profile"}, methods: get(unhurried(pprof.Profile)), access: access{reads: auth.ActionCluster}},
			&route{name: "pprof", paths: []string{"/debug/pprof/trace"}, methods: get(unhurried(pprof.Trace)), access: access{reads: auth.ActionCluster}})
	}
	s.prepare(routes)
	return routes
}

// prepare makes reads of replicated state wait as their query asks, and lists each route's methods.
func (s *Server) prepare(routes []*route) {
	for _, rt := range routes {
		if readsState(rt.paths[0]) {
			for _, m := range []string{http.MethodGet, http.MethodHead} {
				if read := rt.methods[m]; read != nil {
					rt.methods[m] = s.freshEnough(read)
				}
			}
		}
		allowed := []string{http.MethodOptions}
		for m := range rt.methods {
			allowed = append(allowed, m)
		}
		if rt.every != nil {
			allowed = append(allowed, http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPatch, http.MethodPost, http.MethodPut)
		}
		slices.Sort(allowed)
		rt.allow = strings.Join(allowed, ", ")
	}
}

// Routes lists the routes as "GET /v1/subscriptions/{id}", without HEAD, OPTIONS, profiling, the pages for people, and the paths of the
// protocols for logging in that are not below /v1: their standards and their discovery document describe those.
func (s *Server) Routes() []string {
	var out []string
	for _, rt := range s.routes {
		if rt.name == "pprof" || rt.access.page {
			continue
		}
		for _, path := range rt.paths {
			if rt.name == "login" && !strings.HasPrefix(path, "/v1/") {
				continue
			}
			path = strings.NewReplacer(":id", "{id}", ":name", "{name}", "/v1/auth/quotas/*", "/v1/auth/quotas/{name}", "/topics/*", "/topics/{name}", "/v1/topics/*", "/v1/topics/{name}").Replace(path)
			for m := range rt.methods {
				if m != http.MethodHead {
					out = append(out, m+" "+path)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// serve admits the request and calls the route's handler for its method.
func (s *Server) serve(rt *route, w http.ResponseWriter, r *http.Request) {
	x, _ := w.(*exchange)
	x.route = rt
	if !rt.access.page {
		s.allowOrigin(x, r, rt)
	}
	h := rt.methods[r.Method]
	if rt.every != nil && !isPreflight(r) {
		h = rt.every
	}
	if h != nil {
		r, err := s.admit(x, r, rt)
		if err != nil {
			s.turnAway(rt, w, r, err)
			return
		}
		h(w, r)
		return
	}
	if r.Method == http.MethodOptions {
		w.Header().Set("Allow", rt.allow)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	detail := "is " + problem.Quote(r.Method) + "; " + rt.paths[0] + " accepts " + rt.allow
	if rt.name == "hub" {
		detail = "is " + problem.Quote(r.Method) + "; this is the WebSub hub, which accepts POST (https://www.w3.org/TR/websub/)"
	}
	writeProblem(w, r, &problem.Details{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Param: "method", Detail: detail, Allow: rt.allow})
}

// newRouter builds the echo router. Nothing else uses echo.
func (s *Server) newRouter() http.Handler {
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect()
	e.SchemeExtractor = echo.ExtractSchemeDirect()
	for _, rt := range s.routes {
		h := func(c echo.Context) error {
			s.serve(rt, c.Response().Writer, c.Request())
			return nil
		}
		for _, path := range rt.paths {
			e.Any(path, h)
		}
	}
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		p := &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "path",
			Detail: problem.Quote(c.Request().URL.Path) + " does not exist; see / for an overview"}
		var he *echo.HTTPError
		if errors.As(err, &he) && he.Code == http.StatusMethodNotAllowed {
			p = &problem.Details{Status: he.Code, Code: "method_not_allowed", Param: "method", Detail: "is " + problem.Quote(c.Request().Method) + ", which is unknown"}
		}
		writeProblem(c.Response().Writer, c.Request(), p)
	}
	return e
}
