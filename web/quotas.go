package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// quotaItem is an entry of quotas: of a principal, a role, or everybody.
type quotaItem struct {
	Name   string             `json:"name"`
	Quotas auth.QuotaSetting  `json:"quotas"`         // in force
	File   *auth.QuotaSetting `json:"file,omitempty"` // of auth.file
	Set    *auth.QuotaSetting `json:"set,omitempty"`  // by this API, over those of the file
	SetAt  *time.Time         `json:"set_at,omitempty"`
	SetBy  string             `json:"set_by,omitempty"`
}

func (s *Server) quotaRoutes(of access) []*route {
	get := http.MethodGet
	return []*route{
		{name: "quotas", paths: []string{"/v1/auth/quotas"}, access: of, methods: map[string]http.HandlerFunc{get: s.listQuotas}},
		{name: "quota", paths: []string{"/v1/auth/quotas/*"}, access: of, methods: map[string]http.HandlerFunc{
			get: s.getQuotas, http.MethodPut: s.putQuotas, http.MethodDelete: s.deleteQuotas}},
	}
}

// quotaItems returns the entries: first the default one, and the others by name.
func (s *Server) quotaItems() []quotaItem {
	items := []quotaItem{}
	if s.Guard == nil {
		return items
	}
	for _, e := range s.Guard.QuotaEntries() {
		items = append(items, quotaItem{Name: e.Name, Quotas: e.InForce, File: e.File, Set: e.Set, SetAt: moment(e.SetAt), SetBy: e.By})
	}
	return items
}

func (s *Server) listQuotas(w http.ResponseWriter, r *http.Request) {
	values, err := parseURLQuery(r.URL.RawQuery)
	if err == nil {
		err = onlyParams(values)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, page[quotaItem]{Items: s.quotaItems()})
}

// quotaInPath returns the name of the entry in the path, where its slash may be percent-encoded.
func quotaInPath(r *http.Request) (string, error) {
	raw := strings.TrimPrefix(r.URL.EscapedPath(), "/v1/auth/quotas/")
	name, err := url.PathUnescape(raw)
	if err != nil {
		return "", hub.ParamErrorf("name", "%s has a %% without two hexadecimal digits", problem.Quote(raw))
	}
	return name, nil
}

func (s *Server) getQuotas(w http.ResponseWriter, r *http.Request) {
	name, err := quotaInPath(r)
	if err == nil {
		err = s.showQuotas(w, name)
	}
	if err != nil {
		s.fail(w, r, err)
	}
}

func (s *Server) showQuotas(w http.ResponseWriter, name string) error {
	for _, item := range s.quotaItems() {
		if item.Name == name {
			writeJSON(w, http.StatusOK, item)
			return nil
		}
	}
	return &hub.Error{Code: hub.CodeNotFound, Param: "name", Message: problem.Quote(name) + " has no quotas of its own; expected default, a role or a principal that has"}
}

// putQuotas sets quotas over those of auth.file, in place of what was set before, and answers with the entry after it.
func (s *Server) putQuotas(w http.ResponseWriter, r *http.Request) {
	const expected = `expected JSON such as {"topics": 50, "stored_bytes": "10GiB"}; 0 is no limit`
	name, err := quotaInPath(r)
	var set auth.QuotaSetting
	if err == nil {
		err = s.readJSON(w, r, maxShortJSONBytes, &set, expected)
	}
	var q hub.QuotaSetting
	if err == nil {
		var cerr error
		if q, cerr = s.Guard.CheckQuotas(name, &set); cerr != nil { // byCredentials: there is a guard
			err = hub.ParamErrorf("quotas", "%s", cerr.Error())
		}
	}
	if err == nil {
		auth.Note(r.Context(), "quotas_of", name)
		auth.Note(r.Context(), "quotas", string(q.Quotas))
		q.By = principalName(r)
		err = s.Service.SetQuotas(r.Context(), q)
	}
	if err == nil {
		err = s.showQuotas(w, name)
	}
	if err != nil {
		s.fail(w, r, err)
	}
}

// deleteQuotas removes quotas set by this API; those of auth.file apply again.
func (s *Server) deleteQuotas(w http.ResponseWriter, r *http.Request) {
	name, err := quotaInPath(r)
	if err == nil {
		auth.Note(r.Context(), "quotas_of", name)
		err = s.Service.RemoveQuotas(r.Context(), name, principalName(r))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
