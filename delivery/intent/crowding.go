package intent

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// crowding bounds verifications by the network that a callback's name leads to: names cost nothing, addresses do. Safe
// for concurrent use.
type crowding struct {
	rate     hub.Rate
	most     int // under way at a time
	throttle *hub.Throttle[netip.Prefix]

	mu   sync.Mutex
	busy map[netip.Prefix]int
}

// crowdedWait is how long a verification waits at least when too many are under way.
const crowdedWait = time.Second

func newCrowding(rate hub.Rate, most int) *crowding {
	return &crowding{rate: rate, most: most, throttle: hub.NewThrottle[netip.Prefix](maxSites, time.Now()), busy: map[netip.Prefix]int{}}
}

// CrowdedError is the refusal of a connection because too many go to its network.
type CrowdedError struct{ Wait time.Duration }

func (*CrowdedError) Error() string { return "too many verifications go to this network" }

// pass is one verification's place at the networks it connects to.
type pass struct {
	crowding *crowding
	at       []netip.Prefix
	over     bool
}

// admitTo makes every connection that is dialled with the context wait its turn; leave when the verification is over.
func (c *crowding) admitTo(ctx context.Context) (_ context.Context, leave func()) {
	p := &pass{crowding: c}
	return egress.WithAddrCheck(ctx, p.enter), p.leave
}

// enter is asked right before a connection is made.
func (p *pass) enter(a netip.Addr) error {
	network := networkAround(a)
	c := p.crowding
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.over || slices.Contains(p.at, network) {
		return nil
	}
	if c.busy[network] >= c.most {
		return &CrowdedError{crowdedWait}
	}
	if a := c.throttle.Spend(network, c.rate, time.Now()); !a.OK {
		return &CrowdedError{max(a.Wait, crowdedWait)}
	}
	c.busy[network]++
	p.at = append(p.at, network)
	return nil
}

func (p *pass) leave() {
	c := p.crowding
	c.mu.Lock()
	defer c.mu.Unlock()
	p.over = true
	for _, n := range p.at {
		if c.busy[n]--; c.busy[n] == 0 {
			delete(c.busy, n)
		}
	}
}

// networkAround is what one owner usually has.
func networkAround(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.PrefixFrom(a, a.BitLen())
	}
	return p
}
