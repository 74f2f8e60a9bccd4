package web

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
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
	keys := s.apiKeys(r.Context())
	items := make([]apiKeyItem, 0, len(keys))
	for _, k := range keys {
		items = append(items, apiKeyItem{ID: k.ID, Name: k.Name, Scopes: orEmpty(k.Scopes), Roles: orEmpty(k.Roles),
			CreatedAt: moment(k.CreatedAt), ExpiresAt: moment(k.ExpiresAt), CreatedBy: k.By, Owner: k.Owner})
	}
	writeJSON(w, http.StatusOK, map[string]any{"items": items, "next": ""})
}

// apiKeys returns the keys that the caller may see.
func (s *Server) apiKeys(ctx context.Context) (keys []hub.APIKey) {
	s.State.View(func(st *hub.State) { keys = st.APIKeys() })
	return slices.DeleteFunc(keys, func(k hub.APIKey) bool { return !s.owns(ctx, k.Owner) })
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
	k, text, err := s.newAPIKey(r.Context(), hub.APIKey{Name: in.Name, Scopes: in.Scopes, Roles: in.Roles, By: principalName(r)}, in.ExpiresIn)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, apiKeyItem{ID: k.ID, Name: k.Name, Scopes: orEmpty(k.Scopes), Roles: orEmpty(k.Roles),
		ExpiresAt: moment(k.ExpiresAt), CreatedBy: k.By, Key: text})
}

// newAPIKey makes and stores a key that ends after a duration in text; empty: never. It returns the key with its text, which nobody can
// get again.
func (s *Server) newAPIKey(ctx context.Context, k hub.APIKey, expiresIn string) (_ hub.APIKey, text string, err error) {
	if err := checkKeyRequest(k.Name, k.Scopes, k.Roles); err != nil {
		return k, "", err
	}
	if expiresIn != "" {
		d, err := time.ParseDuration(expiresIn)
		if err != nil || d <= 0 {
			return k, "", hub.ParamErrorf("expires_in", "is %s; expected a positive duration such as 720h", problem.Quote(expiresIn))
		}
		k.ExpiresAt = s.Clock.Now().Add(d)
	}
	if text, k.ID, k.Hash, err = auth.GenerateAPIKey(); err != nil {
		return k, "", err
	}
	auth.Note(ctx, "key", k.ID)
	auth.Note(ctx, "key_name", k.Name)
	return k, text, s.Service.CreateAPIKey(ctx, k)
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
		n, err = s.endAPIKey(r.Context(), id, principalName(r), end == "true")
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
	writeJSON(w, http.StatusOK, out)
}

// endAPIKey revokes a key and pauses, or ends, the subscriptions that it owns. It returns how many those were.
func (s *Server) endAPIKey(ctx context.Context, id, by string, end bool) (subscriptions int, err error) {
	subscriptions, err = s.Service.RevokeAPIKey(ctx, id, by, end)
	if err == nil {
		auth.Note(ctx, "subscriptions", strconv.Itoa(subscriptions))
	}
	return subscriptions, err
}

func (s *Server) listRules(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"items": s.accessRules(), "next": ""})
}

// accessRules returns the rules in force, or on a hub that asks for no credentials those that would be.
func (s *Server) accessRules() []view.AccessRule {
	items := []view.AccessRule{}
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
		item := view.AccessRule{Rule: r, Source: "file"}
		if st, ok := byName[r.Name]; ok {
			item.Source, item.SetAt, item.SetBy = "api", moment(st.SetAt), st.By
		}
		items = append(items, item)
	}
	return items
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
		err = s.setRule(r.Context(), &rule, principalName(r))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, rule)
}

// setRule checks and stores a rule, and pauses the subscriptions that nothing allows any more.
func (s *Server) setRule(ctx context.Context, rule *auth.Rule, by string) error {
	check := rule.Check
	if s.Guard != nil {
		check = func() error { return s.Guard.CheckRule(rule) }
	}
	if err := check(); err != nil {
		return hub.ParamErrorf("rule", "%s", err.Error())
	}
	if s.Guard != nil && s.Guard.FromFile(rule.Name) {
		return hub.Errorf(hub.CodeConflict, "rule %s is defined in auth.file; change it there, or choose another name", problem.Quote(rule.Name))
	}
	text, err := json.Marshal(rule)
	if err != nil {
		return err
	}
	if err := s.Service.SetAccessRule(ctx, hub.AccessRule{Name: rule.Name, Rule: text, By: by}); err != nil {
		return err
	}
	return s.pauseNotAllowed(ctx, by)
}

// removeRule removes a rule, and pauses the subscriptions that nothing allows any more.
func (s *Server) removeRule(ctx context.Context, name, by string) error {
	if err := s.Service.RemoveAccessRule(ctx, name, by); err != nil {
		return err
	}
	return s.pauseNotAllowed(ctx, by)
}

func (s *Server) deleteRule(w http.ResponseWriter, r *http.Request) {
	if err := s.removeRule(r.Context(), strings.TrimPrefix(r.URL.Path, "/v1/auth/rules/"), principalName(r)); err != nil {
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
	}
	p := auth.CallerOf(r.Context()).Principal
	if in.Principal != nil {
		p = &auth.Principal{Method: in.Principal.Method, ID: in.Principal.ID, Authority: in.Principal.Authority, Subject: in.Principal.Subject, Client: in.Principal.Client,
			User: in.Principal.User, Scopes: in.Principal.Scopes, Roles: in.Principal.Roles}
	}
	var d decision
	if err == nil {
		d, err = s.decide(p, in.Action, in.Topic)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		decision
		Action    auth.Action   `json:"action"`
		Topic     string        `json:"topic,omitempty"`
		Principal principalItem `json:"principal"`
	}{d, in.Action, d.topic, itemOf(p)})
}

// decision is what the rules decide about an action, and why.
type decision struct {
	Allowed bool     `json:"allowed"`
	Reason  string   `json:"reason"`
	Rule    string   `json:"rule,omitempty"`
	Missing []string `json:"missing,omitempty"`
	topic   string   // its name
}

// decide says what the rules decide about an action on a topic, of which a URL will do for the name; empty: on none.
func (s *Server) decide(p *auth.Principal, action auth.Action, topic string) (out decision, err error) {
	if !action.Known() {
		return out, hub.ParamErrorf("action", "is %s; expected %s", problem.Quote(string(action)), auth.ActionNames())
	}
	if strings.Contains(topic, "://") {
		if topic, err = s.Service.Namer().Name("topic", topic); err != nil {
			return out, err
		}
	}
	if s.Guard == nil {
		return decision{Allowed: true, Reason: "auth.mode is open: everything is allowed", topic: topic}, nil
	}
	d := auth.Decide(s.Guard.Rules(), p, action, topic)
	return decision{d.Allowed, d.Reason(), d.Rule, d.Missing, topic}, nil
}
