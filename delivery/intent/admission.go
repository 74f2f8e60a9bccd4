package intent

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
)

// Limits keep the hub from being used against others: a request costs its sender only a few bytes, but the callback's
// host a connection.
type Limits struct {
	// Rate bounds the subscribe and unsubscribe requests that this node accepts for callbacks at one host, and the
	// callbacks it verifies at one network. Zero: no limit.
	Rate hub.Rate
	// Pending bounds the requests that await verification: for callbacks at one host, whichever node accepted them,
	// and of one caller, of those that this node accepted. 0: no limit.
	Pending int
}

// pendingWait is the Retry-After when too many requests are pending.
const pendingWait = 10 * time.Second

// maxSites is how many hosts' buckets are kept.
const maxSites = 16384

// siteKey identifies a host's bucket. Requests about existing subscriptions have a bucket of their own: whoever
// floods a host must not keep its subscribers from renewing.
type siteKey struct {
	host  string
	known bool
}

// admission counts pending requests. The Verifier's mu guards its maps.
type admission struct {
	hosts    map[string]int // subscribe and unsubscribe requests, by callback host
	callers  map[string]int // requests that this node accepted since it started
	throttle *hub.Throttle[siteKey]
}

func newAdmission() admission {
	return admission{hosts: map[string]int{}, callers: map[string]int{}, throttle: hub.NewThrottle[siteKey](maxSites, time.Now())}
}

func increment(counts map[string]int, key string) {
	if key != "" {
		counts[key]++
	}
}

func decrement(counts map[string]int, key string) {
	if counts[key] > 1 {
		counts[key]--
	} else {
		delete(counts, key)
	}
}

// Admit rejects a request with hub.CodeLimited if its callback's host has too many requests, by rate or pending.
// caller identifies the sender; known means that the subscription exists. Admit does not count the request as
// pending; see Taken.
func (v *Verifier) Admit(caller string, callback *url.URL, known bool) error {
	host := hostname(callback)
	if most := v.o.Limits.Pending; most > 0 && !known {
		v.mu.Lock()
		atHost, ofCaller := v.admission.hosts[host], v.admission.callers[caller]
		v.mu.Unlock()
		switch {
		case atHost >= most:
			return &hub.Error{Code: hub.CodeLimited, Param: "hub.callback", RetryAfter: pendingWait,
				Message: strconv.Itoa(atHost) + " requests for callbacks at this host await verification (limits.pending); try again later"}
		case ofCaller >= most:
			return &hub.Error{Code: hub.CodeLimited, RetryAfter: pendingWait,
				Message: strconv.Itoa(ofCaller) + " of your requests await verification (limits.pending); try again later"}
		}
	}
	if a := v.admission.throttle.Spend(siteKey{host, known}, v.o.Limits.Rate, time.Now()); !a.OK {
		return &hub.Error{Code: hub.CodeLimited, Param: "hub.callback", RetryAfter: a.Wait,
			Message: "too many requests for callbacks at this host (limits.callback_host); try again later"}
	}
	return nil
}

// Taken attributes an accepted request to its caller.
func (v *Verifier) Taken(caller string, id hub.RequestID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.tasks[id]; t != nil && t.caller == "" { // otherwise it is already settled
		t.caller = caller
		increment(v.admission.callers, caller)
	}
}

// hostname returns what the callbacks at one host have in common, on any port.
func hostname(u *url.URL) string {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String()
	}
	return host
}
