package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// Limits bound the requests of one caller to this node. A caller is a principal or, without authentication, a client address.
// Nodes do not share counts, so a caller has a separate budget at each. A zero Rate is no limit.
type Limits struct {
	Publish   hub.Rate // content, batches and pings, one per request
	Subscribe hub.Rate // also unsubscribe, and invalid forms
	Read      hub.Rate
	Admin     hub.Rate // changes of the hub, and registering and deregistering topics
	Refused   hub.Rate // by address: requests with invalid credentials
}

// class is a kind of request with a budget of its own.
type class uint8

const (
	classNone class = iota // without a limit
	classPublish
	classSubscribe
	classRead
	classAdmin
	classRefused
	classes
)

// String names the class in headers and metrics.
func (c class) String() string {
	return [classes]string{"none", "publish", "subscribe", "read", "admin", "refused"}[c]
}

// maxCallers bounds the buckets, which take about 4 MiB.
const maxCallers = 16384

// callerID identifies whose limits and shares a request draws on: a principal's or, for callers without credentials, an
// address's.
type callerID struct {
	principal string
	client    netip.Addr // without a principal
}

// callerOf returns the ID of a principal, or of the client if it is anonymous.
func callerOf(p *auth.Principal, client netip.Addr) callerID {
	if p.Method == auth.MethodAnonymous {
		return callerID{client: client}
	}
	return callerID{principal: cmp.Or(p.ID, p.String())}
}

// callerClass identifies a bucket.
type callerClass struct {
	class  class
	caller callerID
}

// quota is a rate and its headers.
type quota struct {
	rate   hub.Rate
	policy []string // RateLimit-Policy, shared by all responses
	prefix string   // of RateLimit
}

// quotas has one quota per class.
type quotas [classes]quota

// limiter holds the buckets of all callers.
type limiter struct {
	common   atomic.Pointer[quotas]
	throttle *hub.Throttle[callerClass]
	refused  *prometheus.CounterVec
}

func newLimiter(l Limits, reg prometheus.Registerer) (*limiter, error) {
	out := &limiter{throttle: hub.NewThrottle[callerClass](maxCallers, time.Now()),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quorumhub_requests_limited_total",
			Help: "Requests refused with 429, by the limit that was reached (publish, subscribe, read, admin, refused, callback, pending, bodies, streams)."}, []string{"limit"})}
	out.common.Store(quotasOf(l))
	if err := reg.Register(out.refused); err != nil {
		return nil, fmt.Errorf("limit metrics: %w", err)
	}
	return out, nil
}

// SetLimits puts other rates in force. What callers have used up stays used up.
func (s *Server) SetLimits(l Limits) { s.limits.common.Store(quotasOf(l)) }

func quotasOf(l Limits) *quotas {
	out := new(quotas)
	for c, r := range [classes]hub.Rate{{}, l.Publish, l.Subscribe, l.Read, l.Admin, l.Refused} {
		if r.Limited() {
			name := strconv.Quote(class(c).String())
			out[c] = quota{r, []string{fmt.Sprintf("%s;q=%d;w=%d", name, r.Requests, int(r.Per.Seconds()))}, name + ";r="}
		}
	}
	return out
}

// classOf returns the class of a request by its route. For the hub endpoint and topics the class depends on the body; see
// postHub, postCompat and publish.
func (rt *route) classOf(r *http.Request) class {
	switch {
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return classRead
	case rt.name == "hub", rt.name == "topics":
		return classNone
	}
	return classAdmin
}

// count counts a refusal because of a limit.
func (l *limiter) count(p *problem.Details) {
	if p.Limit != "" {
		l.refused.WithLabelValues(p.Limit).Inc()
	}
}

// spend takes a request from the caller's budget for its class and reports the rest in the response's headers
// (draft-ietf-httpapi-ratelimit-headers). Without a limit it does nothing. Call it once the caller is known, and before looking at
// the request.
func (s *Server) spend(w http.ResponseWriter, c class) error {
	q := &s.limits.common.Load()[c]
	if !q.rate.Limited() {
		return nil
	}
	a := s.limits.throttle.Spend(callerClass{c, callerAt(w)}, q.rate, time.Now())
	q.report(w.Header(), a)
	if a.OK {
		return nil
	}
	return q.exhausted(c, a)
}

// reserveRefusal takes a refused request from the client's budget.
func (s *Server) reserveRefusal(x *exchange) error {
	q := &s.limits.common.Load()[classRefused]
	if !q.rate.Limited() {
		return nil
	}
	a := s.limits.throttle.Spend(refusalsOf(x.client), q.rate, time.Now())
	if a.OK {
		return nil
	}
	q.report(x.Header(), a)
	return q.exhausted(classRefused, a)
}

// returnRefusal gives back what reserveRefusal took.
func (s *Server) returnRefusal(x *exchange) {
	s.limits.throttle.Return(refusalsOf(x.client), s.limits.common.Load()[classRefused].rate, time.Now())
}

func refusalsOf(client netip.Addr) callerClass {
	return callerClass{classRefused, callerID{client: client}}
}

// report sets the headers of draft-ietf-httpapi-ratelimit-headers.
func (q *quota) report(h http.Header, a hub.Allowance) {
	h["Ratelimit-Policy"] = q.policy
	var buf [64]byte
	b := append(buf[:0], q.prefix...)
	b = append(strconv.AppendInt(b, int64(a.Left), 10), ";t="...)
	h["Ratelimit"] = []string{string(strconv.AppendInt(b, int64(problem.Seconds(a.Full)), 10))}
}

// exhausted is the answer to a request beyond the quota.
func (q *quota) exhausted(c class, a hub.Allowance) error {
	return &problem.Details{Status: http.StatusTooManyRequests, Code: "rate_limited", Limit: c.String(), RetryAfter: a.Wait,
		Detail: fmt.Sprintf("too many requests: this node accepts %d in %v from one caller (limits.%s); try again in %d s", q.rate.Requests, q.rate.Per, c, problem.Seconds(a.Wait))}
}

// callerAt returns the caller of the exchange that w belongs to.
func callerAt(w http.ResponseWriter) callerID {
	x, ok := w.(*exchange)
	if !ok {
		return callerID{}
	}
	return x.caller
}

// clientAt returns the client of the exchange that w belongs to.
func clientAt(w http.ResponseWriter) netip.Addr {
	x, ok := w.(*exchange)
	if !ok {
		return netip.Addr{}
	}
	return x.client
}
