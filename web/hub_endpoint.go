package web

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// postHub is the hub endpoint. With hub.mode=publish in the query it publishes the body as content; all other requests are forms
// in the body (WebSub 5.1).
func (s *Server) postHub(w http.ResponseWriter, r *http.Request) {
	strayMode := false
	if raw := r.URL.RawQuery; raw != "" {
		if name := s.queries.get(raw); name != "" {
			s.publish(w, r, name, nil)
			return
		}
		q := parseQuery(raw)
		if q.mode == "publish" {
			version := s.Service.Namer().Version()
			name, err := q.topicName(s.Service.Namer(), r.Host)
			batch := false
			if err == nil {
				batch, err = q.isBatch()
			}
			if batch {
				s.publishBatch(w, r, name)
				return
			}
			if err == nil {
				s.queries.put(raw, name, version)
			}
			s.publish(w, r, name, err)
			return
		}
		strayMode = q.modes > 0
	}
	start := time.Now()
	var form url.Values
	err := s.mayAsk(r)
	if err == nil {
		form, err = s.readForm(w, r, maxFormBytes)
	}
	if strayMode && len(form["hub.mode"]) == 0 {
		// The client put the request in the query instead of the body.
		err = hub.ParamErrorf("hub.mode", "is in the query; expected the parameters in the form body (%s)", formType)
	}
	mode := ""
	if err == nil {
		mode, err = modeOf(form)
	}
	if limited := s.spend(w, classOfMode(mode)); limited != nil {
		err = limited
	}
	var refused []hub.PingedTopic
	switch {
	case err != nil:
	case mode == "publish":
		refused, err = s.Service.Ping(s.withCaller(w, r).Context(), r.Host, form)
	default:
		err = s.dispatch(w, s.withCaller(w, r), mode, form)
	}
	if err != nil {
		p := s.fail(w, r, err)
		s.metrics.hubRequest(mode, p, start)
		return
	}
	s.metrics.hubRequest(mode, nil, start)
	switch mode {
	case "publish":
		s.writePinged(w, refused)
	case "register", "deregister":
		writeAccepted(w)
	default:
		// Identical for every accepted request, because it must not anticipate the verification (WebSub 5.1.2).
		h := w.Header()
		s.tellLease(h, mode, form)
		h["Content-Type"] = []string{"text/plain; charset=utf-8"}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte("accepted; the callback will be asked to confirm\n"))
	}
}

// mayAsk refuses a caller who may do nothing that a form can ask for, before the form is read.
func (s *Server) mayAsk(r *http.Request) error {
	if s.Guard == nil {
		return nil
	}
	owns := false
	if p := auth.CallerOf(r.Context()).Principal; p.ID != "" {
		s.State.View(func(st *hub.State) { owns = st.OwnsTopics(p.ID) })
	}
	if owns {
		return nil // whoever owns a topic may deregister it
	}
	return s.Guard.AllowSome(r.Context(), auth.ActionSubscribe, auth.ActionUnsubscribe, auth.ActionPublish, auth.ActionRegister, auth.ActionDeregister, auth.ActionTopics)
}

// leaseHeader tells a subscriber which lease it will be asked to confirm, since that may differ from its wish.
const leaseHeader = "X-Hub-Lease-Seconds"

func (s *Server) tellLease(h http.Header, mode string, form url.Values) {
	if mode != "subscribe" {
		return
	}
	if seconds, err := s.Service.Policy().Leases.Grant(form.Get("hub.lease_seconds")); err == nil {
		h[leaseHeader] = []string{strconv.FormatInt(seconds, 10)}
	}
}

// classOfMode returns the class of a form. Invalid forms count as requests to subscribe.
func classOfMode(mode string) class {
	switch mode {
	case "publish":
		return classPublish
	case "register", "deregister":
		return classAdmin
	}
	return classSubscribe
}

// modeOf returns the form's hub.mode, with the alias unregister resolved.
func modeOf(form url.Values) (string, error) {
	const param, expected = "hub.mode", "expected subscribe, unsubscribe, publish, register or deregister"
	v := form[param]
	switch {
	case len(v) == 0 || len(v) == 1 && v[0] == "":
		return "", hub.ParamErrorf(param, "is missing or empty; %s", expected)
	case len(v) > 1:
		return "", hub.ParamErrorf(param, "is given %d times; expected once", len(v))
	}
	switch v[0] {
	case "subscribe", "unsubscribe", "publish", "register", "deregister":
		return v[0], nil
	case "unregister":
		return "deregister", nil
	}
	return "", hub.ParamErrorf(param, "is %s; %s", problem.Quote(v[0]), expected)
}

// refusedPing describes a topic that was not announced, to a publisher that named several.
type refusedPing struct {
	Topic  string `json:"topic"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// writePinged answers a ping: 204, which some publishers take for the only success, or 207 with the topics that were not announced.
func (s *Server) writePinged(w http.ResponseWriter, refused []hub.PingedTopic) {
	if len(refused) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	list := make([]refusedPing, len(refused))
	for i, t := range refused {
		p := s.accessProblem(t.Err)
		if p == nil {
			p = problem.Of(t.Err)
		}
		if p == nil {
			p = problem.Internal(idOf(w))
			s.Log.Error("ping failed", "error", t.Err, "correlation_id", idOf(w))
		}
		list[i] = refusedPing{problem.OneLine(t.URL), p.Status, p.Code, problem.OneLine(p.Error())}
	}
	writeJSON(w, http.StatusMultiStatus, struct {
		Refused []refusedPing `json:"refused"`
	}{list})
}

// withCaller attaches an anonymous caller to the request unless a Guard has already attached one.
func (s *Server) withCaller(w http.ResponseWriter, r *http.Request) *http.Request {
	if s.Guard != nil {
		return r
	}
	return r.WithContext(auth.WithCaller(r.Context(), auth.Caller{Principal: auth.Anonymous(), Client: clientAt(w)}))
}

func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, mode string, form url.Values) error {
	ctx := r.Context()
	for _, raw := range form["hub.topic"] {
		if err := s.Service.Namer().CheckHost("hub.topic", raw, r.Host); err != nil {
			return err
		}
	}
	switch mode {
	case "subscribe", "unsubscribe":
		auth.NoteURL(ctx, "callback", form.Get("hub.callback"))
		id, err := s.Service.Subscribe(ctx, form)
		if err == nil {
			w.Header()[requestHeader] = []string{id.String()}
			s.noticeOfNamed(w.Header(), form.Get("hub.topic"))
		}
		return err
	}
	topic, err := hub.ParseTopicForm(form, s.Service.Namer())
	if err != nil {
		return err
	}
	if mode == "register" {
		return s.Service.Register(ctx, topic)
	}
	return s.Service.Deregister(ctx, topic)
}
