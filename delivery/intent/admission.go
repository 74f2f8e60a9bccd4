package intent

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
)

// Limits keep the hub from being used against others: a request costs its sender a few bytes, and a callback a
// connection.
type Limits struct {
	// Rate is how many requests to subscribe and unsubscribe this node takes for callbacks at one host, and how many callbacks it asks
	// at one network. Zero: no limit.
	Rate hub.Rate
	// Pending is how many requests may wait for their verification: for callbacks at one host, whichever node took
	// them, and of one caller, as far as this node took them. 0: no limit.
	Pending int
}

// pendingWait is when it is worth asking again where too many requests wait.
const pendingWait = 10 * time.Second

// maxSites is how many hosts' buckets are kept.
const maxSites = 16384

// siteKey is the bucket of a host. Requests about subscriptions that exist have one of their own: whoever floods a host must
// not keep its subscribers from renewing.
type siteKey struct {
	host  string
	known bool
}

// admission counts the requests that wait. The Verifier's mu guards its maps.
type admission struct {
	hosts    map[string]int // subscribe and unsubscribe, by callback host
	callers  map[string]int // those that this node took since it started
	throttle *hub.Throttle[siteKey]
}

func newAdmission() admission {
	return admission{hosts: map[string]int{}, callers: map[string]int{}, throttle: hub.NewThrottle[siteKey](maxSites, time.Now())}
}

func raise(counts map[string]int, key string) {
	if key != "" {
		counts[key]++
	}
}

func lower(counts map[string]int, key string) {
	if counts[key] > 1 {
		counts[key]--
	} else {
		delete(counts, key)
	}
}

// Admit refuses a request about a callback with hub.CodeLimited when too many came for its host, or wait for their
// verification. caller is whoever sent it; known says that there is such a subscription. It counts nothing as waiting: see Taken.
func (v *Verifier) Admit(caller string, callback *url.URL, known bool) error {
	host := hostname(callback)
	if most := v.o.Limits.Pending; most > 0 && !known {
		v.mu.Lock()
		atHost, ofCaller := v.admission.hosts[host], v.admission.callers[caller]
		v.mu.Unlock()
		switch {
		case atHost >= most:
			return &hub.Error{Code: hub.CodeLimited, Param: "hub.callback", RetryAfter: pendingWait,
				Message: strconv.Itoa(atHost) + " requests for callbacks at its host wait for their verification (limits.pending); try again later"}
		case ofCaller >= most:
			return &hub.Error{Code: hub.CodeLimited, RetryAfter: pendingWait,
				Message: strconv.Itoa(ofCaller) + " requests of yours wait for their verification (limits.pending); try again later"}
		}
	}
	if a := v.admission.throttle.Spend(siteKey{host, known}, v.o.Limits.Rate, time.Now()); !a.OK {
		return &hub.Error{Code: hub.CodeLimited, Param: "hub.callback", RetryAfter: a.Wait,
			Message: "too many requests for callbacks at its host (limits.callback_host); try again later"}
	}
	return nil
}

// Taken says whose request it is that came of what Admit let pass.
func (v *Verifier) Taken(caller string, id hub.RequestID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.tasks[id]; t != nil && t.caller == "" { // else it is settled already
		t.caller = caller
		raise(v.admission.callers, caller)
	}
}

// hostname is what the callbacks of one host have in common, on whatever port.
func hostname(u *url.URL) string {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String()
	}
	return host
}
