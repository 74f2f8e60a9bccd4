package web

import (
	"net/http"
	"net/url"
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
			name, err := q.topicName(s.Service.Namer())
			batch := false
			if err == nil {
				batch, err = q.isBatch()
			}
			if batch {
				s.publishBatch(w, r, name)
				return
			}
			if err == nil {
				s.queries.put(raw, name)
			}
			s.publish(w, r, name, err)
			return
		}
		strayMode = q.modes > 0
	}
	start := time.Now()
	form, err := s.readForm(w, r)
	if strayMode && len(form["hub.mode"]) == 0 {
		// The client put the request in the query instead of the body.
		err = hub.ParamErrorf("hub.mode", "is in the query; expected the parameters in the form body (%s)", formType)
	}
	mode := ""
	if err == nil {
		mode, err = modeOf(form)
	}
	if limited := s.spend(w, r, classOfMode(mode)); limited != nil {
		err = limited
	}
	if err == nil {
		err = s.dispatch(s.withCaller(w, r), mode, form)
	}
	if err != nil {
		p := s.fail(w, r, err)
		s.metrics.hubRequest(mode, p, start)
		return
	}
	s.metrics.hubRequest(mode, nil, start)
	switch mode {
	case "publish":
		w.WriteHeader(http.StatusNoContent)
	case "register", "deregister":
		writeAccepted(w)
	default:
		// Identical for every accepted request, because it must not anticipate the verification (WebSub 5.1.2).
		h := w.Header()
		h["Content-Type"] = []string{"text/plain; charset=utf-8"}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte("accepted; the callback will be asked to confirm\n"))
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

// withCaller attaches an anonymous caller to the request unless a Guard has already attached one.
func (s *Server) withCaller(w http.ResponseWriter, r *http.Request) *http.Request {
	if s.Guard != nil {
		return r
	}
	return r.WithContext(auth.WithCaller(r.Context(), auth.Caller{Principal: auth.Anonymous(), Client: clientAt(w)}))
}

func (s *Server) dispatch(r *http.Request, mode string, form url.Values) error {
	ctx := r.Context()
	switch mode {
	case "subscribe", "unsubscribe":
		return s.Service.Subscribe(ctx, form)
	case "publish":
		return s.Service.Ping(ctx, form)
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
