package intent

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/delivery/credential"
	"quorumhub/delivery/egress"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
)

// Outcome is the result of one verification.
type Outcome uint8

const (
	// Confirmed: a 2xx response whose body is the challenge.
	Confirmed Outcome = iota + 1
	// Refused: a definite no: 404, any other 3xx or 4xx, or another body.
	Refused
	// Retryable: no definite response: no connection, timeout, 5xx, 408, 425 or 429.
	Retryable
)

// Result is the outcome of one request.
type Result struct {
	Outcome    Outcome
	Reason     egress.Reason
	Status     int // 0: no response
	RetryAfter time.Duration
}

// Question asks a callback whether it wants the subscription (WebSub section 5.3).
type Question struct {
	Callback     string // used exactly as given; parameters are appended to its query
	Headers      string // sealed, of the request; empty: none
	HeadersBound string
	Mode         string // "subscribe" or "unsubscribe"
	Topic        string // hub.topic exactly as the subscriber sent it
	LeaseSeconds int64  // sent for subscribe only
	VerifyToken  string // PubSubHubbub 0.3; sent last, if not empty
}

// Caller makes the hub's verification requests to callbacks. Safe for concurrent use.
type Caller struct {
	Client    http.RoundTripper // an *egress.Client
	Clock     hub.Clock
	UserAgent string
	// Credentials knows what callbacks demand; nil: nothing.
	Credentials *credential.Book
	Timeout     time.Duration // of one request, from the name lookup to the end of the response
}

// challengeSlack is how many bytes beyond the challenge are read of a response.
const challengeSlack = 1 << 10

// Ask verifies intent once, with a new random challenge.
func (o *Caller) Ask(ctx context.Context, in Question) Result {
	challenge := rand.Text() // 26 letters and digits, 130 bits
	params := param("hub.mode", in.Mode) + "&" + param("hub.topic", in.Topic) + "&" + param("hub.challenge", challenge)
	if in.Mode == "subscribe" {
		params += "&" + param("hub.lease_seconds", strconv.FormatInt(in.LeaseSeconds, 10))
	}
	if in.VerifyToken != "" {
		params += "&" + param("hub.verify_token", in.VerifyToken)
	}
	res, body := o.get(ctx, o.Credentials.For(in.Callback, in.Headers, in.HeadersBound), in.Callback, params, len(challenge)+challengeSlack)
	if res.Outcome == Confirmed && string(body) != challenge {
		return Result{Outcome: Refused, Reason: egress.ReasonChallenge, Status: res.Status}
	}
	return res
}

// Deny notifies a callback that its subscription was denied or has ended (WebSub section 5.2). The response does not
// matter: Confirmed means only that there was one.
func (o *Caller) Deny(ctx context.Context, callback, topic, reason string) Result {
	params := param("hub.mode", "denied") + "&" + param("hub.topic", topic)
	if reason != "" {
		params += "&" + param("hub.reason", reason)
	}
	res, _ := o.get(ctx, o.Credentials.For(callback, "", ""), callback, params, challengeSlack)
	if res.Status != 0 {
		return Result{Outcome: Confirmed, Status: res.Status}
	}
	return res
}

// get makes the request and reads at most limit bytes of a 2xx response.
func (o *Caller) get(ctx context.Context, page credential.Page, callback, params string, limit int) (Result, []byte) {
	u, err := url.Parse(hub.EscapeURL(callback))
	if err != nil {
		return Result{Outcome: Refused, Reason: egress.ReasonURL}, nil
	}
	appendQuery(u, params)
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	req := (&http.Request{
		Method: http.MethodGet, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {o.UserAgent}, "Accept": {"*/*"}},
	}).WithContext(ctx)
	fields, err := page.Append(ctx, nil)
	if err != nil {
		return failed(ctx, err), nil
	}
	for _, f := range fields {
		req.Header[f.Name] = []string{f.Value}
	}
	resp, err := o.Client.RoundTrip(req)
	if err != nil {
		return failed(ctx, err), nil
	}
	if resp.StatusCode == http.StatusUnauthorized {
		page.Refused()
	}
	defer resp.Body.Close()
	res := Result{Outcome: Refused, Reason: egress.ReasonStatus, Status: resp.StatusCode}
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)))
		if err != nil {
			return failed(ctx, err), nil
		}
		return Result{Outcome: Confirmed, Status: resp.StatusCode}, body
	case egress.Transient(resp.StatusCode):
		res.Outcome = Retryable
		res.RetryAfter = retry.After(resp.Header, o.Clock.Now())
	}
	egress.Drain(resp.Body)
	return res, nil
}

func failed(ctx context.Context, err error) Result {
	var den *egress.DeniedError
	if errors.As(err, &den) {
		return Result{Outcome: Refused, Reason: egress.ReasonDenied}
	}
	var missing *credential.Error
	if errors.As(err, &missing) {
		return Result{Outcome: Retryable, Reason: missing.Reason}
	}
	var crowded *crowdedError
	if errors.As(err, &crowded) {
		return Result{Outcome: Retryable, Reason: egress.ReasonCrowded, RetryAfter: crowded.Wait}
	}
	return Result{Outcome: Retryable, Reason: egress.Classify(ctx, err)}
}

// appendQuery appends encoded parameters to u's raw query. It leaves the existing query untouched, even if names
// collide (WebSub section 5.1.1).
func appendQuery(u *url.URL, params string) {
	if u.RawQuery != "" && !strings.HasSuffix(u.RawQuery, "&") {
		params = "&" + params
	}
	u.RawQuery += params
}

// param encodes one query parameter. A space becomes %20, which every decoder understands.
func param(name, value string) string {
	return name + "=" + strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
}
