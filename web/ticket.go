package web

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

const (
	// ticketTime is how long a ticket opens streams. A stream that it has opened goes on.
	ticketTime = time.Minute
	// ticketBinding separates tickets from other sealed text.
	ticketBinding = "stream-ticket"
	// maxTicketCredentials is the longest credential in a ticket, which must fit into a URL.
	maxTicketCredentials = 4 << 10
	ticketParam          = "ticket"
)

// ticket is what a stream ticket says, sealed: for one topic and a short time it is the credential of the caller who asked for it.
// So every node can redeem it, it is worth no more than that credential, and it ends with it.
type ticket struct {
	Topic         string `json:"t"`
	Expires       int64  `json:"e"` // Unix time in nanoseconds
	Authorization string `json:"a,omitempty"`
	APIKey        string `json:"k,omitempty"`
	Cookie        string `json:"c,omitempty"`
}

type ticketAnswer struct {
	Ticket    string    `json:"ticket"`
	URL       string    `json:"url"` // of the topic, with the ticket
	ExpiresAt time.Time `json:"expires_at"`
}

// createTicket makes a ticket for readers that cannot set headers, such as a browser's EventSource.
func (s *Server) createTicket(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Topic string `json:"topic"`
	}
	var err error
	if s.Guard != nil {
		err = s.Guard.AllowSome(r.Context(), auth.ActionRead) // before the body is read
	}
	if err == nil {
		err = s.readJSON(w, r, maxShortJSONBytes, &in, `expected {"topic": ".."} with a topic's name or URL`)
	}
	var name string
	if err == nil {
		name, err = s.Service.Namer().HostedName("topic", in.Topic)
	}
	if err == nil {
		err = s.Service.AuthorizeRead(r.Context(), name)
	}
	t := ticket{Topic: name, Expires: s.Clock.Now().Add(ticketTime).UnixNano()}
	if err == nil {
		err = t.carry(r)
	}
	var sealed []byte
	if err == nil {
		sealed, err = s.sealTicket(&t)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	text := base64.RawURLEncoding.EncodeToString(sealed)
	writeJSON(w, http.StatusCreated, ticketAnswer{Ticket: text, URL: s.pageOf(name) + "?" + ticketParam + "=" + text, ExpiresAt: time.Unix(0, t.Expires).UTC()})
}

// pageOf returns the URL at which this hub serves a topic.
func (s *Server) pageOf(name string) string {
	if namer := s.Service.Namer(); namer.Hosted(name) {
		return namer.URL(name)
	}
	return strings.TrimSuffix(s.PublicURL, "/") + "/topics/" + url.PathEscape(name)
}

// carry puts the caller's credentials into the ticket.
func (t *ticket) carry(r *http.Request) error {
	p := auth.CallerOf(r.Context()).Principal
	switch p.Method {
	case auth.MethodAnonymous:
		return nil
	case auth.MethodToken, auth.MethodAPIKey:
		t.Authorization, t.APIKey = r.Header.Get("Authorization"), r.Header.Get("X-Api-Key")
		if t.Authorization == "" && t.APIKey == "" {
			t.Cookie = r.Header.Get("Cookie")
		}
		if n := len(t.Authorization) + len(t.APIKey) + len(t.Cookie); n > maxTicketCredentials {
			return hub.ParamErrorf("credentials", "are %d bytes long, which does not fit into a URL; at most %d are accepted", n, maxTicketCredentials)
		}
		return nil
	default:
		return hub.ParamErrorf("credentials", "are of the kind %s, which a ticket cannot carry; expected a token or an API key", p.Method)
	}
}

func (s *Server) sealTicket(t *ticket) ([]byte, error) {
	plain, err := json.Marshal(t) //nolint:gosec // sealed at once
	if err != nil {
		return nil, fmt.Errorf("encode a ticket: %w", err)
	}
	sealed, err := s.Tickets.Seal(plain, ticketBinding)
	if err != nil {
		return nil, fmt.Errorf("seal a ticket: %w", err)
	}
	return sealed, nil
}

// redeem gives a request for a stream the credentials of the ticket in its query. Without a ticket it returns the request as it is.
func (s *Server) redeem(x *exchange, r *http.Request, rt *route) (*http.Request, error) {
	if !rt.streams || s.Tickets == nil || !strings.Contains(r.URL.RawQuery, ticketParam+"=") {
		return r, nil
	}
	query, err := parseURLQuery(r.URL.RawQuery)
	if err != nil || !query.Has(ticketParam) {
		return r, err
	}
	if err := s.reserveRefusal(x); err != nil {
		return r, err
	}
	t, ok := s.openTicket(query)
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead || !wantsStream(r.Header["Accept"]) {
		return r, badTicket("it opens one topic as an event stream for %s; get a new one with POST /v1/stream-tickets", ticketTime)
	}
	if name, err := s.topicInPath(r); err != nil || name != t.Topic {
		return r, badTicket("it is for another topic")
	}
	if r.Header["Authorization"] != nil || r.Header["X-Api-Key"] != nil {
		return r, badTicket("the request has credentials besides; expected one or the other")
	}
	s.returnRefusal(x)
	r = r.Clone(r.Context())
	for name, value := range map[string]string{"Authorization": t.Authorization, "X-Api-Key": t.APIKey, "Cookie": t.Cookie} {
		if r.Header.Del(name); value != "" {
			r.Header.Set(name, value)
		}
	}
	return r, nil
}

func (s *Server) openTicket(query url.Values) (t ticket, ok bool) {
	if len(query[ticketParam]) != 1 {
		return t, false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(query.Get(ticketParam))
	if err != nil {
		return t, false
	}
	plain, err := s.Tickets.Open(sealed, ticketBinding)
	if err != nil || json.Unmarshal(plain, &t) != nil {
		return t, false
	}
	return t, s.Clock.Now().UnixNano() < t.Expires
}

func badTicket(format string, args ...any) error {
	return &problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Param: ticketParam, Detail: "is not valid here: " + fmt.Sprintf(format, args...)}
}
