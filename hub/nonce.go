package hub

import (
	"container/heap"
	"time"

	"quorumhub/hub/hubpb"
)

// nonceUse is a nonce that was claimed and has not expired.
type nonceUse struct {
	until int64  // Unix nanoseconds
	owner string // principal, empty: none
	at    int64  // when it was claimed, 0: not recorded
	login bool   // it is the state of a login
}

// nonceShare counts the nonces of one principal.
type nonceShare struct {
	held     int
	minute   int64 // of its latest claim
	inMinute int   // of those held, claimed in that minute
}

func minuteOf(at int64) int64 { return at / int64(time.Minute) }

// claimNonce consumes a nonce. A nonce that has expired by the log's clock is never fresh, known or not: it may have
// been forgotten.
func (s *State) claimNonce(e *hubpb.NonceClaimed) Result {
	a := &s.access
	for len(a.expiry) > 0 && a.expiry[0].until <= s.meta.Now {
		gone := heap.Pop(&a.expiry).(nonceExpiry)
		a.removeNonce(gone.nonce)
		s.touchName(TableNonce, gone.nonce)
	}
	nonce, owner := string(e.Nonce), e.GetCaller().GetPrincipal()
	if _, used := a.nonces[nonce]; used || e.Until <= s.meta.Now {
		return Result{Outcome: OutcomeStale}
	}
	held, inMinute := a.nonceUse(owner, s.meta.Now)
	quota, left := QuotaNonces, MaxNonces-len(a.nonces)
	if e.Login {
		quota, left = QuotaLogins, min(left, MaxLogins-a.logins)
	}
	switch {
	case owner != "" && reached(inMinute, e.Caller.GetMaxNonces()):
		return quotaReached(quota, inMinute, e.Caller.GetMaxNonces())
	case owner != "" && held >= left: // nobody may have more than is left to others
		return quotaReached(quota, held, uint32(held))
	case len(a.nonces) >= MaxNonces:
		return Result{Outcome: OutcomeFull}
	}
	use := nonceUse{until: e.Until, owner: shared(owner), login: e.Login}
	if owner != "" {
		use.at = s.meta.Now
	}
	a.addNonce(nonce, use)
	s.touchName(TableNonce, nonce)
	return Result{}
}

// nonceUse returns how many nonces a principal has, and how many of them it claimed in the minute of now.
func (a *access) nonceUse(owner string, now int64) (held, inMinute int) {
	n := a.shares[owner]
	switch {
	case n == nil:
		return 0, 0
	case n.minute != minuteOf(now):
		return n.held, 0
	}
	return n.held, n.inMinute
}

func (a *access) addNonce(nonce string, u nonceUse) {
	a.nonces[nonce] = u
	if u.login {
		a.logins++
	}
	heap.Push(&a.expiry, nonceExpiry{u.until, nonce})
	if u.owner == "" {
		return
	}
	n := a.shares[u.owner]
	if n == nil {
		n = &nonceShare{}
		a.shares[u.owner] = n
	}
	n.held++
	switch m := minuteOf(u.at); {
	case m > n.minute:
		n.minute, n.inMinute = m, 1
	case m == n.minute:
		n.inMinute++
	}
}

func (a *access) removeNonce(nonce string) {
	u := a.nonces[nonce]
	delete(a.nonces, nonce)
	if u.login {
		a.logins--
	}
	n := a.shares[u.owner]
	if n == nil {
		return
	}
	if minuteOf(u.at) == n.minute {
		n.inMinute--
	}
	if n.held--; n.held == 0 {
		delete(a.shares, u.owner)
	}
}

type nonceExpiry struct {
	until int64
	nonce string
}

// nonceHeap is a min-heap by expiry. Nonces that expire at the same time are removed together, so their relative
// order does not matter.
type nonceHeap []nonceExpiry

func (h nonceHeap) Len() int           { return len(h) }
func (h nonceHeap) Less(i, j int) bool { return h[i].until < h[j].until }
func (h nonceHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *nonceHeap) Push(x any)        { *h = append(*h, x.(nonceExpiry)) }
func (h *nonceHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
