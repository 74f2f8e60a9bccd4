package web

import (
	"net/http"

	"quorumhub/auth"
	"quorumhub/web/gateway"
)

// explainRoute says what the gateway's stages do with the requests of a route, {"route": "request-address", "version": "2"}, or what
// they would make of one request, {"request": "GET /gateway/... HTTP/1.1\r\n..."}, without calling anything.
func (s *Server) explainRoute(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Route   string `json:"route"`
		Version string `json:"version"`
		Request string `json:"request"`
	}
	out := struct {
		Service string         `json:"service,omitempty"`
		Version string         `json:"version,omitempty"`
		Status  int            `json:"status,omitempty"` // of the response, as far as it does not come from the service
		Code    string         `json:"code,omitempty"`
		Steps   []gateway.Step `json:"steps"`
	}{}
	err := s.readJSON(w, r, 1<<20, &in, `expected JSON such as {"route": "request-address", "version": "2"} or {"request": "GET /gateway/... HTTP/1.1\r\n..."}`)
	switch {
	case err != nil:
	case s.gateway == nil:
		err = errNoGateway
	case in.Request != "":
		out.Steps, out.Status, out.Code, err = s.dryRun(w, r, in.Request)
	default:
		out.Service, out.Version, out.Steps, err = s.pipeline(in.Route, in.Version)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// dryRun takes a request, as it would be sent, through the stages of the gateway.
func (s *Server) dryRun(w http.ResponseWriter, r *http.Request, text string) (steps []gateway.Step, status int, code string, err error) {
	request, err := requestIn(text)
	if err != nil {
		return nil, 0, "", err
	}
	outer, _ := w.(*exchange)
	inner := &exchange{ResponseWriter: discard{http.Header{correlationHeader: {correlationID(request)}}}, client: outer.client, caller: outer.caller}
	defer inner.signed.release()
	request.RemoteAddr, request.TLS = r.RemoteAddr, r.TLS
	steps, status, code = s.gateway.DryRun(inner, s.withoutPrefix(request.WithContext(auth.WithCaller(r.Context(), auth.Caller{Principal: auth.Anonymous()}))))
	return steps, status, code, nil
}

// discard is a response that nobody gets.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
