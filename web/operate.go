package web

import (
	"encoding/json"
	"net/http"
	"strings"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// subscriptionInPath returns the ID in /v1/subscriptions/<id> and below.
func subscriptionInPath(r *http.Request) (hub.SubscriptionID, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/subscriptions/"), "/")
	kind, n, ok := parseID(id)
	if !ok || kind != 's' {
		return 0, noSubscription(id)
	}
	return hub.SubscriptionID(n), nil
}

func noSubscription(id string) *problem.Details {
	return &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "id",
		Detail: problem.Quote(id) + " is not a subscription of this hub; expected an ID such as s-17"}
}

// rewindAnswer is the result of a rewind or, with dry_run, what the result would be.
type rewindAnswer struct {
	ID         string `json:"id"`
	NextOffset uint64 `json:"next_offset"`
	SentAgain  uint64 `json:"sent_again"`
	Skipped    uint64 `json:"skipped"`
	DryRun     bool   `json:"dry_run"`
}

// rewindSubscription moves a cursor: {"to": "earliest"}, where to takes the values of hub.start.
func (s *Server) rewindSubscription(w http.ResponseWriter, r *http.Request) {
	id, err := subscriptionInPath(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	to, dryRun, err := s.readRewind(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	done, err := s.Service.Rewind(r.Context(), s.Times, id, to, dryRun)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, rewindAnswer{id.String(), done.From, done.Again, done.Skipped, dryRun})
}

func (s *Server) readRewind(w http.ResponseWriter, r *http.Request) (to hub.Position, dryRun bool, err error) {
	const expected = `expected JSON such as {"to": "earliest", "dry_run": true}`
	var in struct {
		To     json.RawMessage `json:"to"`
		DryRun bool            `json:"dry_run"`
	}
	if err := s.readJSON(w, r, maxShortJSONBytes, &in, expected); err != nil {
		return to, false, err
	}
	if len(in.To) == 0 {
		return to, false, hub.ParamErrorf("to", "is missing; %s", expected)
	}
	text := string(in.To) // an offset may be a number or a string
	if in.To[0] == '"' {
		if err := json.Unmarshal(in.To, &text); err != nil {
			return to, false, hub.ParamErrorf("to", "cannot be decoded (%s); %s", problem.OneLine(err.Error()), expected)
		}
	}
	to, err = hub.ParsePosition("to", text)
	return to, in.DryRun, err
}

// pauseSubscription and resumeSubscription answer with the subscription after the change.
func (s *Server) pauseSubscription(w http.ResponseWriter, r *http.Request)  { s.setPaused(w, r, true) }
func (s *Server) resumeSubscription(w http.ResponseWriter, r *http.Request) { s.setPaused(w, r, false) }

func (s *Server) setPaused(w http.ResponseWriter, r *http.Request, paused bool) {
	id, err := subscriptionInPath(r)
	if err == nil {
		err = s.Service.Pause(r.Context(), id, paused)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.showSubscription(w, r, id.String())
}

// setSignature sets the signature method of a subscription: {"method": "sha1"}. It answers with the subscription after the change.
func (s *Server) setSignature(w http.ResponseWriter, r *http.Request) {
	const expected = `expected JSON such as {"method": "sha1"}; an empty method leaves the choice to the subscriber and the hub`
	var in struct {
		Method *string `json:"method"`
	}
	id, err := subscriptionInPath(r)
	if err == nil {
		err = s.readJSON(w, r, maxShortJSONBytes, &in, expected)
	}
	if err == nil && in.Method == nil {
		err = hub.ParamErrorf("method", "is missing; %s", expected)
	}
	if err == nil {
		err = s.Service.SetSignature(r.Context(), id, *in.Method)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.showSubscription(w, r, id.String())
}

// endSubscription ends a subscription and notifies its callback (WebSub 5.2).
func (s *Server) endSubscription(w http.ResponseWriter, r *http.Request) {
	id, err := subscriptionInPath(r)
	if err == nil {
		err = s.Service.End(r.Context(), id)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
