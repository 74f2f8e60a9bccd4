package web

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// nameCache remembers which topic a query or path names, for the few that publishers use over and over: parsing
// and normalising a URL costs more than the rest of a publish's way through this room. Every text has
// one slot, and the last one wins it, so that strangers' topics can displace entries but not add up. The zero
// value is not ready: see newNameCache.
type nameCache struct {
	seed  maphash.Seed
	slots [256]atomic.Pointer[cachedName]
}

type cachedName struct{ text, name string }

func newNameCache() *nameCache { return &nameCache{seed: maphash.MakeSeed()} }

// get returns the name for text, "" when it is not known.
func (c *nameCache) get(text string) string {
	if e := c.slot(text).Load(); e != nil && e.text == text {
		return e.name
	}
	return ""
}

func (c *nameCache) put(text, name string) {
	c.slot(text).Store(&cachedName{strings.Clone(text), strings.Clone(name)})
}

func (c *nameCache) slot(text string) *atomic.Pointer[cachedName] {
	return &c.slots[maphash.String(c.seed, text)%uint64(len(c.slots))]
}
