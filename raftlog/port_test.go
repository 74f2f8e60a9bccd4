package raftlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

// network is a set of members connected by loopback TCP.
type network struct {
	t       testing.TB
	members []*member
	peers   []raftlog.Peer
	logs    map[*member]*logBuffer
	change  func(m *member, o *raftlog.Options)
	mu      sync.RWMutex // guards member.node, and members while other goroutines read it
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newNetwork(t testing.TB, n int) *network {
	w := &network{t: t, logs: map[*member]*logBuffer{}}
	for i := range n {
		w.add(fmt.Sprintf("node-%d", i+1))
	}
	t.Cleanup(w.kill)
	return w
}

// add adds a member with its own address, without starting it.
func (w *network) add(id string) *member {
	w.t.Helper()
	w.peers = append(w.peers, raftlog.Peer{ID: id, Address: free(w.t, 1)[0]})
	m := newMember(w.t, id)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members = append(w.members, m)
	w.logs[m] = new(logBuffer)
	return m
}

func (w *network) address(m *member) string {
	for _, p := range w.peers {
		if p.ID == m.id {
			return p.Address
		}
	}
	return ""
}

// open starts a member and returns Open's error.
func (w *network) open(ctx context.Context, m *member) error {
	l, err := net.Listen("tcp", w.address(m))
	if err != nil {
		w.t.Fatal(err)
	}
	one := &member{t: m.t, id: m.id, dir: m.dir, fatal: m.fatal, files: m.files, faults: m.faults}
	one.options = func(o *raftlog.Options) {
		o.Listener, o.Peers, o.Token = l, w.peers, "a token"
		o.Logger = slog.New(slog.NewTextHandler(w.logs[m], nil))
		o.Timing = raftlog.Timing{Heartbeat: 200 * time.Millisecond, Lease: 150 * time.Millisecond, Commit: 5 * time.Millisecond}
		if w.change != nil {
			w.change(m, o)
		}
	}
	err = one.open(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	m.node, m.store = one.node, one.store
	return err
}

// start starts all members concurrently and waits until they are ready.
func (w *network) start() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i, err := range w.openAll(ctx) {
		if err != nil {
			w.t.Fatalf("start %s: %v", w.members[i].id, err)
		}
	}
	for _, m := range w.members {
		w.ready(m)
	}
}

func (w *network) openAll(ctx context.Context) []error {
	errs := make([]error, len(w.members))
	var wg sync.WaitGroup
	for i, m := range w.members {
		wg.Go(func() { errs[i] = w.open(ctx, m) })
	}
	wg.Wait()
	return errs
}

func (w *network) ready(m *member) {
	w.t.Helper()
	select {
	case <-m.node.Ready():
	case <-time.After(20 * time.Second):
		w.t.Fatalf("%s is not ready; its log:\n%s", m.id, w.logs[m])
	}
}

func (w *network) node(m *member) *raftlog.Node {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return m.node
}

func (w *network) crash(m *member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.kill()
}

func (w *network) kill() {
	for _, m := range w.members {
		w.crash(m)
	}
}

func (w *network) leader() (lead *member) {
	w.t.Helper()
	eventually(w.t, "there is a leader", func() bool {
		for _, m := range w.members {
			if n := w.node(m); n != nil && n.IsLeader() {
				lead = m
				return true
			}
		}
		return false
	})
	return lead
}

func (w *network) follower() *member {
	lead := w.leader()
	for _, m := range w.members {
		if m != lead && w.node(m) != nil {
			return m
		}
	}
	w.t.Fatal("no follower")
	return nil
}

func (w *network) sameState() bool {
	h0, n0 := w.members[0].hash()
	for _, m := range w.members[1:] {
		if h, n := m.hash(); h != h0 || n != n0 {
			return false
		}
	}
	return true
}

func TestThreeNodesFoundAClusterAndAcceptWritesAnywhere(t *testing.T) {
	testThreeNodes(t, newNetwork(t, 3))
}

func testThreeNodes(t *testing.T, w *network) {
	begin := time.Now()
	w.start()
	t.Logf("ready after %v", time.Since(begin))
	for i, m := range w.members {
		res, err := m.node.Propose(context.Background(), publish("a", fmt.Sprint(i)))
		if err != nil || len(res) != 1 || res[0].Offset != uint64(i+1) {
			t.Fatalf("propose to %s: %v, %v", m.id, res, err)
		}
		// The node that accepted the write can read it.
		if ms, err := m.store.Read(res[0].Topic, uint64(i+1), 1, 1000); err != nil || len(ms) != 1 {
			t.Errorf("%s does not read its own write: %v, %v", m.id, ms, err)
		}
	}
	eventually(t, "all have the same state", w.sameState)
	lead := w.leader()
	for _, m := range w.members {
		eventually(t, "every node sees every node alive", func() bool {
			nodes := m.node.Members()
			for i, v := range nodes {
				if !v.Alive || !v.Voter || v.ID != w.peers[i].ID || v.Address != w.peers[i].Address || v.Leader != (v.ID == lead.id) {
					return false
				}
			}
			return len(nodes) == 3 && m.node.Contact() < time.Second && m.node.CaughtUp() && m.node.LeaderID() == lead.id
		})
	}
	// The leader notices dead nodes, and loses contact with the quorum.
	for i, m := range w.members {
		if m == lead {
			continue
		}
		w.crash(m)
		eventually(t, "the leader sees the dead node", func() bool { return !lead.node.Members()[i].Alive })
	}
	eventually(t, "the leader has lost contact", func() bool { return lead.node.Contact() > 500*time.Millisecond })
	if _, err := lead.node.Propose(context.Background(), publish("a", "x")); !errors.Is(err, hub.ErrNoLeader) && !errors.Is(err, hub.ErrAmbiguous) {
		t.Errorf("propose without a quorum: %v", err)
	}
	eventually(t, "the leader steps down", func() bool { return lead.node.State() != "leader" })
	begin = time.Now()
	if _, err := lead.node.Propose(context.Background(), publish("a", "x")); !errors.Is(err, hub.ErrNoLeader) || time.Since(begin) > 1200*time.Millisecond {
		t.Errorf("propose without a leader: %v after %v", err, time.Since(begin))
	}
}

// Invariant I1 with writers on all nodes while leaders are killed and restarted: nothing acknowledged is lost, and a batch
// sent again because its outcome was unknown is applied once.
func TestI1WritesOnAllNodesWhileLeadersDie(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	l := newLedger()
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 12 {
		m := w.members[i%3]
		writers.Go(func() { l.publish(stop, i, func() *raftlog.Node { return w.node(m) }) })
	}
	for range 3 {
		time.Sleep(300 * time.Millisecond) // of load
		lead := w.leader()
		w.crash(lead)
		begin := time.Now()
		w.leader()
		t.Logf("another leader after %v", time.Since(begin))
		time.Sleep(200 * time.Millisecond) // of load on two nodes
		if err := w.open(context.Background(), lead); err != nil {
			t.Fatal(err)
		}
		w.ready(lead)
	}
	close(stop)
	writers.Wait()
	eventually(t, "all have the same state", w.sameState)
	for _, m := range w.members {
		if err := errors.Join(l.check(m.store), m.noFailure()); err != nil {
			t.Errorf("%s: %v", m.id, err)
		}
	}
	_, messages := w.members[0].hash()
	t.Logf("%d acknowledged, %d with unknown outcome, %d in the log", l.acknowledged, l.unknown, messages)
	if l.acknowledged < 100 {
		t.Error("too few acknowledged messages for a meaningful result")
	}
	// Bodies are unique, so a second copy is a batch applied twice.
	bodies := map[string]int{}
	for topic := hub.TopicID(1); topic <= 3; topic++ {
		for from := uint64(1); ; {
			ms, err := w.members[0].store.Read(topic, from, 1000, 8<<20)
			if err != nil {
				t.Fatal(err)
			}
			if len(ms) == 0 {
				break
			}
			for _, m := range ms {
				if bodies[string(m.Body)]++; bodies[string(m.Body)] == 2 {
					t.Errorf("twice in the log: %.20s", m.Body)
				}
			}
			from = ms[len(ms)-1].Offset + 1
		}
	}
}

func TestForwardedBatchIsAppliedOnce(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	f := w.follower()
	data, err := hub.EncodeProposal(events(publish("a", "once")))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		res, err := f.node.Send("someone/1", 7, data)
		if err != nil || res.Seq != 7 || res.Proposals[0][0].Offset != 1 {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	if _, n := f.hash(); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestUnauthenticatedConnectionsLearnNothing(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	for _, sent := range []string{
		"GET / HTTP/1.1\r\n\r\n", "R\xff\xff", "C\x00\x02{}", "R\x00\x03{{{", "C\x00\x10{\"version\":99}\x00",
		"R\x00\x2c" + `{"version":1,"node":"node-9","token":"wrong"}`,
	} {
		conn, err := net.Dial("tcp", w.peers[0].Address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(sent)); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := got.ReadFrom(conn); err != nil && errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q: the connection stays open", sent)
		}
		if strings.Contains(got.String(), "instance") {
			t.Errorf("%q got the response %q", sent, got.String())
		}
		conn.Close()
	}
	if _, err := w.members[1].node.Propose(context.Background(), publish("a", "x")); err != nil {
		t.Error(err)
	}
}

// A suspended leader accepts connections but never answers. A batch on its way to it must be able to turn to the next leader
// at once.
func TestDialGivesUpOnASilentNode(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	w := newNetwork(t, 3)
	w.start()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	begin := time.Now()
	if err := w.members[0].node.Dial(ctx, silent.Addr().String()); err == nil {
		t.Error("the handshake succeeded without an answer")
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("gave up after %v", took)
	}
}
