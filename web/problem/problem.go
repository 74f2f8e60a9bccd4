package problem

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"quorumhub/hub"
)

// typePrefix and Details.Code make the type of a problem (RFC 9457 section 3.1.1).
const typePrefix = "urn:quorumhub:problem:"

// Details describes an error to an HTTP client. Status, Code and Detail are required.
type Details struct { //nolint:errname // the term of RFC 9457
	Status int
	Code   string // stable, for programs
	Param  string // the parameter at fault, if there is one
	Detail string // reads on from Param if that is set

	Allow          string        // the Allow header of a 405
	RetryAfter     time.Duration // rounded up to seconds; 0 sends no Retry-After
	Challenges     []string      // the WWW-Authenticate headers of a 401 or 403
	AcceptEncoding string        // the Accept-Encoding header of a 415 (RFC 9110 section 15.5.16)
	// Quota is the amount that a principal may have and that a 403 or 429 is about; nil: none.
	Quota *hub.QuotaUse
	// Places are what is wrong with a text, and where.
	Places []Place
	// Successor is the URL of what takes the place of something that is gone; empty: nothing. It is also sent as a Link header.
	Successor string
	// Limit names the limit that a 429 ran into. It is for metrics and never sent.
	Limit string
	// HangUp closes the connection without reading the rest of the request's body, which net/http would otherwise do.
	HangUp bool
}

// Place is one thing that is wrong with a text.
type Place struct {
	Line   int    `json:"line,omitempty" xml:"line,omitempty"` // from 1; 0: unknown
	Column int    `json:"column,omitempty" xml:"column,omitempty"`
	Path   string `json:"path,omitempty" xml:"path,omitempty"`
	// Pointer is a JSON pointer (RFC 6901) into a request's body.
	Pointer string `json:"pointer,omitempty" xml:"pointer,omitempty"`
	Detail  string `json:"detail" xml:"detail"`
}

// Error returns the problem as one line.
func (d *Details) Error() string {
	if d.Param == "" {
		return d.Detail
	}
	return d.Param + ": " + d.Detail
}

// Of describes err to a client, or returns nil for an internal error, whose text belongs in the log only.
func Of(err error) *Details {
	var d *Details
	if errors.As(err, &d) {
		return d
	}
	var e *hub.Error
	if errors.As(err, &e) {
		return ofHub(e)
	}
	var ended *hub.DeadLetterEndedError
	if errors.As(err, &ended) {
		return &Details{Status: http.StatusGone, Code: "gone", Param: "id", Detail: ended.Error()}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &Details{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: time.Second,
			Detail: "the request was given up before it was written; try again"}
	}
	return nil
}

func ofHub(e *hub.Error) *Details {
	d := &Details{Param: e.Param, Detail: e.Message, Quota: e.Quota}
	switch e.Code {
	case hub.CodeInvalid:
		d.Status, d.Code = http.StatusBadRequest, "invalid"
	case hub.CodeForbidden:
		d.Status, d.Code = http.StatusForbidden, "forbidden"
	case hub.CodeNotFound:
		d.Status, d.Code = http.StatusNotFound, "not_found"
	case hub.CodeConflict:
		d.Status, d.Code = http.StatusConflict, "conflict"
	case hub.CodeTooLarge:
		d.Status, d.Code = http.StatusRequestEntityTooLarge, "too_large"
	case hub.CodeUnprocessable:
		d.Status, d.Code = http.StatusUnprocessableEntity, "unprocessable"
	case hub.CodeUnavailable:
		d.Status, d.Code, d.RetryAfter = http.StatusServiceUnavailable, "unavailable", time.Second
	case hub.CodeLimited:
		d.Status, d.Code, d.Limit, d.RetryAfter = http.StatusTooManyRequests, "rate_limited", "pending", max(e.RetryAfter, time.Second)
		if e.Param != "" {
			d.Limit = "callback"
		}
	case hub.CodeUnsupported:
		d.Status, d.Code = http.StatusUnsupportedMediaType, "unsupported_media_type"
	case hub.CodeRetired:
		d.Status, d.Code, d.Successor = http.StatusGone, "retired", e.Successor
	case hub.CodeInternal:
		return nil
	}
	if e.Quota != nil {
		d.Code = "quota_reached"
		if d.Limit != "" {
			d.Limit = string(e.Quota.Quota)
		}
	}
	return d
}

// Internal is the problem of an internal error. The client gets the correlation ID to quote to an operator, nothing else.
func Internal(correlationID string) *Details {
	return &Details{Status: http.StatusInternalServerError, Code: "internal",
		Detail: "internal error; the node's log has it under " + correlationID}
}

// Write answers in the form that the request's Accept header prefers among forms, and as Prefer says if it has no preference.
// Without forms, they are plain text, which WebSub 5.1.2 asks for, and JSON.
func (d *Details) Write(w http.ResponseWriter, r *http.Request, correlationID string, forms ...Form) {
	if len(forms) == 0 {
		forms = []Form{Text, JSON}
	}
	w.Header().Set("Vary", "Accept")
	d.WriteAs(w, Prefer(r.Header["Accept"], forms...), correlationID)
}

// WriteJSON answers with problem details in JSON whatever the client prefers.
func (d *Details) WriteJSON(w http.ResponseWriter, correlationID string) {
	d.WriteAs(w, JSON, correlationID)
}

// WriteAs answers in the given form whatever the client prefers.
func (d *Details) WriteAs(w http.ResponseWriter, form Form, correlationID string) {
	var body []byte
	var err error
	var contentType string
	switch form {
	case JSON:
		contentType = "application/problem+json"
		body, err = json.Marshal(d.document(correlationID))
	case XML:
		contentType = "application/problem+xml"
		body, err = xml.Marshal(d.document(correlationID))
		body = append([]byte(xml.Header), body...)
	default:
		contentType = "text/plain; charset=utf-8"
		body = []byte(d.line())
	}
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	d.writeHeader(w, contentType)
	_, _ = w.Write(append(body, '\n')) // fails only if the client is gone
}

// line is the problem as one line, with the first places that are wrong.
func (d *Details) line() string {
	const most = 3
	line := d.Error()
	for i, p := range d.Places {
		if i == most {
			line += fmt.Sprintf("; and %d more", len(d.Places)-most)
			break
		}
		line += "; " + cmp.Or(p.Pointer, p.Path, "the document") + ": " + p.Detail
	}
	return OneLine(line)
}

// document is a problem as RFC 9457 writes it, in JSON and, with the namespace and the arrays of its appendix B, in XML.
type document struct {
	XMLName       xml.Name `json:"-" xml:"urn:ietf:rfc:7807 problem"`
	Type          string   `json:"type" xml:"type"`
	Title         string   `json:"title" xml:"title"`
	Status        int      `json:"status" xml:"status"`
	Detail        string   `json:"detail" xml:"detail"`
	Code          string   `json:"code" xml:"code"`
	Param         string   `json:"param,omitempty" xml:"param,omitempty"`
	Quota         *quota   `json:"quota,omitempty" xml:"quota,omitempty"`
	Errors        []Place  `json:"errors,omitempty" xml:"-"`
	Places        *places  `json:"-" xml:"errors,omitempty"` // Errors in XML, where an empty list would be there
	Successor     string   `json:"successor,omitempty" xml:"successor,omitempty"`
	CorrelationID string   `json:"correlation_id" xml:"correlation_id"`
}

// places is an array of RFC 9457's appendix B.
type places struct {
	Items []Place `xml:"i"`
}

func (d *Details) document(correlationID string) document {
	doc := document{Type: typePrefix + d.Code, Title: http.StatusText(d.Status), Status: d.Status, Detail: OneLine(d.Error()),
		Code: d.Code, Param: d.Param, Quota: quotaOf(d.Quota), Successor: OneLine(d.Successor), CorrelationID: correlationID}
	for _, p := range d.Places {
		p.Path, p.Pointer, p.Detail = OneLine(p.Path), OneLine(p.Pointer), OneLine(p.Detail)
		doc.Errors = append(doc.Errors, p)
	}
	if doc.Errors != nil {
		doc.Places = &places{doc.Errors}
	}
	return doc
}

// quota is a quota in a document.
type quota struct {
	Name  string `json:"name" xml:"name"`
	Limit int64  `json:"limit" xml:"limit"`
	Used  int64  `json:"used" xml:"used"`
}

func quotaOf(u *hub.QuotaUse) *quota {
	if u == nil {
		return nil
	}
	return &quota{string(u.Quota), u.Limit, u.Used}
}

func (d *Details) writeHeader(w http.ResponseWriter, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	d.SetHeaders(w)
	w.WriteHeader(d.Status)
}

// SetHeaders sets the headers that are part of the answer whatever the form of its body.
func (d *Details) SetHeaders(w http.ResponseWriter) {
	h := w.Header()
	if d.Allow != "" {
		h.Set("Allow", d.Allow)
	}
	for _, c := range d.Challenges {
		h.Add("WWW-Authenticate", c)
	}
	if d.AcceptEncoding != "" {
		h.Set("Accept-Encoding", d.AcceptEncoding)
	}
	if d.Successor != "" {
		h.Add("Link", "<"+d.Successor+">; rel=\"successor-version\"")
	}
	if d.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(Seconds(d.RetryAfter)))
	}
	if d.HangUp {
		h.Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // fails without a connection, as in tests
	}
}

// Seconds rounds up to whole seconds, so that no client retries too early.
func Seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// OneLine replaces control characters and invalid UTF-8, so that text from a client neither breaks the line nor steers a
// terminal.
func OneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}

// maxTold is how much of a text from elsewhere a problem tells, in bytes.
const maxTold = 320

// Clip shortens a text that contains what a client has sent, for a problem: in its middle, because such texts begin with what
// is wrong and end with what is expected.
func Clip(s string) string {
	if len(s) <= maxTold {
		return s
	}
	return strings.ToValidUTF8(s[:maxTold/2], "") + "..." + strings.ToValidUTF8(s[len(s)-maxTold/2:], "")
}

// Quote shortens text from a client and quotes it for an error message.
func Quote(s string) string {
	if len(s) > 80 {
		s = s[:77] + "..."
	}
	return "\"" + OneLine(s) + "\""
}
