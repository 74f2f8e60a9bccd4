package web

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// nameCache remembers which topic a query or path names, for the few that publishers use repeatedly: parsing and normalising a
// URL costs more than the rest of a publish in this package. Each text has one slot and overwrites its entry, so other callers can
// evict entries but not use more memory. Make one with newNameCache.
type nameCache struct {
	seed    maphash.Seed
	version func() uint64 // changes when entries are no longer valid
	slots   [256]atomic.Pointer[cachedName]
}

type cachedName struct {
	text, name string
	version    uint64
}

func newNameCache(version func() uint64) *nameCache {
	return &nameCache{seed: maphash.MakeSeed(), version: version}
}

// get returns the name for text, or "" if it is not cached.
func (c *nameCache) get(text string) string {
	if e := c.slot(text).Load(); e != nil && e.text == text && e.version == c.version() {
		return e.name
	}
	return ""
}

// put caches a name that was determined under that version.
func (c *nameCache) put(text, name string, version uint64) {
	c.slot(text).Store(&cachedName{strings.Clone(text), strings.Clone(name), version})
}

func (c *nameCache) slot(text string) *atomic.Pointer[cachedName] {
	return &c.slots[maphash.String(c.seed, text)%uint64(len(c.slots))]
}
