package gateway

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// maxBuckets bounds the remembered callers of versions with a rate.
const maxBuckets = 16384

// quotaKey is one caller of one version. It outlives the registry: a caller gains nothing by a change that leaves the version there.
type quotaKey struct{ service, version, caller string }

// quotaStage bounds what one caller may ask of a version at this node.
type quotaStage struct{}

func (quotaStage) name() string { return "quota" }
func (quotaStage) explain(v *version) string {
	l := v.Limits
	switch {
	case l.Rate.Requests > 0 && l.Concurrency > 0:
		return fmt.Sprintf("%d requests per %v and %d at a time of one caller", l.Rate.Requests, l.Rate.Per, l.Concurrency)
	case l.Rate.Requests > 0:
		return fmt.Sprintf("%d requests per %v of one caller", l.Rate.Requests, l.Rate.Per)
	case l.Concurrency > 0:
		return fmt.Sprintf("%d requests at a time of one caller", l.Concurrency)
	}
	return ""
}

func (quotaStage) do(x *exchange) error {
	v := x.version
	if x.dry {
		return nil
	}
	key := quotaKey{v.service.Name, v.Version.Version, x.caller.Key}
	if rate := (hub.Rate{Requests: v.Limits.Rate.Requests, Per: v.Limits.Rate.Per}); rate.Limited() {
		a := x.g.throttle.Spend(key, rate, x.g.Clock())
		h := x.w.Header()
		h["Ratelimit-Policy"] = v.ratePolicy
		h["Ratelimit"] = []string{v.rateName + ";r=" + strconv.Itoa(a.Left) + ";t=" + strconv.Itoa(problem.Seconds(a.Full))}
		if !a.OK {
			return limited(a.Wait, "too many requests: this node accepts %d in %v from one caller of this route", rate.Requests, rate.Per)
		}
	}
	if most := v.Limits.Concurrency; most > 0 {
		if !x.g.running.enter(key, most) {
			return limited(time.Second, "too many requests at a time: this node serves %d of one caller of this route", most)
		}
		x.onEnd(func() { x.g.running.leave(key) })
	}
	return nil
}

func limited(wait time.Duration, format string, args ...any) *problem.Details {
	d := fault(http.StatusTooManyRequests, codeLimited, format, args...)
	d.RetryAfter, d.Limit = wait, "gateway"
	return d
}

// runningCounts counts the requests under way. It holds nothing about callers without any.
type runningCounts struct {
	mu sync.Mutex
	by map[quotaKey]int
}

func (c *runningCounts) enter(k quotaKey, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[k] >= most {
		return false
	}
	if c.by == nil {
		c.by = map[quotaKey]int{}
	}
	c.by[k]++
	return true
}

func (c *runningCounts) leave(k quotaKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[k]--; c.by[k] == 0 {
		delete(c.by, k)
	}
}
