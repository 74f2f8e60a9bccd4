package web

import (
	"net/http"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
)

// callbackRoutes are the routes of the credentials that operators set for callbacks. Secrets go in and never come out.
func (s *Server) callbackRoutes() []*route {
	of := access{reads: auth.ActionSubscriptions, changes: auth.ActionSubscriptions}
	return []*route{
		{name: "callback_credentials", paths: []string{"/v1/callback-credentials"}, access: of, methods: map[string]http.HandlerFunc{
			http.MethodGet: s.listCallbackCredentials, http.MethodPut: s.putCallbackCredentials, http.MethodDelete: s.deleteCallbackCredentials}},
	}
}

type callbackCredentialsItem struct {
	Callback string     `json:"callback"`
	Kind     string     `json:"kind"`
	Headers  []string   `json:"headers"`
	SetAt    *time.Time `json:"set_at,omitempty"`
	SetBy    string     `json:"set_by,omitempty"`
}

func (s *Server) listCallbackCredentials(w http.ResponseWriter, _ *http.Request) {
	var all []hub.CallbackCredentials
	s.State.View(func(st *hub.State) { all = st.CallbackCredentials() })
	items := make([]callbackCredentialsItem, 0, len(all))
	for _, c := range all {
		items = append(items, callbackCredentialsItem{Callback: c.Pattern, Kind: c.Kind, Headers: orEmpty(c.Headers),
			SetAt: moment(time.Unix(0, c.SetAt).UTC()), SetBy: c.By})
	}
	writeJSON(w, http.StatusOK, map[string]any{"items": items, "next": ""})
}

func (s *Server) putCallbackCredentials(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Callback string `json:"callback"`
		hub.Credentials
	}
	err := s.readJSON(w, r, maxJSONBytes, &in, `expected JSON such as {"callback": "hooks.example.org", "headers": {"X-Api-Key": "..."}}, with basic, bearer or oauth2`)
	pattern := ""
	if err == nil {
		pattern, err = s.Service.SetCallbackCredentials(r.Context(), in.Callback, in.Credentials, principalName(r))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	auth.Note(r.Context(), "callback", pattern)
	names := make([]string, 0, len(in.Headers))
	s.State.View(func(st *hub.State) {
		for _, c := range st.CallbackCredentials() {
			if c.Pattern == pattern {
				names = append(names, c.Headers...)
			}
		}
	})
	writeJSON(w, http.StatusOK, callbackCredentialsItem{Callback: pattern, Kind: in.Kind(), Headers: names})
}

func (s *Server) deleteCallbackCredentials(w http.ResponseWriter, r *http.Request) {
	if err := s.Service.RemoveCallbackCredentials(r.Context(), r.URL.Query().Get("callback"), principalName(r)); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
