package raftlog

import (
	"context"
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
)

// A node delivers while it holds a lease (hub.ContactLease), which counts from its last contact. A contact is a moment of
// which the node can prove that whoever leads, now or later, counts its silence from no earlier one:
//
//   - A leader asks the voters again and again whether they know of a later term. When a quorum does not, nobody else
//     had been elected when the question went out. That is the leader's own contact.
//   - Every other node reports to the leader again and again. The leader notes when it heard the report, and answers with
//     the age of its own contact. The node then counts from when it sent the report, less that age. What a node merely
//     hears from a leader is no contact: its own messages may not get through.
//   - A leader counts a node's silence from its last report, and not from before the last moment at which an earlier
//     leader can have had contact: every voter remembers when it last told a leader of its term that there was no later
//     one, and the quorum that confirms a new leader says when that was. The leader counts up to its own last contact,
//     for what came after it, another one may have heard.
//
// So no constant stands for how long messages travel, elections take or processes are stopped.
const (
	// contactPause is how often a node reports to the leader, and how often a leader asks the voters.
	contactPause = 200 * time.Millisecond
	// contactRetry is how soon a node reports again to a leader that could not answer yet.
	contactRetry = 25 * time.Millisecond
	// laneContact is the connection for reports, which is dropped when a report is not answered in time.
	laneContact = -1
)

// latest is a moment that only moves forward. Safe for concurrent use.
type latest struct {
	mu sync.Mutex
	at time.Time
}

func (l *latest) raise(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.After(l.at) {
		l.at = at
	}
}

func (l *latest) load() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

// confirmations are a voter's memory of which leaders it has confirmed. Safe for concurrent use.
type confirmations struct {
	mu      sync.Mutex
	term    uint64    // of the leader confirmed last
	last    time.Time // when; at first the start of the process, for what came before it is forgotten
	earlier time.Time // when a leader of an earlier term was last confirmed
}

func newConfirmations(now time.Time) *confirmations { return &confirmations{last: now, earlier: now} }

// confirm confirms the leader of a term unless current, the node's own term, is another one. earlier is when an earlier leader
// was confirmed for the last time. The node's term is read under the lock: once a later leader has been confirmed, no
// earlier one is.
func (c *confirmations) confirm(term uint64, current func() uint64) (earlier time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if current() != term {
		return time.Time{}, false
	}
	if term > c.term {
		c.term, c.earlier = term, c.last
	}
	c.last = time.Now()
	return c.earlier, true
}

// reign is what a leader knows of its own term. It is replaced, never changed.
type reign struct {
	term    uint64
	began   time.Time // when this node first saw that it leads
	earlier time.Time // until then an earlier leader may have had contact
	contact time.Time // when the last question went out that a quorum has answered; zero: none was
}

// report is what a leader last heard from a node.
type report struct {
	at  time.Time
	age time.Duration // of the node's last contact, or of its process when it has had none
}

// silentSince is the last moment from which the node may count its lease.
func (r report) silentSince() time.Time {
	if r.age >= hub.ContactLease {
		return r.at.Add(-r.age) // its lease has ended, and a mark in the log comes before the next one
	}
	return r.at
}

// keepReign asks the voters while this node leads. A round that gets no answers does not hold up the next one.
func (n *Node) keepReign() {
	var rounds sync.WaitGroup
	defer rounds.Wait()
	tick := time.NewTicker(contactPause)
	defer tick.Stop()
	for {
		term := n.raft.CurrentTerm() // first: raft leaves the state of a leader before it takes a later term
		if known := n.reign.Load(); n.raft.State() != raft.Leader {
			n.reign.Store(nil)
		} else {
			if known == nil || known.term != term {
				n.reign.Store(&reign{term: term, began: time.Now()})
			}
			rounds.Go(func() { n.confirmReign(term) })
		}
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		case <-n.leaderChanged.reign:
		}
	}
}

// confirmReign asks the voters once, and notes when if a quorum confirms the term.
func (n *Node) confirmReign(term uint64) {
	ctx, cancel := context.WithTimeout(n.ctx, hub.ContactLease) // a later answer is of no use
	defer cancel()
	asked := time.Now()
	earlier, err := n.confirmTerm(ctx, term)
	if err != nil {
		return
	}
	n.contact.raise(asked)
	for {
		known := n.reign.Load()
		if known == nil || known.term != term || !asked.After(known.contact) {
			return
		}
		next := *known
		if next.contact = asked; known.contact.IsZero() {
			next.earlier = earlier
		}
		if n.reign.CompareAndSwap(known, &next) {
			return
		}
	}
}

// currentReign is nil while this node does not lead.
func (n *Node) currentReign() *reign {
	r := n.reign.Load()
	if r == nil || r.term != n.raft.CurrentTerm() || n.raft.State() != raft.Leader {
		return nil
	}
	return r
}

// confirmTerm returns nil when a quorum, asked after the call, has confirmed this node as the leader of a term. earlier is a
// moment after which nobody has been confirmed as the leader of an earlier term by a quorum.
func (n *Node) confirmTerm(ctx context.Context, term uint64) (earlier time.Time, err error) {
	earlier, ok := n.confirmed.confirm(term, n.raft.CurrentTerm)
	if !ok {
		return earlier, errNotLeader
	}
	err = n.askVoters(ctx, methodTerm, binary.AppendUvarint(nil, term), func(answer []byte) bool {
		its, size := binary.Uvarint(answer)
		if size <= 0 || its != term {
			return false
		}
		since := time.Now() // a voter that does not say when may have confirmed somebody a moment ago
		if age, s := binary.Uvarint(answer[size:]); s > 0 && age <= math.MaxInt64 {
			since = since.Add(-time.Duration(age))
		}
		if since.After(earlier) {
			earlier = since
		}
		return true
	})
	return earlier, err
}

// handleTerm answers with this node's term. A leader that names its own term is confirmed, and is told how long ago an earlier
// one was.
func (n *Node) handleTerm(body []byte) (status byte, out []byte) {
	if !n.running.Load() {
		return statusRefused, []byte("starting")
	}
	if term, size := binary.Uvarint(body); size > 0 {
		if earlier, ok := n.confirmed.confirm(term, n.raft.CurrentTerm); ok {
			return statusOK, binary.AppendUvarint(binary.AppendUvarint(nil, term), uint64(max(0, time.Since(earlier))))
		}
	}
	return statusOK, binary.AppendUvarint(nil, n.raft.CurrentTerm())
}

// keepContact reports to the leader while another node leads. Without a leader it goes on reporting to the last one: a node that
// does not hear the leader any more tells it so.
func (n *Node) keepContact() {
	var reporting sync.WaitGroup
	defer reporting.Wait()
	tick := time.NewTicker(contactPause)
	defer tick.Stop()
	var last Peer
	for {
		if id, address := n.Leader(); id == n.opts.ID {
			last = Peer{}
		} else if address != "" {
			last = Peer{id, address}
		}
		if to := last; to.Address != "" {
			reporting.Go(func() { n.report(to) })
		}
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		case <-n.leaderChanged.contact:
		}
	}
}

func (n *Node) report(leader Peer) {
	ctx, cancel := context.WithTimeout(n.ctx, hub.ContactLease) // a later answer is of no use
	defer cancel()
	sent := time.Now()
	last := n.contact.load()
	if last.IsZero() {
		last = n.view.since
	}
	status, answer, err := n.caller.call(ctx, leader, laneContact, methodContact, binary.AppendUvarint(nil, uint64(max(0, sent.Sub(last)))))
	switch {
	case n.ctx.Err() != nil:
	case err != nil && ctx.Err() != nil:
		n.caller.drop(leader, laneContact, sent) // it may be a connection to a machine that is gone
	case err != nil:
	case status == statusNotLeader:
		if id, address := n.Leader(); (Peer{id, address}) != leader {
			return
		}
		select {
		case <-time.After(contactRetry):
			kick(n.leaderChanged.contact)
		case <-n.ctx.Done():
		}
	case status == statusOK:
		if age, size := binary.Uvarint(answer); size > 0 && age <= math.MaxInt64 {
			n.contact.raise(sent.Add(-time.Duration(age)))
		}
	}
}

// handleReport is the leader's part. The report is noted before it is answered, and only that of a member.
func (n *Node) handleReport(from string, body []byte) (status byte, out []byte) {
	age, size := binary.Uvarint(body)
	if size <= 0 || age > math.MaxInt64 {
		return statusRefused, []byte("unreadable report")
	}
	if !n.running.Load() {
		return statusNotLeader, nil
	}
	r := n.currentReign()
	if r == nil || r.contact.IsZero() {
		return statusNotLeader, nil
	}
	if !n.isMember(from) {
		return statusRefused, []byte("not a member")
	}
	n.view.mu.Lock()
	n.view.reports[from] = report{time.Now(), time.Duration(age)}
	n.view.mu.Unlock()
	return statusOK, binary.AppendUvarint(nil, uint64(max(0, time.Since(r.contact))))
}

// Contact implements hub.Cluster. It is 0 for the only voter.
func (n *Node) Contact() time.Duration {
	const never = math.MaxInt64
	switch {
	case n.isRemoved():
		return never
	case n.onlyVoter():
		return 0
	case !n.clockSettled():
		return never // leases are not to be judged yet
	}
	at := n.contact.load()
	if !n.takesReports(n.LeaderID()) {
		if heard := n.raft.LastContact(); heard.After(at) {
			at = heard
		}
	}
	if at.IsZero() {
		return never
	}
	return time.Since(at)
}

// takesReports tells whether a node answers reports, or may: one that runs an earlier version does not, and goes by what it
// hears.
func (n *Node) takesReports(id string) bool {
	if n.port == nil {
		return false
	}
	n.view.mu.Lock()
	defer n.view.mu.Unlock()
	seen := n.view.nodes[id]
	return seen == nil || seen.asked.IsZero() || seen.status.Reports
}

// unheard is how long, at least, the lease of another node has been running without this node, which leads, or any leader
// before it having extended it. 0 while that is not known.
func (n *Node) unheard(m *Member) time.Duration {
	if !n.takesReports(m.ID) {
		return m.Silent
	}
	r := n.currentReign()
	if r == nil || r.contact.IsZero() {
		return 0
	}
	since := r.earlier
	n.view.mu.Lock()
	if at := n.view.reports[m.ID].silentSince(); at.After(since) {
		since = at
	}
	n.view.mu.Unlock()
	return max(0, r.contact.Sub(since))
}

// reportsLocked tells whether a node reports to this one, which leads, or has not had the time to. The view's lock is held.
func (n *Node) reportsLocked(id string, r *reign) bool {
	since := r.began
	if at := n.view.reports[id].silentSince(); at.After(since) {
		since = at
	}
	return time.Since(since) < hub.ContactLease
}

// leaderChange wakes those who must act on a new leader at once.
type leaderChange struct{ reign, contact chan struct{} }

func newLeaderChange() leaderChange {
	return leaderChange{make(chan struct{}, 1), make(chan struct{}, 1)}
}

func (l leaderChange) tell() {
	kick(l.reign)
	kick(l.contact)
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
