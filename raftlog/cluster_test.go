package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/raftlog"
	"quorumhub/store"
)

// cluster is a set of members connected by an in-memory network.
type cluster struct {
	t       testing.TB
	members []*member
	mu      sync.RWMutex // guards which members run
	links   map[*member]*raft.InmemTransport
}

func newCluster(t testing.TB, n int) *cluster {
	c := &cluster{t: t, links: map[*member]*raft.InmemTransport{}}
	for i := range n {
		m := newMember(t, fmt.Sprintf("node-%d", i+1))
		m.options = fast
		c.members = append(c.members, m)
	}
	return c
}

// fast sets short timeouts for tests.
func fast(o *raftlog.Options) {
	o.Timing = raftlog.Timing{Heartbeat: 150 * time.Millisecond, Lease: 100 * time.Millisecond, Commit: 5 * time.Millisecond}
	o.RetryFor = time.Second
}

// start founds the cluster on the first member; the others wait to be added.
func (c *cluster) start() {
	for _, m := range c.members {
		c.launch(m)
	}
	c.leader()
}

// launch starts a member and connects it to the running ones.
func (c *cluster) launch(m *member) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	link := inmem(m.id)
	own := m.options
	m.options = func(o *raftlog.Options) {
		own(o)
		if m == c.members[0] {
			for _, s := range c.members {
				o.Bootstrap = append(o.Bootstrap, raft.Server{ID: raft.ServerID(s.id), Address: raft.ServerAddress(s.id)})
			}
		} else {
			o.Join = true
		}
	}
	faults := m.faults
	m.faults.Transport = link
	defer func() { m.options, m.faults = own, faults }()
	m.start()
	c.links[m] = link
	for o, l := range c.links {
		if o != m {
			link.Connect(l.LocalAddr(), l)
			l.Connect(link.LocalAddr(), link)
		}
	}
}

// crash stops a member as SIGKILL would.
func (c *cluster) crash(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.crashLocked(m)
}

func (c *cluster) crashLocked(m *member) {
	link := c.links[m]
	if link == nil {
		return
	}
	link.DisconnectAll()
	delete(c.links, m)
	for _, l := range c.links {
		l.Disconnect(link.LocalAddr())
	}
	m.kill()
}

func (c *cluster) kill() {
	for _, m := range c.members {
		c.crash(m)
	}
}

// leading returns the node that leads, nil if there is none.
func (c *cluster) leading() *raftlog.Node {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, m := range c.members {
		if m.node != nil && m.node.IsLeader() {
			return m.node
		}
	}
	return nil
}

func (c *cluster) leader() (lead *member) {
	c.t.Helper()
	eventually(c.t, "there is a leader", func() bool {
		for _, m := range c.members {
			if m.node != nil && m.node.IsLeader() {
				lead = m
				return true
			}
		}
		return false
	})
	return lead
}

// Invariants I1, I6 and I8 on three nodes: publishers on the leader, kills without flush at random moments, a log compacted
// to the last entry so that a returning node needs a snapshot, and constant readers on every node's files.
// RAFTLOG_CHAOS=<duration> runs it longer.
func TestI1I6I8ThreeNodesUnderKills(t *testing.T) {
	length := 8 * time.Second
	if v := os.Getenv("RAFTLOG_CHAOS"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatalf("RAFTLOG_CHAOS=%q: want a duration such as 2m", v)
		}
		length = d
	}
	if err := chaos(t, length, uint64(time.Now().UnixNano()), raftlog.Faults{}); err != nil {
		t.Error(err)
	}
}

func chaos(t *testing.T, length time.Duration, seed uint64, f raftlog.Faults) error {
	t.Logf("seed %d", seed)
	var (
		c        = newCluster(t, 3)
		l        = newLedger()
		rng      = rand.New(rand.NewPCG(seed, 0))
		installs atomic.Int64
	)
	for _, m := range c.members {
		m.faults = f
		m.options = func(o *raftlog.Options) {
			fast(o)
			o.SnapshotInterval, o.SnapshotThreshold, o.TrailingBytes = 30*time.Millisecond, 20, -1
			o.LogCache = 64
			o.Store.OnInstall(func() { installs.Add(1) })
		}
		m.files = func(o *store.Options) {
			o.FlushInterval = 40 * time.Millisecond
			o.SegmentBytes = 256 << 10
			o.TailBytes = 64 << 10
		}
	}
	c.start()
	defer c.kill()

	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() { l.publish(stop, w, c.leading) })
	}
	var once sync.Once
	halt := func() {
		once.Do(func() { close(stop) })
		writers.Wait()
	}
	defer halt()
	kills, err := c.disturb(length, rng)
	if err != nil {
		return err
	}
	halt()
	errs := []error{c.converge()}
	for _, m := range c.members {
		if err := errors.Join(l.check(m.store), m.noFailure()); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.id, err))
		}
	}
	t.Logf("%d kills, %d installs, %d acknowledged, %d attempts with unknown outcome", kills, installs.Load(), l.acknowledged, l.unknown)
	if l.acknowledged == 0 || kills == 0 || (installs.Load() == 0 && length > 5*time.Second) {
		errs = append(errs, errors.New("not enough happened for a meaningful result"))
	}
	return errors.Join(errs...)
}

// disturb kills and restarts members and moves leadership for a while, with readers on the files.
func (c *cluster) disturb(length time.Duration, rng *rand.Rand) (kills int, err error) {
	pause := func(from, to int) { time.Sleep(time.Duration(from+rng.IntN(to-from)) * time.Millisecond) }
	var readers sync.WaitGroup
	defer readers.Wait()
	for end := time.Now().Add(length); time.Now().Before(end); {
		pause(100, 500)
		m := c.members[rng.IntN(3)]
		// Neither an install nor a kill waits for a long reader of the files.
		if snap, err := m.store.Snapshot(context.Background()); err == nil {
			readers.Go(func() {
				defer snap.Close()
				io.CopyN(io.Discard, snap, 1000)
				time.Sleep(300 * time.Millisecond)
				io.Copy(io.Discard, snap)
			})
		}
		for _, o := range c.members {
			if err := o.noFailure(); err != nil {
				return kills, err
			}
		}
		switch rng.IntN(4) {
		case 0:
			if n := c.leading(); n != nil {
				n.TransferLeadership()
			}
		default:
			c.crash(m)
			kills++
			pause(50, 800)
			c.launch(m)
		}
	}
	return kills, nil
}

// converge waits until all members have the same state. One more message tells the followers about the last commit.
func (c *cluster) converge() (err error) {
	if _, err := proposeUntil(c, publish("t0", "last")); err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = c.sameState(); err == nil {
			return nil
		}
	}
	return err
}

func (c *cluster) sameState() error {
	h0, n0 := c.members[0].hash()
	for _, m := range c.members[1:] {
		if h, n := m.hash(); h != h0 || n != n0 {
			return fmt.Errorf("%s has hash %x after %d messages, %s has %x after %d", c.members[0].id, h0, n0, m.id, h, n)
		}
	}
	return nil
}

// proposeUntil proposes to the leader until it accepts.
func proposeUntil(c *cluster, e ...*hubpb.Event) ([]hub.Result, error) {
	for end := time.Now().Add(20 * time.Second); ; {
		if n := c.leading(); n != nil {
			res, err := n.Propose(context.Background(), e...)
			if err == nil || time.Now().After(end) {
				return res, err
			}
		} else if time.Now().After(end) {
			return nil, errors.New("no leader for 20 seconds")
		}
		time.Sleep(5 * time.Millisecond) // between two attempts
	}
}

func TestFollowerHasNoLeaderToProposeTo(t *testing.T) {
	c := newCluster(t, 3)
	c.start()
	defer c.kill()
	lead := c.leader()
	for _, m := range c.members {
		if m == lead {
			continue
		}
		eventually(t, "the follower knows its leader", func() bool {
			select {
			case <-m.node.Ready():
			default:
				return false
			}
			id, _ := m.node.Leader()
			return id == lead.id
		})
		if _, err := m.node.Propose(context.Background(), publish("a", "x")); !errors.Is(err, hub.ErrNoLeader) {
			t.Errorf("propose to a follower: %v", err)
		}
		if m.node.IsLeader() || m.node.State() != "follower" {
			t.Errorf("follower: IsLeader %v, state %s", m.node.IsLeader(), m.node.State())
		}
		id, err := raftlog.ReadIdentity(m.dir)
		if err != nil || id.ClusterID == "" {
			t.Errorf("follower's identity %+v, %v", id, err)
		}
	}
}

// Close hands leadership over, so the others do not wait for an election timeout.
func TestCloseHandsLeadershipOver(t *testing.T) {
	c := newCluster(t, 3)
	for _, m := range c.members {
		m.options = func(o *raftlog.Options) {
			fast(o)
			o.Timing.Heartbeat, o.Timing.Election = 1500*time.Millisecond, 1500*time.Millisecond
		}
	}
	c.start()
	defer c.kill()
	lead := c.leader()
	begin := time.Now()
	if err := lead.node.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another node leads", func() bool {
		n := c.leading()
		return n != nil && n != lead.node
	})
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the new leader took %v", took)
	}
	c.mu.Lock()
	delete(c.links, lead)
	if err := lead.store.Close(); err != nil {
		t.Error(err)
	}
	lead.node, lead.store = nil, nil
	c.mu.Unlock()
}

// A cluster grows, and after an install moved a follower's store ahead of its log, the follower still restarts.
func TestGrowAndRestartAfterInstall(t *testing.T) {
	c := newCluster(t, 3)
	for _, m := range c.members {
		m.options = func(o *raftlog.Options) {
			fast(o)
			o.TrailingBytes = -1
		}
	}
	first := c.members[0]
	own := first.options
	c.members = c.members[:1] // found with one
	c.start()
	first.options = own
	for i := range 50 {
		if _, err := first.node.Propose(context.Background(), publish("a", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.node.CompactLog(); err != nil {
		t.Fatal(err)
	}
	joiner := newMember(t, "node-9")
	joiner.options = first.options
	c.members = append(c.members, joiner)
	c.launch(joiner)
	defer c.kill()
	if err := first.node.AddVoter(joiner.id, joiner.id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new member holds everything", func() bool {
		_, n := joiner.hash()
		return n == 50
	})
	eventually(t, "the new member is ready", func() bool {
		select {
		case <-joiner.node.Ready():
			return true
		default:
			return false
		}
	})
	// Its log now begins beyond its store's position and is almost empty.
	c.crash(joiner)
	c.launch(joiner)
	if _, n := joiner.hash(); n != 50 {
		t.Errorf("after the restart %d messages", n)
	}
	if _, err := proposeUntil(c, publish("a", "more")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both have the same", func() bool { return c.sameState() == nil })
}
