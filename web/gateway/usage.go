package gateway

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Consumers that stand for several callers.
const (
	consumerAnonymous = "anonymous"
	consumerOther     = "other" // those that came when maxUsage were counted already
)

// maxUsage bounds the counters, which take about 4 MiB.
const maxUsage = 20_000

// Usage is how often a consumer has called a version through this node since it started.
type Usage struct {
	Service  string    `json:"service"`
	Version  string    `json:"version"`
	Consumer string    `json:"consumer"` // a principal, anonymous, or other
	Requests uint64    `json:"requests"`
	Refused  uint64    `json:"refused"` // of them answered 4xx
	Failed   uint64    `json:"failed"`  // of them answered 5xx
	Last     time.Time `json:"last_at"`
}

type usageKey struct{ service, version, consumer string }

// usageCounts counts calls. Safe for concurrent use.
type usageCounts struct {
	mu sync.Mutex
	by map[usageKey]*Usage
}

func (u *usageCounts) count(k usageKey, status int, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.by[k]
	if c == nil && len(u.by) >= maxUsage {
		k.consumer = consumerOther
		c = u.by[k]
	}
	if c == nil {
		if u.by == nil {
			u.by = map[usageKey]*Usage{}
		}
		c = &Usage{Service: k.service, Version: k.version, Consumer: k.consumer}
		u.by[k] = c
	}
	c.Requests++
	switch {
	case status >= 500:
		c.Failed++
	case status >= 400:
		c.Refused++
	}
	c.Last = now
}

// keep forgets what is about services that are gone.
func (u *usageCounts) keep(known func(service, version string) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k := range u.by {
		if !known(k.service, k.version) {
			delete(u.by, k)
		}
	}
}

// list returns the counters in order of service, version and consumer.
func (u *usageCounts) list() []Usage {
	u.mu.Lock()
	out := make([]Usage, 0, len(u.by))
	for _, c := range u.by {
		out = append(out, *c)
	}
	u.mu.Unlock()
	slices.SortFunc(out, func(a, b Usage) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Consumer, b.Consumer))
	})
	return out
}
