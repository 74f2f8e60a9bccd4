package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// Profile is the dialect of the hub endpoint.
type Profile string

// Profiles. Ballerina is compatible with the Kafka hub of Ballerina and WSO2, MOSIP with MOSIP's hub, which derives from it:
// parameters in query or form, responses as forms, refusals as hub.mode=denied. Unlike those hubs, both renew a subscription on a
// repeated request instead of denying it, and let leases expire.
const (
	ProfileNative    Profile = "native"
	ProfileBallerina Profile = "ballerina"
	ProfileMOSIP     Profile = "mosip"
)

// publisherHeader distinguishes content from an event when both are forms.
const publisherHeader = "x-ballerina-publisher"

// compatRequest is a request in a compatible profile, with parameters from the query or the body.
type compatRequest struct {
	params  url.Values
	content bool // the body is content to publish
	mode    string
}

// postCompat is the hub endpoint of the profiles ballerina and mosip.
func (s *Server) postCompat(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	if err := s.mayAsk(r); err != nil {
		s.metrics.hubRequest("", s.turnAwayCompat(w, r, err), start)
		return
	}
	q, err := s.readCompat(w, r, maxFormBytes)
	if limited := s.spend(w, classOfMode(q.mode)); limited != nil {
		err = limited
	}
	if err == nil {
		err = s.Service.Namer().CheckHost("hub.topic", q.params.Get("hub.topic"), r.Host)
	}
	if err == nil && q.mode == "publish" {
		s.publishCompat(w, r, q, start)
		return
	}
	if err == nil {
		err = s.dispatchCompat(w, s.withCaller(w, r), q)
	}
	if err != nil {
		s.metrics.hubRequest(q.mode, s.failCompat(w, r, q, err), start)
		return
	}
	s.metrics.hubRequest(q.mode, nil, start)
	status := http.StatusOK
	if q.mode == "subscribe" || q.mode == "unsubscribe" {
		status = http.StatusAccepted
		s.tellLease(w.Header(), q.mode, q.params)
	}
	writeCompat(w, status, "hub.mode=accepted")
}

// turnAwayCompat answers a caller who was refused before the request was read. What the answer looks like depends on the mode, for
// which a short form is read if it is there already.
func (s *Server) turnAwayCompat(w http.ResponseWriter, r *http.Request, err error) *problem.Details {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unreadGrace)) // fails without a connection, as in tests
	q, qerr := s.readCompat(w, r, refusedFormBytes)
	if qerr != nil {
		return s.fail(w, r, err)
	}
	return s.failCompat(w, r, q, err)
}

// readCompat reads the parameters: from the query if the body is content, and else from the body, of at most limit bytes.
func (s *Server) readCompat(w http.ResponseWriter, r *http.Request, limit int64) (q compatRequest, err error) {
	given := r.Header.Get("Content-Type")
	kind, _, merr := mime.ParseMediaType(given)
	if merr != nil {
		kind = strings.ToLower(strings.TrimSpace(given))
	}
	publisher := r.Header.Get(publisherHeader)
	switch {
	case publisher != "" && publisher != "publish" && publisher != "event":
		return q, hub.Errorf(hub.CodeInvalid, "Invalid value for header %s", publisherHeader)
	case kind == formType && publisher != "publish":
		q.params, err = s.readForm(w, r, limit)
	case slices.Contains([]string{formType, "application/json", "application/xml", "application/octet-stream", "text/plain"}, kind):
		q.content = true
		q.params, err = parseForm(r.URL.RawQuery)
	default:
		return q, hub.Errorf(hub.CodeInvalid, "Endpoint only supports content type of application/x-www-form-urlencoded, "+
			"application/json, application/xml, application/octet-stream and text/plain")
	}
	if err != nil {
		return q, err
	}
	mode := q.params.Get("hub.mode")
	if mode == "unregister" && s.Profile == ProfileMOSIP {
		mode = "deregister" // MOSIP's client's name for it
	}
	if !slices.Contains([]string{"register", "deregister", "publish", "subscribe", "unsubscribe"}, mode) {
		return q, hub.Errorf(hub.CodeInvalid, "The request does not include valid `hub.mode` form param.")
	}
	q.mode = mode
	for _, p := range []string{"hub.topic", "hub.callback"} {
		if p == "hub.callback" && mode != "subscribe" && mode != "unsubscribe" {
			continue
		}
		if q.params.Get(p) == "" {
			return q, hub.Errorf(hub.CodeInvalid, "Empty value found for parameter '%s'", p)
		}
	}
	if strings.Trim(q.params.Get("hub.lease_seconds"), "0123456789") != "" {
		q.params.Del("hub.lease_seconds") // malformed, so use the default
	}
	return q, nil
}

func (s *Server) dispatchCompat(w http.ResponseWriter, r *http.Request, q compatRequest) error {
	ctx := r.Context()
	switch q.mode {
	case "subscribe", "unsubscribe":
		auth.NoteURL(ctx, "callback", q.params.Get("hub.callback"))
		id, err := s.Service.Subscribe(ctx, q.params)
		if err == nil {
			w.Header()[requestHeader] = []string{id.String()}
			s.noticeOfNamed(w.Header(), q.params.Get("hub.topic"))
		}
		return err
	}
	topic, err := s.Service.Namer().Name("hub.topic", q.params.Get("hub.topic"))
	if err != nil {
		return err
	}
	if q.mode == "register" {
		return s.Service.Register(ctx, topic)
	}
	return s.Service.Deregister(ctx, topic)
}

// publishCompat publishes the body, or for an event pings the topic.
func (s *Server) publishCompat(w http.ResponseWriter, r *http.Request, q compatRequest, start time.Time) {
	if !q.content {
		if _, err := s.Service.Ping(r.Context(), r.Host, url.Values{"hub.topic": {q.params.Get("hub.topic")}}); err != nil {
			s.metrics.hubRequest("publish", s.failCompat(w, r, q, err), start)
			return
		}
		s.metrics.hubRequest("publish", nil, start)
		writeCompat(w, http.StatusOK, "hub.mode=accepted")
		return
	}
	topic, err := s.Service.Namer().Name("hub.topic", q.params.Get("hub.topic"))
	var receipt hub.Receipt
	var size int64
	if err == nil {
		receipt, size, err = s.publishContent(w, r, topic, nil)
	}
	if err != nil {
		s.metrics.notPublished(s.failCompat(w, r, q, err))
		return
	}
	s.metrics.published(size, receipt.Duplicate, start)
	w.Header()[messageIDHeader] = []string{receipt.MessageID()}
	writeCompat(w, http.StatusOK, "hub.mode=accepted")
}

// UnknownTopic is the reason for refusing an unknown topic in the profiles ballerina and mosip.
func UnknownTopic(topic string) string {
	return fmt.Sprintf("Topic [%s] is not registered with the Hub", topic)
}

// failCompat refuses a request the way the profile's clients expect. If the hub is unavailable the status is 503, which none of
// them takes for an acceptance.
func (s *Server) failCompat(w http.ResponseWriter, r *http.Request, q compatRequest, err error) *problem.Details {
	publisher := q.mode != "subscribe" && q.mode != "unsubscribe"
	var status int
	var reason string
	var refusal *auth.RefusalError
	var denied *auth.DeniedError
	topic := q.params.Get("hub.topic")
	p := problem.Of(err)
	switch {
	case errors.As(err, &denied), errors.As(err, &refusal):
		status, reason = http.StatusOK, "Not authorized"
		if s.Profile == ProfileMOSIP {
			reason = "Publisher is not authorized"
		}
		if !publisher {
			status = http.StatusInternalServerError
			if s.Profile == ProfileMOSIP {
				reason = "Subscriber is not authorized"
			}
		}
	case p != nil && p.Status == http.StatusTooManyRequests:
		s.limits.count(p)
		w.Header()["Retry-After"] = []string{strconv.Itoa(problem.Seconds(p.RetryAfter))}
		status, reason = p.Status, p.Detail
	case hub.CodeOf(err) == hub.CodeConflict && q.mode == "register":
		status, reason = http.StatusConflict, "Topic has already registered with the Hub"
	case hub.CodeOf(err) == hub.CodeNotFound && q.mode == "deregister":
		status, reason = http.StatusNotFound, "Topic has not been registered in the Hub"
	case hub.CodeOf(err) == hub.CodeNotFound:
		status, reason = http.StatusNotFound, UnknownTopic(topic)
	case hub.CodeOf(err) == hub.CodeInvalid:
		writeBare(w, p.Status, "text/plain", problem.OneLine(p.Error()))
		return p
	default:
		return s.fail(w, r, err)
	}
	if s.Profile == ProfileMOSIP && status < 500 && status != http.StatusTooManyRequests {
		status = http.StatusOK
	}
	writeCompat(w, status, "hub.mode=denied&hub.reason="+formValue(reason))
	return &problem.Details{Status: status, Code: "denied", Detail: reason}
}

// formValue encodes text as a value in a form. Those hubs do not encode reasons at all, so the texts that clients know stay as they
// are; but text from a request must not add a parameter or change what is read.
func formValue(text string) string {
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ' || c >= 0x7f || strings.IndexByte("%&=+;#", c) >= 0:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// writeCompat answers with a form, whose values are encoded already.
func writeCompat(w http.ResponseWriter, status int, form string) {
	writeBare(w, status, formType, form)
}

// writeBare answers with exactly this body, without a final line break.
func writeBare(w http.ResponseWriter, status int, contentType, body string) {
	h := w.Header()
	h["Content-Type"] = []string{contentType}
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// writeStatus answers {"status": ".."}, like health checks and consolidators.
func writeStatus(w http.ResponseWriter, status int, word string) {
	w.Header().Set("Cache-Control", "no-store")
	writeBare(w, status, "application/json", `{"status":"`+word+`"}`)
}

// compact puts JSON content on one line, for receivers that read a body by lines and verify the signature of the rejoined lines.
func compact(p *hub.Publication) error {
	kind, _, err := mime.ParseMediaType(p.ContentType)
	if err != nil || kind != "application/json" {
		return nil //nolint:nilerr // other content stays as it is
	}
	var b bytes.Buffer
	if err := json.Compact(&b, p.Body); err != nil {
		return hub.ParamErrorf("body", "is not JSON, despite its content type (%v)", err)
	}
	p.Body, p.ContentType = b.Bytes(), "application/json"
	return nil
}

// getUp is the health check of the profile mosip: 503 while requests should go to another node.
func (s *Server) getUp(w http.ResponseWriter, _ *http.Request) {
	if len(s.Node.NotReady()) > 0 || s.draining.Load() {
		writeStatus(w, http.StatusServiceUnavailable, "DOWN")
		return
	}
	writeStatus(w, http.StatusOK, "UP")
}
