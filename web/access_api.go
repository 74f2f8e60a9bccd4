package web

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// accessRoutes are the routes under /v1/auth. They exist even without a Guard; what is set then takes effect once there is one.
func (s *Server) accessRoutes() []*route {
	of := access{reads: auth.ActionAuth, changes: auth.ActionAuth, byCredentials: true}
	own, ownReads := of, of
	own.own, ownReads.ownReads = true, true
	get, post := http.MethodGet, http.MethodPost
	return append(append(s.quotaRoutes(of), s.sessionRoutes(of)...), []*route{
		{name: "api_keys", paths: []string{"/v1/auth/keys"}, access: ownReads, methods: map[string]http.HandlerFunc{get: s.listAPIKeys, post: s.createAPIKey}},
		{name: "api_key", paths: []string{"/v1/auth/keys/:id"}, access: own, methods: map[string]http.HandlerFunc{http.MethodDelete: s.revokeAPIKey}},
		{name: "usage", paths: []string{"/v1/auth/usage"}, access: access{own: true}, methods: map[string]http.HandlerFunc{get: s.getUsage}},
		{name: "rules", paths: []string{"/v1/auth/rules"}, access: of, methods: map[string]http.HandlerFunc{get: s.listRules}},
		{name: "rule", paths: []string{"/v1/auth/rules/:name"}, access: of, methods: map[string]http.HandlerFunc{
			http.MethodPut: s.putRule, http.MethodDelete: s.deleteRule}},
		{name: "end_owner", paths: []string{"/v1/auth/end-owner"}, access: of, methods: map[string]http.HandlerFunc{post: s.endOwner}},
		{name: "explain", paths: []string{"/v1/auth/explain"}, access: access{reads: auth.ActionAuth, changes: auth.ActionAuth}, methods: map[string]http.HandlerFunc{post: s.explain}},
		{name: "whoami", paths: []string{"/v1/auth/whoami"}, access: access{byTopic: true}, methods: map[string]http.HandlerFunc{get: s.whoAmI}},
	}...)
}

type apiKeyItem struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Scopes    []string   `json:"scopes"`
	Roles     []string   `json:"roles"`
	CreatedAt *time.Time `json:"created_at,omitempty"`
	ExpiresAt *time.Time `json:"expires_at"`
	CreatedBy string     `json:"created_by,omitempty"`
	Owner     string     `json:"owner,omitempty"`
	Key       string     `json:"key,omitempty"` // only in the response that creates it
}

// listAPIKeys lists all keys to operators, and to other principals those that they created.
func (s *Server) listAPIKeys(w http.ResponseWriter, r *http.Request) {
	var keys []hub.APIKey
	s.State.View(func(st *hub.State) { keys = st.APIKeys() })
	items := make([]apiKeyItem, 0, len(keys))
	for _, k := range keys {
		if !s.owns(r.Context(), k.Owner) {
			continue
		}
		items = append(items, apiKeyItem{ID: k.ID, Name: k.Name, Scopes: orEmpty(k.Scopes), Roles: orEmpty(k.Roles),
			CreatedAt: moment(k.CreatedAt), ExpiresAt: moment(k.ExpiresAt), CreatedBy: k.By, Owner: k.Owner})
	}
	writeJSON(w, http.StatusOK, map[string]any{"items": items, "next": ""})
}

// orEmpty keeps an empty list from becoming null in JSON.
func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// createAPIKey creates a key and shows it once.
func (s *Server) createAPIKey(w http.ResponseWriter, r *http.Request) {
	const expected = `expected JSON such as {"name": "meter-1", "scopes": ["publish"], "expires_in": "720h"}`
	var in struct {
		Name      string   `json:"name"`
		Scopes    []string `json:"scopes"`
		Roles     []string `json:"roles"`
		ExpiresIn string   `json:"expires_in"`
	}
	if err := s.readJSON(w, r, maxJSONBytes, &in, expected); err != nil {
		s.fail(w, r, err)
		return
	}
	k := hub.APIKey{Name: in.Name, Scopes: in.Scopes, Roles: in.Roles, By: principalName(r)}
	err := checkKeyRequest(in.Name, in.Scopes, in.Roles)
	if err == nil && in.ExpiresIn != "" {
		d, perr := time.ParseDuration(in.ExpiresIn)
		if perr != nil || d <= 0 {
			err = hub.ParamErrorf("expires_in", "is %s; expected a positive duration such as 720h", problem.Quote(in.ExpiresIn))
		} else {
			k.ExpiresAt = s.Clock.Now().Add(d)
		}
	}
	var text string
	if err == nil {
		text, k.ID, k.Hash, err = auth.GenerateAPIKey()
	}
	if err == nil {
		auth.Note(r.Context(), "key", k.ID)
		auth.Note(r.Context(), "key_name", k.Name)
		err = s.Service.CreateAPIKey(r.Context(), k)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, apiKeyItem{ID: k.ID, Name: k.Name, Scopes: orEmpty(k.Scopes), Roles: orEmpty(k.Roles),
		ExpiresAt: moment(k.ExpiresAt), CreatedBy: k.By, Key: text})
}

func checkKeyRequest(name string, scopes, roles []string) error {
	if name == "" || len(name) > 128 || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return hub.ParamErrorf("name", "is %s; expected 1 to 128 printable characters that name the holder", problem.Quote(name))
	}
	for param, list := range map[string][]string{"scopes": scopes, "roles": roles} {
		if len(list) > 100 {
			return hub.ParamErrorf(param, "has %d entries; expected at most 100", len(list))
		}
		for _, v := range list {
			if v == "" || len(v) > 256 || strings.ContainsAny(v, " \t\r\n,") {
				return hub.ParamErrorf(param, "contains %s; expected words of at most 256 bytes", problem.Quote(v))
			}
		}
	}
	return nil
}

// revokeAPIKey revokes a key. The subscriptions that the key owns are paused, or ended with ?end_subscriptions=true.
func (s *Server) revokeAPIKey(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Path, "/v1/auth/keys/")
	values, err := parseURLQuery(r.URL.RawQuery)
	if err == nil {
		err = onlyParams(values, "end_subscriptions")
	}
	end := values.Get("end_subscriptions")
	if err == nil && end != "" && end != "true" && end != "false" {
		err = hub.ParamErrorf("end_subscriptions", "is %s; expected true or false", problem.Quote(end))
	}
	n := 0
	if err == nil {
		n, err = s.Service.RevokeAPIKey(r.Context(), id, principalName(r), end == "true")
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := struct {
		ID     string `json:"id"`
		Paused int    `json:"subscriptions_paused"`
		Ended  int    `json:"subscriptions_ended"`
	}{ID: id, Paused: n}
	if end == "true" {
		out.Paused, out.Ended = 0, n
	}
	auth.Note(r.Context(), "subscriptions", strconv.Itoa(n))
	writeJSON(w, http.StatusOK, out)
}

type ruleItem struct {
	auth.Rule
	Source string     `json:"source"` // file, or api
	SetAt  *time.Time `json:"set_at,omitempty"`
	SetBy  string     `json:"set_by,omitempty"`
}

func (s *Server) listRules(w http.ResponseWriter, _ *http.Request) {
	items := []ruleItem{}
	var stored []hub.AccessRule
	s.State.View(func(st *hub.State) { stored = st.AccessRules() })
	byName := map[string]hub.AccessRule{}
	for _, r := range stored {
		byName[r.Name] = r
	}
	var rules []auth.Rule
	if s.Guard != nil {
		rules = s.Guard.Rules()
	} else {
		rules = auth.StoredRules(stored)
	}
	for _, r := range rules {
		item := ruleItem{Rule: r, Source: "file"}
		if st, ok := byName[r.Name]; ok {
			item.Source, item.SetAt, item.SetBy = "api", moment(st.SetAt), st.By
		}
		items = append(items, item)
	}
	writeJSON(w, http.StatusOK, map[string]any{"items": items, "next": ""})
}

func (s *Server) putRule(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/v1/auth/rules/")
	var rule auth.Rule
	err := s.readJSON(w, r, maxJSONBytes, &rule, `expected JSON such as {"may": ["publish"], "topics": ["orders/**"], "who": [{"scope": "orders.write"}]}`)
	if err == nil && rule.Name != "" && rule.Name != name {
		err = hub.ParamErrorf("name", "is %s in the body and %s in the path; expected the same, or none in the body", problem.Quote(rule.Name), problem.Quote(name))
	}
	if err == nil {
		rule.Name = name
		check := rule.Check
		if s.Guard != nil {
			check = func() error { return s.Guard.CheckRule(&rule) }
		}
		if cerr := check(); cerr != nil {
			err = hub.ParamErrorf("rule", "%s", cerr.Error())
		}
	}
	if err == nil && s.Guard != nil && s.Guard.FromFile(name) {
		err = hub.Errorf(hub.CodeConflict, "rule %s is defined in auth.file; change it there, or choose another name", problem.Quote(name))
	}
	var text []byte
	if err == nil {
		text, err = json.Marshal(rule)
	}
	if err == nil {
		err = s.Service.SetAccessRule(r.Context(), hub.AccessRule{Name: name, Rule: text, By: principalName(r)})
	}
	if err == nil {
		err = s.pauseNotAllowed(r.Context(), principalName(r))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, rule)
}

func (s *Server) deleteRule(w http.ResponseWriter, r *http.Request) {
	err := s.Service.RemoveAccessRule(r.Context(), strings.TrimPrefix(r.URL.Path, "/v1/auth/rules/"), principalName(r))
	if err == nil {
		err = s.pauseNotAllowed(r.Context(), principalName(r))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// principalItem is a principal in requests and responses.
type principalItem struct {
	Method    auth.Method `json:"method"`
	ID        string      `json:"principal,omitempty"`
	Authority string      `json:"issuer,omitempty"`
	Subject   string      `json:"subject,omitempty"`
	Client    string      `json:"client,omitempty"`
	User      string      `json:"user,omitempty"`
	Scopes    []string    `json:"scopes,omitempty"`
	Roles     []string    `json:"roles,omitempty"`
}

func itemOf(p *auth.Principal) principalItem {
	return principalItem{p.Method, p.ID, p.Authority, p.Subject, p.Client, p.User, p.Scopes, p.Roles}
}

// whoAmI shows callers who they are to the hub.
func (s *Server) whoAmI(w http.ResponseWriter, r *http.Request) {
	if s.Guard != nil {
		if err := s.Guard.Settle(r.Context()); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	writeJSON(w, http.StatusOK, itemOf(auth.CallerOf(r.Context()).Principal))
}

// explain shows what the rules decide about an action, by the caller or by a given principal; or what the sequence of a service provider
// makes of a request's credentials.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Principal *principalItem `json:"principal"`
		Action    auth.Action    `json:"action"`
		Topic     string         `json:"topic"`
		Provider  string         `json:"service_provider"`
		Request   string         `json:"request"`
		Browser   bool           `json:"browser"`
	}
	err := s.readJSON(w, r, maxJSONBytes, &in, `expected JSON such as {"action": "publish", "topic": "orders", "principal": {"method": "token", "scopes": ["x"]}}, or {"service_provider": "console"}`)
	switch {
	case err != nil:
	case in.Provider != "" && (in.Action != "" || in.Topic != "" || in.Principal != nil):
		err = hub.ParamErrorf("service_provider", "is given with an action, a topic or a principal; expected one question at a time")
	case in.Provider != "":
		s.explainSequence(w, r, in.Provider, in.Request, in.Browser)
		return
	case in.Request != "" || in.Browser:
		err = hub.ParamErrorf("service_provider", "is missing; request and browser are about its sequence")
	case !in.Action.Known():
		err = hub.ParamErrorf("action", "is %s; expected %s", problem.Quote(string(in.Action)), auth.ActionNames())
	}
	name := in.Topic
	if err == nil && name != "" && strings.Contains(name, "://") {
		name, err = s.Service.Namer().Name("topic", in.Topic)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	p := auth.CallerOf(r.Context()).Principal
	if in.Principal != nil {
		p = &auth.Principal{Method: in.Principal.Method, ID: in.Principal.ID, Authority: in.Principal.Authority, Subject: in.Principal.Subject, Client: in.Principal.Client,
			User: in.Principal.User, Scopes: in.Principal.Scopes, Roles: in.Principal.Roles}
	}
	out := struct {
		Allowed   bool          `json:"allowed"`
		Reason    string        `json:"reason"`
		Rule      string        `json:"rule,omitempty"`
		Missing   []string      `json:"missing,omitempty"`
		Action    auth.Action   `json:"action"`
		Topic     string        `json:"topic,omitempty"`
		Principal principalItem `json:"principal"`
	}{Action: in.Action, Topic: name, Principal: itemOf(p)}
	if s.Guard == nil {
		out.Allowed, out.Reason = true, "auth.mode is open: everything is allowed"
	} else {
		d := auth.Decide(s.Guard.Rules(), p, in.Action, name)
		out.Allowed, out.Reason, out.Rule, out.Missing = d.Allowed, d.Reason(), d.Rule, d.Missing
	}
	writeJSON(w, http.StatusOK, out)
}
