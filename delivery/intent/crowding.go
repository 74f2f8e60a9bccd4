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

// crowding bounds verifications by the network that a callback's name resolves to: names cost nothing, addresses do.
// Safe for concurrent use.
type crowding struct {
	rate     hub.Rate
	limit    int // in flight at once
	throttle *hub.Throttle[netip.Prefix]

	mu   sync.Mutex
	busy map[netip.Prefix]int
}

// crowdedWait is the least wait of a verification that finds too many in flight.
const crowdedWait = time.Second

func newCrowding(rate hub.Rate, most int) *crowding {
	return &crowding{rate: rate, limit: most, throttle: hub.NewThrottle[netip.Prefix](maxSites, time.Now()), busy: map[netip.Prefix]int{}}
}

// crowdedError rejects a connection because too many verifications go to its network. Wait is when to try again.
type crowdedError struct{ Wait time.Duration }

func (*crowdedError) Error() string { return "too many verifications go to this network" }

// pass is one verification's admission to the networks it connects to.
type pass struct {
	crowding *crowding
	at       []netip.Prefix
	over     bool
}

// admitTo returns a context whose connections need a place at their network. Call leave when the verification is
// over.
func (c *crowding) admitTo(ctx context.Context) (_ context.Context, leave func()) {
	p := &pass{crowding: c}
	return egress.WithAddrCheck(ctx, p.enter), p.leave
}

// enter takes a place at an address's network, right before a connection is made.
func (p *pass) enter(a netip.Addr) error {
	network := networkAround(a)
	c := p.crowding
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.over || slices.Contains(p.at, network) {
		return nil
	}
	if c.busy[network] >= c.limit {
		return &crowdedError{crowdedWait}
	}
	if a := c.throttle.Spend(network, c.rate, time.Now()); !a.OK {
		return &crowdedError{max(a.Wait, crowdedWait)}
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

// networkAround returns the network that usually has a single owner.
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
