package web

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strconv"

	"quorumhub/hub"
)

// compatRoutes are the routes that tools of Ballerina and MOSIP hubs poll, served from this hub's state.
func (s *Server) compatRoutes() []*route {
	get := func(h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodGet: h, http.MethodHead: h}
	}
	routes := []*route{
		{name: "snapshot", paths: []string{"/consolidator/state-snapshot"}, methods: get(s.getStateSnapshot)},
		{name: "subscription_status", paths: []string{"/consolidator/subscriptions/status"}, methods: get(s.getSubscriptionStatus)},
		{name: "up", paths: []string{"/hub/actuator/health", "/consolidator/actuator/health"}, methods: get(s.getUp), access: access{public: true}},
	}
	if s.Profile == ProfileMOSIP {
		// Public, because it requires the subscriber's own signature.
		pull := map[string]http.HandlerFunc{http.MethodGet: s.getFailedContent}
		routes = append(routes, &route{name: "failed_content", paths: []string{"/websub/sync/failedmessage"}, methods: pull, access: access{public: true, limited: true}})
	}
	return routes
}

// snapshotPage is how many rows are read under one lock.
const snapshotPage = 1000

// getStateSnapshot writes topics and subscriptions in a consolidator's format, without secrets.
func (s *Server) getStateSnapshot(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	out := bufio.NewWriterSize(w, 64<<10)
	// Write errors are sticky and mean that the client is gone.
	defer func() { _ = out.Flush() }()
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	first := true
	item := func(v any) error {
		if !first {
			_, _ = out.WriteString(",")
		}
		first = false
		return enc.Encode(v)
	}
	_, _ = out.WriteString(`{"topics":[`)
	for after := hub.TopicID(0); ; {
		var topics []hub.Topic
		s.State.View(func(st *hub.State) { topics = st.Topics(after, snapshotPage) })
		for _, t := range topics {
			after = t.ID
			if item(map[string]string{"topic": t.Name, "hubMode": "register"}) != nil {
				return
			}
		}
		if len(topics) < snapshotPage {
			break
		}
	}
	_, _ = out.WriteString(`],"subscriptions":[`)
	first = true
	for after := hub.SubscriptionID(0); ; {
		var subs []hub.Subscription
		s.State.View(func(st *hub.State) { subs = st.Subscriptions(after, snapshotPage, nil) })
		for i := range subs {
			after = subs[i].ID
			if item(s.snapshotItem(&subs[i])) != nil {
				return
			}
		}
		if len(subs) < snapshotPage {
			break
		}
	}
	_, _ = out.WriteString("]}\n")
}

func (s *Server) snapshotItem(sub *hub.Subscription) map[string]any {
	item := map[string]any{}
	for _, f := range sub.Extra {
		item[f.Name] = f.Value
	}
	item["verificationSuccess"] = true
	item["hub"] = s.hubURL
	item["hubMode"] = "subscribe"
	item["hubCallback"] = sub.Callback
	item["hubTopic"] = sub.TopicName
	item["hubLeaseSeconds"] = strconv.FormatInt(sub.LeaseSeconds, 10)
	item["hubSecret"] = nil
	item["SERVER_ID"] = sub.Assignment.Node
	item["status"] = s.compatStatus(sub)
	return item
}

// compatStatus is "active", or "stale" for a subscription that receives nothing now. A stale one recovers by itself.
func (s *Server) compatStatus(sub *hub.Subscription) string {
	if sub.Cursor.FailingSince != 0 || sub.Expired(s.Clock.Now()) {
		return "stale"
	}
	return "active"
}

// getSubscriptionStatus shows the status of the subscription of a topic and callback.
func (s *Server) getSubscriptionStatus(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name, err := s.Service.Namer().Name("topic", q.Get("topic"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var sub hub.Subscription
	var ok bool
	s.State.View(func(st *hub.State) { sub, ok = st.SubscriptionByKey(name, hub.NormalizeURL(q.Get("callback"))) })
	if !ok {
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "Subscription not found for the given topic and callback"})
		return
	}
	writeStatus(w, http.StatusOK, s.compatStatus(&sub))
}
