package web

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// sessionRoutes are the routes about who has logged in.
func (s *Server) sessionRoutes(of access) []*route {
	own := of
	own.own = true
	ownReads := of
	ownReads.ownReads = true
	const get, post = http.MethodGet, http.MethodPost
	return []*route{
		{name: "sessions", paths: []string{"/v1/auth/sessions"}, access: ownReads, methods: map[string]http.HandlerFunc{get: s.listSessions}},
		{name: "session", paths: []string{"/v1/auth/sessions/:id"}, access: own, methods: map[string]http.HandlerFunc{http.MethodDelete: s.endSession}},
		{name: "end_sessions", paths: []string{"/v1/auth/sessions/end"}, access: of, methods: map[string]http.HandlerFunc{post: s.endSessions}},
	}
}

type sessionItem struct {
	ID        string       `json:"id"`
	Principal string       `json:"principal"`
	Name      string       `json:"name,omitempty"`
	Client    string       `json:"client,omitempty"`
	Passed    []passedItem `json:"passed"`
	StartedAt *time.Time   `json:"started_at"`
	EndsAt    *time.Time   `json:"ends_at"`
}

type passedItem struct {
	Authenticator string     `json:"authenticator"`
	At            *time.Time `json:"at"`
}

func sessionItemOf(o *hub.Session) sessionItem {
	item := sessionItem{ID: hex.EncodeToString(o.ID[:]), Principal: o.Principal, Name: o.Name, Client: o.Client, Passed: []passedItem{},
		StartedAt: moment(o.Started), EndsAt: moment(o.Ends)}
	for i := range o.Passed {
		item.Passed = append(item.Passed, passedItem{o.Passed[i].Authenticator, moment(o.Passed[i].At)})
	}
	return item
}

// listSessions lists all sessions to operators, and to other principals their own. Pages may be shorter than asked for.
func (s *Server) listSessions(w http.ResponseWriter, r *http.Request) {
	values, err := parseURLQuery(r.URL.RawQuery)
	if err == nil {
		err = onlyParams(values, "limit", "cursor", "principal", "authenticator")
	}
	limit := defaultLimit
	if err == nil {
		limit, err = limitOf(values)
	}
	var after hub.SessionID
	if v := values.Get("cursor"); err == nil && v != "" {
		raw, derr := hex.DecodeString(v)
		if derr != nil || len(raw) != len(after) {
			err = hub.ParamErrorf("cursor", "is %s; expected the next of an earlier page", problem.Quote(v))
		}
		copy(after[:], raw)
	}
	var found []hub.Session
	var next hub.SessionID
	if err == nil {
		found, next, err = s.findSessions(r.Context(), values.Get("principal"), values.Get("authenticator"), after, limit)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := page[sessionItem]{Items: []sessionItem{}}
	for i := range found {
		out.Items = append(out.Items, sessionItemOf(&found[i]))
	}
	if next != (hub.SessionID{}) {
		out.Next = hex.EncodeToString(next[:])
	}
	writeJSON(w, http.StatusOK, out)
}

// findSessions is sessions of those that the caller may see.
func (s *Server) findSessions(ctx context.Context, principal, authenticator string, after hub.SessionID, limit int) ([]hub.Session, hub.SessionID, error) {
	ids, whose := s.whoseSessions(ctx, principal)
	if !whose {
		return nil, hub.SessionID{}, &problem.Details{Status: http.StatusForbidden, Code: "forbidden", Param: "principal", Detail: "is another principal; its sessions are for operators (admin.auth)"}
	}
	found, next := s.sessions(ids, authenticator, after, limit)
	return found, next, nil
}

// whoseSessions returns the principals whose sessions the caller asks for, which are one: nil for everybody's. ok is false if they are
// not for the caller.
func (s *Server) whoseSessions(ctx context.Context, principal string) (ids []string, ok bool) {
	caller := auth.CallerOf(ctx).Principal
	_, all := s.onlyOwner(ctx)
	switch {
	case principal != "" && !all && !caller.Is(principal):
		return nil, false
	case principal != "":
		return s.onePrincipal(principal), true
	case all:
		return nil, true
	}
	return s.onePrincipal(caller.ID), true
}

// onePrincipal returns the IDs that are the same principal as id, which is among them.
func (s *Server) onePrincipal(id string) []string {
	if s.Guard == nil {
		return []string{id}
	}
	return s.Guard.Linked(id)
}

// sessions returns at most limit sessions after an ID, and that after which there may be more; zero: there are none.
func (s *Server) sessions(principals []string, authenticator string, after hub.SessionID, limit int) (out []hub.Session, next hub.SessionID) {
	f := hub.SessionFilter{Authenticator: authenticator}
	if principals == nil {
		more := false
		s.State.View(func(st *hub.State) { out, next, more = st.Sessions(f, after, limit) })
		if !more {
			next = hub.SessionID{}
		}
		return out, next
	}
	for _, f.Principal = range principals {
		for at, more := after, true; more; {
			var some []hub.Session
			s.State.View(func(st *hub.State) { some, at, more = st.Sessions(f, at, limit) })
			out = append(out, some...)
		}
	}
	slices.SortFunc(out, func(a, b hub.Session) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if len(out) > limit {
		return out[:limit], out[limit-1].ID
	}
	return out, hub.SessionID{}
}

// minSessionDigits is how many digits name a session.
const minSessionDigits = 12

// endSession ends one session: the path has its ID, or the first twelve digits or more.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) {
	if err := s.endOneSession(r.Context(), strings.TrimPrefix(r.URL.Path, "/v1/auth/sessions/"), principalName(r)); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// endOneSession ends the session of the caller, or for an operator of anybody, whose ID begins with text.
func (s *Server) endOneSession(ctx context.Context, text, by string) error {
	raw, err := hex.DecodeString(text[:len(text)/2*2])
	if err != nil || len(text) < minSessionDigits || len(text) > 2*len(hub.SessionID{}) {
		return hub.ParamErrorf("id", "is %s; expected %d to %d hexadecimal digits, as GET /v1/auth/sessions lists them", problem.Quote(text), minSessionDigits, 2*len(hub.SessionID{}))
	}
	var found []hub.Session
	s.State.View(func(st *hub.State) { found = st.SessionsByPrefix(raw) })
	found = slices.DeleteFunc(found, func(o hub.Session) bool {
		return !strings.HasPrefix(hex.EncodeToString(o.ID[:]), strings.ToLower(text)) || !s.owns(ctx, o.Principal)
	})
	switch len(found) {
	case 0:
		return &hub.Error{Code: hub.CodeNotFound, Param: "id", Message: problem.Quote(text) + " is no session, or it has ended"}
	case 1:
	default:
		return hub.Errorf(hub.CodeConflict, "several sessions begin with %s; give more digits", problem.Quote(text))
	}
	one := &found[0]
	auth.Note(ctx, "session", one.ID.String())
	auth.Note(ctx, "principal", one.Principal)
	ev := &hub.EndingSessions{IDs: []hub.SessionID{one.ID}, Reason: hub.SessionOperator, By: by}
	if auth.CallerOf(ctx).Principal.Is(one.Principal) {
		ev.Reason = hub.SessionLogout
	}
	_, err = s.Service.EndSessions(ctx, ev)
	return err
}

// endSessions ends the sessions of a principal, those that have passed an authenticator, or all.
func (s *Server) endSessions(w http.ResponseWriter, r *http.Request) {
	const expected = `expected JSON such as {"principal": "issuer:corp/alice"}, {"authenticator": "corp"} or {"all": true}`
	var in struct {
		Principal     string `json:"principal"`
		Authenticator string `json:"authenticator"`
		All           bool   `json:"all"`
	}
	err := s.readJSON(w, r, maxShortJSONBytes, &in, expected)
	n := 0
	if err == nil {
		auth.Note(r.Context(), "principal", in.Principal)
		auth.Note(r.Context(), "authenticator", in.Authenticator)
		auth.Note(r.Context(), "all", strconv.FormatBool(in.All))
		n, err = s.endThem(r, &hub.EndingSessions{Filter: hub.SessionFilter{Principal: in.Principal, Authenticator: in.Authenticator}, All: in.All})
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	auth.Note(r.Context(), "sessions", strconv.Itoa(n))
	writeJSON(w, http.StatusOK, struct {
		Ended int `json:"sessions_ended"`
	}{n})
}

// endThem ends sessions, of a principal under all its IDs. None is no error.
func (s *Server) endThem(r *http.Request, e *hub.EndingSessions) (ended int, err error) {
	ids := []string{e.Filter.Principal}
	if e.Filter.Principal != "" {
		ids = s.onePrincipal(e.Filter.Principal)
	}
	e.Reason, e.By = hub.SessionOperator, principalName(r)
	for _, e.Filter.Principal = range ids {
		n, err := s.Service.EndSessions(r.Context(), e)
		if err != nil && hub.CodeOf(err) != hub.CodeNotFound {
			return ended, err
		}
		ended += n
	}
	return ended, nil
}

// endSessionsOf ends the sessions that a principal has, if it has any.
func (s *Server) endSessionsOf(r *http.Request, id string) (ended int, err error) {
	has := 0
	s.State.View(func(st *hub.State) {
		for _, one := range s.onePrincipal(id) {
			has += st.SessionsOf(one)
		}
	})
	if has == 0 {
		return 0, nil
	}
	return s.endThem(r, &hub.EndingSessions{Filter: hub.SessionFilter{Principal: id}})
}
