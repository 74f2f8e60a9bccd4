package web

import (
	"net/http"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// requestHeader carries the ID under which GET /v1/requests shows an accepted subscribe or unsubscribe request.
const requestHeader = "X-Hub-Request-Id"

const stateFailed = "failed"

// requestItem is a subscribe or unsubscribe request that awaits its verification, or that failed within the last hour.
type requestItem struct {
	ID          string     `json:"id"`
	Mode        string     `json:"mode"`
	Topic       string     `json:"topic"`
	Callback    string     `json:"callback"`
	State       string     `json:"state"`    // pending or failed
	Reason      string     `json:"reason"`   // class of the failure, empty while pending
	Status      int32      `json:"status"`   // last HTTP status of the callback; 0: none
	Attempts    uint32     `json:"attempts"` // calls of the callback
	RequestedAt *time.Time `json:"requested_at"`
	SettledAt   *time.Time `json:"settled_at"` // null while pending
	Owner       string     `json:"owner,omitempty"`
	// Repeatable: it can be asked again as it was.
	Repeatable bool `json:"repeatable"`
}

// requestInPath returns the ID in /v1/requests/<id>/ask.
func requestInPath(r *http.Request) (hub.RequestID, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/requests/"), "/")
	kind, n, ok := parseID(id)
	if !ok || kind != 'r' {
		return 0, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "id", Detail: problem.Quote(id) + " is not a request of this hub; expected an ID such as r-17"}
	}
	return hub.RequestID(n), nil
}

// listRequests lists pending and failed requests, the latest first: an operator's list has all, and other principals' their own.
func (s *Server) listRequests(w http.ResponseWriter, r *http.Request) {
	q, values, err := s.parseList(r, "r", "topic", "callback", "state", "mine")
	if err == nil {
		q.owner, q.all, err = s.listedOwner(r.Context(), values)
	}
	state := values.Get("state")
	if err == nil && state != "" && state != statePending && state != stateFailed {
		err = hub.ParamErrorf("state", "is %s; expected %s or %s", problem.Quote(state), statePending, stateFailed)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := hub.RequestFilter{Topic: q.topic, CallbackKey: q.callbackKey, Owner: q.owner, All: q.all}
	var pending []hub.Request
	var failed []hub.FailedRequest
	s.State.View(func(st *hub.State) {
		if state != stateFailed {
			pending = st.PendingRequests(f, hub.RequestID(q.after), q.limit+1)
		}
		if state != statePending {
			failed = st.FailedRequests(f, hub.RequestID(q.after), q.limit+1)
		}
	})
	out := page[requestItem]{Items: []requestItem{}}
	for len(out.Items) <= q.limit && len(pending)+len(failed) > 0 {
		if len(failed) == 0 || len(pending) > 0 && pending[0].ID > failed[0].ID {
			out.Items = append(out.Items, pendingRequest(&pending[0]))
			pending = pending[1:]
			continue
		}
		out.Items = append(out.Items, failedRequest(&failed[0]))
		failed = failed[1:]
	}
	if len(out.Items) > q.limit {
		out.Items = out.Items[:q.limit]
		out.Next = out.Items[q.limit-1].ID
	}
	writeJSON(w, http.StatusOK, out)
}

func pendingRequest(r *hub.Request) requestItem {
	return requestItem{ID: r.ID.String(), Mode: r.ModeName(), Topic: r.TopicName, Callback: r.Callback, State: statePending,
		RequestedAt: moment(r.RequestedAt), Owner: r.Owner, Repeatable: true}
}

func failedRequest(f *hub.FailedRequest) requestItem {
	return requestItem{ID: f.ID.String(), Mode: f.ModeName(), Topic: f.TopicName, Callback: f.Callback, State: stateFailed,
		Reason: f.Reason, Status: f.Status, Attempts: f.Attempts, RequestedAt: moment(f.RequestedAt), SettledAt: moment(f.SettledAt), Owner: f.Owner, Repeatable: f.Repeatable()}
}
