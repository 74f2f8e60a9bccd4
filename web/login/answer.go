package login

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/web/login/screen"
	"quorumhub/web/problem"
)

// retryLogin is when somebody may try again who could not be logged in because of an identity provider's trouble.
const retryLogin = 5 * time.Second

// WantsPage reports whether a request is a person's, who is shown pages: its Accept names HTML, as that of every browser.
func WantsPage(r *http.Request) bool {
	for _, line := range r.Header["Accept"] {
		for item := range strings.SplitSeq(line, ",") {
			kind, _, _ := strings.Cut(item, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/html") {
				return true
			}
		}
	}
	return false
}

// Navigates reports whether a browser is on its way to a page, so that it may be sent somewhere else first.
func Navigates(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return r.Method == http.MethodGet && WantsPage(r) && (mode == "" || mode == "navigate")
}

// Fail answers with an error: a page for people, a problem for programs. The text of an internal error is not shown.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	p := Told(err)
	if p == nil {
		PeerOf(r.Context()).Refused(r.Context(), err)
		p = problem.Internal(PeerOf(r.Context()).CorrelationID)
	}
	if !WantsPage(r) {
		p.Write(w, r, PeerOf(r.Context()).CorrelationID)
		return
	}
	write(w, pageOf(r, p), p)
}

// Told describes an error to a client, or returns nil for an internal error. Refused credentials are 403, whatever was wrong with them.
func Told(err error) *problem.Details {
	if p := problem.Of(err); p != nil {
		return p
	}
	var refusal *auth.RefusalError
	if errors.Is(err, auth.ErrUnavailable) || errors.As(err, &refusal) {
		p, _ := stopped(err)
		return p
	}
	return nil
}

// Demand answers a request for a page that only somebody has who is logged in: a browser is sent to log in and then to a path of this
// hub, everybody else gets 401. base is the path of the hub's public URL.
func Demand(w http.ResponseWriter, r *http.Request, base, to string, challenges []string) {
	if Navigates(r) {
		Redirect(w, r, base+"/login?"+url.Values{"return": {to}}.Encode())
		return
	}
	Fail(w, r, &problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: "log in at " + base + "/login first", Challenges: challenges})
}

// pageOf returns the page that shows a problem.
func pageOf(r *http.Request, p *problem.Details) *screen.Page {
	page := &screen.Page{Status: p.Status, Title: "Log in", Alert: problem.OneLine(problem.Clip(p.Error()))}
	if id := PeerOf(r.Context()).CorrelationID; id != "" {
		page.Small = "The hub's log has this under " + id + "."
	}
	return page
}

// write answers with a page and a problem's headers.
func write(w http.ResponseWriter, page *screen.Page, p *problem.Details) {
	h := w.Header()
	h.Set("Vary", "Accept")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(problem.Seconds(p.RetryAfter)))
	}
	for _, c := range p.Challenges {
		h.Add("WWW-Authenticate", c)
	}
	if p.Allow != "" {
		h.Set("Allow", p.Allow)
	}
	page.Write(w)
}

// Mistake is a 400 about a parameter; detail reads on from its name.
func Mistake(param, detail string) error {
	return &problem.Details{Status: http.StatusBadRequest, Code: "invalid", Param: param, Detail: detail}
}
