package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/auth/keyring"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// keyCluster is a cluster of Keepers that share one log. Tests can intercept questions and proposals.
type keyCluster struct {
	t  *testing.T
	mu sync.Mutex // guards the fields below

	state   *hub.State
	seq     uint64
	down    map[string]bool
	before  func(from, to string, q *keyring.Question) error // may fail a question
	propose func(*hubpb.Event) error                         // may fail a proposal
	keepers map[string]*keyring.Keeper
	stores  map[string]*keyring.Store
	unfit   chan error
}

func newKeyCluster(t *testing.T, nodes ...string) *keyCluster {
	c := &keyCluster{t: t, state: hub.NewState(), down: map[string]bool{}, keepers: map[string]*keyring.Keeper{}, stores: map[string]*keyring.Store{},
		unfit: make(chan error, 10)}
	for _, n := range nodes {
		c.add(n, openKeyFile(t, keyFile(t, keyText(1)+"\n")))
	}
	c.eventually("the first key is agreed", func() bool { return c.agreed().Sealing != "" })
	return c
}

// add starts the Keeper of a node. The first node leads.
func (c *keyCluster) add(node string, store *keyring.Store) {
	m := &keyMember{c, node}
	k := keyring.NewKeeper(keyring.KeeperOptions{Node: node, Keys: store, State: lockedState{c}, Proposer: m, Cluster: m,
		Flush: func(context.Context) error { return nil },
		Unfit: func(err error) { c.unfit <- fmt.Errorf("%s: %w", node, err) }, Log: slog.New(slog.DiscardHandler)})
	c.mu.Lock()
	c.stores[node], c.keepers[node] = store, k
	c.mu.Unlock()
	if _, err := m.Propose(c.t.Context(), &hubpb.Event{Kind: &hubpb.Event_NodeAdmitted{NodeAdmitted: &hubpb.NodeAdmitted{Node: node, Instance: node, Member: true}}}); err != nil {
		c.t.Fatal(err)
	}
	k.Start(c.t.Context())
	c.t.Cleanup(k.Close)
}

type lockedState struct{ c *keyCluster }

func (l lockedState) View(f func(*hub.State)) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	f(l.c.state)
}

type keyMember struct {
	c    *keyCluster
	node string
}

func (m *keyMember) IsLeader() bool { return m.NodeIDs()[0] == m.node }
func (m *keyMember) CaughtUp() bool { return true }
func (m *keyMember) NodeIDs() (ids []string) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for id := range m.c.keepers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (m *keyMember) Ask(_ context.Context, node string, q *keyring.Question) (*keyring.Answer, error) {
	m.c.mu.Lock()
	k, down, before := m.c.keepers[node], m.c.down[node], m.c.before
	m.c.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	if before != nil {
		if err := before(m.node, node, q); err != nil {
			return nil, err
		}
	}
	return k.Answer(q)
}

func (m *keyMember) Propose(_ context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	c := m.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.propose != nil {
		if err := c.propose(events[0]); err != nil {
			return nil, err
		}
	}
	proposal, err := hub.EncodeProposal(events)
	if err != nil {
		return nil, err
	}
	var b hub.EntryBuilder
	c.seq++
	b.AddBatch("origin/1", c.seq, [][]byte{proposal})
	var fx hub.Effects
	res, err := c.state.Apply(b.Encode(time.Now().UnixNano()), &fx)
	if err != nil {
		return nil, err
	}
	for _, k := range c.keepers {
		k.Applied(&fx)
	}
	return res[0].Proposals[0], nil
}

func (c *keyCluster) agreed() (k hub.SealingKeys) {
	lockedState{c}.View(func(s *hub.State) { k = s.SealingKeys() })
	return k
}

func (c *keyCluster) eventually(what string, holds func() bool) {
	c.t.Helper()
	for end := time.Now().Add(15 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("timed out waiting until %s", what)
		}
	}
}

// subscribe makes n requests with secrets sealed by a node and verifies every second one.
func (c *keyCluster) subscribe(node string, n int) {
	c.t.Helper()
	m := &keyMember{c, node}
	for i := range n {
		callback := fmt.Sprintf("https://%s.example/%d/%d", node, c.seq, i)
		sealed, err := c.stores[node].Ring().Seal([]byte("secret of "+callback), hub.SecretBinding("t", callback))
		if err != nil {
			c.t.Fatal(err)
		}
		res, err := m.Propose(c.t.Context(), &hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
			Mode: hub.ModeSubscribe, Topic: "t", Callback: callback, CallbackKey: callback, LeaseSeconds: 3600, SealedSecret: sealed, AutoRegister: true}}})
		if err != nil || res[0].Outcome != hub.OutcomeOK {
			c.t.Fatalf("%+v, %v", res, err)
		}
		if i%2 == 0 {
			if _, err := m.Propose(c.t.Context(), &hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{
				Request: res[0].ID, VerifiedFrom: time.Now().UnixNano()}}}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// opensAll checks that a node would open every secret of the state after a restart.
func (c *keyCluster) opensAll(node string) {
	c.t.Helper()
	ring := c.stores[node].Ring()
	if kept, err := c.stores[node].Kept(); err != nil || len(kept) != len(ring.IDs()) {
		c.t.Errorf("%s has %v on disk (%v) and %v in memory", node, kept, err, ring.IDs())
	}
	lockedState{c}.View(func(s *hub.State) {
		for _, sub := range s.Subscriptions(0, 0, nil) {
			secret, err := ring.Open(sub.SealedSecret, hub.SecretBinding("t", sub.CallbackKey))
			if err != nil || string(secret) != "secret of "+sub.Callback {
				c.t.Errorf("%s opens the secret of %s as %q (%v)", node, sub.Callback, secret, err)
			}
		}
	})
}

func TestRotate(t *testing.T) {
	c := newKeyCluster(t, "a", "b", "c")
	old := c.agreed().Sealing
	c.subscribe("a", 1000) // more than one batch
	if err := c.keepers["b"].Rotate(t.Context(), "", "tester"); err != nil {
		t.Fatal(err)
	}
	present := c.agreed().Sealing
	if present == old || c.agreed().Next != "" {
		t.Fatalf("after a rotation: %+v", c.agreed())
	}
	for node, s := range c.stores {
		kept, err := s.Kept()
		if err != nil || len(kept) != 2 || kept[0] != present || s.Ring().ID() != present {
			t.Errorf("%s has %v on disk (%v) and seals with %s, want %s first", node, kept, err, s.Ring().ID(), present)
		}
	}
	c.subscribe("c", 10)
	st := c.keepers["c"].Status(t.Context())
	i := slices.IndexFunc(st.Keys, func(u keyring.KeyUse) bool { return u.ID == old })
	if i < 0 || st.Keys[i].Subscriptions != 500 || st.Keys[i].Requests != 500 || len(st.Keys[i].Nodes) != 3 || len(st.Nodes) != 3 {
		t.Fatalf("status: %+v", st)
	}
	if _, err := c.keepers["a"].Drop(t.Context(), old, "tester"); err == nil || !strings.Contains(err.Error(), "1000 secrets are still sealed with "+old) {
		t.Errorf("dropping a key in use: %v", err)
	}
	if _, err := c.keepers["a"].Drop(t.Context(), present, "tester"); err == nil || !strings.Contains(err.Error(), "is the sealing key") {
		t.Errorf("dropping the sealing key: %v", err)
	}
	if _, err := c.keepers["a"].Drop(t.Context(), "ffffffff", "tester"); err == nil || !strings.Contains(err.Error(), "no node holds") {
		t.Errorf("dropping an unknown key: %v", err)
	}
	done, err := c.keepers["c"].Reencrypt(t.Context(), time.Minute)
	if err != nil || done.Sealed != 1000 || done.Left != 0 || len(done.Failing) != 0 {
		t.Fatalf("re-encrypted: %+v, %v", done, err)
	}
	dropped, err := c.keepers["a"].Drop(t.Context(), "", "tester")
	if err != nil || len(dropped) != 1 || dropped[0] != old {
		t.Fatalf("dropped: %v, %v", dropped, err)
	}
	for node, s := range c.stores {
		c.eventually("the old key is gone", func() bool { return !s.Ring().Opens(old) })
		c.opensAll(node)
	}
	if err := c.keepers["a"].Rotate(t.Context(), old, "tester"); err == nil || !strings.Contains(err.Error(), "retired") {
		t.Errorf("rotating back to a dropped key: %v", err)
	}
}

// Whatever step of a rotation fails, on whichever node: either the sealing key is unchanged, or every node has the new one on
// disk. The same command continues the rotation on any node.
func TestInterruptedRotation(t *testing.T) {
	broken := errors.New("interrupted here")
	for steps := 0; ; steps++ {
		c := newKeyCluster(t, "a", "b", "c")
		old := c.agreed().Sealing
		left := steps
		fail := func() error { // needs mu
			if left--; left < 0 {
				return broken
			}
			return nil
		}
		var mu sync.Mutex
		c.mu.Lock()
		c.before = func(string, string, *keyring.Question) error { mu.Lock(); defer mu.Unlock(); return fail() }
		c.propose = func(*hubpb.Event) error { mu.Lock(); defer mu.Unlock(); return fail() }
		c.mu.Unlock()
		// The questions after the switch only check whether all nodes follow; they need not succeed.
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := c.keepers["a"].Rotate(ctx, "", "tester")
		cancel()
		switched := c.agreed().Sealing != old
		mu.Lock()
		left = 1 << 30
		mu.Unlock()
		for node, s := range c.stores {
			if kept, kerr := s.Kept(); kerr != nil || !slices.Contains(kept, c.agreed().Sealing) {
				t.Fatalf("interrupted after %d steps: %s has %v on disk (%v), and %s seals", steps, node, kept, kerr, c.agreed().Sealing)
			}
		}
		if switched {
			t.Logf("a rotation takes %d steps", steps)
			return
		}
		if err == nil {
			t.Fatalf("after %d steps: an interrupted rotation returns no error", steps)
		}
		announced := c.agreed().Next
		if err := c.keepers["c"].Rotate(t.Context(), "", "tester"); err != nil {
			t.Fatalf("interrupted after %d steps, then repeated on another node: %v", steps, err)
		}
		if present := c.agreed().Sealing; announced != "" && present != announced {
			t.Fatalf("after %d steps %s was announced, but %s seals", steps, announced, present)
		}
	}
}

func TestRotationNamesTheNodeInTheWay(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(c *keyCluster)
		want   []string
		repair func(c *keyCluster)
	}{
		{"a node is down", func(c *keyCluster) { c.down["b"] = true }, []string{"b does not report its keys", "connection refused"}, func(c *keyCluster) { c.down["b"] = false }},
		{"a node cannot write", func(c *keyCluster) {
			c.before = func(_, to string, q *keyring.Question) error {
				if to == "b" && q.Op == "take" {
					return errors.New("read-only file system")
				}
				return nil
			}
		}, []string{"b did not store the new key", "read-only file system", "the sealing key is unchanged"}, func(c *keyCluster) { c.before = nil }},
		{"a node forgets", func(c *keyCluster) {
			c.before = func(_, to string, q *keyring.Question) error {
				if to == "b" && q.Op == "take" {
					q.Op = "status"
				}
				return nil
			}
		}, []string{"b does not hold the new key", "the sealing key is unchanged"}, func(c *keyCluster) { c.before = nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newKeyCluster(t, "a", "b", "c")
			old := c.agreed().Sealing
			c.mu.Lock()
			tc.damage(c)
			c.mu.Unlock()
			err := c.keepers["a"].Rotate(t.Context(), "", "tester")
			for _, s := range tc.want {
				if err == nil || !strings.Contains(err.Error(), s) {
					t.Fatalf("error %v, want %q", err, s)
				}
			}
			if c.agreed().Sealing != old {
				t.Fatal("sealing was switched")
			}
			c.mu.Lock()
			tc.repair(c)
			c.mu.Unlock()
			if err := c.keepers["c"].Rotate(t.Context(), "", "tester"); err != nil || c.agreed().Sealing == old {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func TestRotationOfFixedKeys(t *testing.T) {
	c := newKeyCluster(t, "a", "b")
	fixed, err := keyring.Fixed(keyText(1))
	if err != nil {
		t.Fatal(err)
	}
	c.add("c", fixed)
	if err := c.keepers["a"].Rotate(t.Context(), "", "tester"); err == nil || !strings.Contains(err.Error(), "c has its keys in its configuration (secrets.key, QUORUMHUB_SECRETS_KEY)") {
		t.Fatalf("a new key with configured keys: %v", err)
	}
	if c.agreed().Next != "" {
		t.Fatal("the new key was announced nevertheless")
	}
	// By hand: append the new key everywhere but on b, which gets it from the others.
	next := keyring.KeyID(rawKey(2))
	if err := c.stores["a"].Add(rawKey(2)); err != nil {
		t.Fatal(err)
	}
	if err := c.keepers["b"].Rotate(t.Context(), next, "tester"); err == nil || !strings.Contains(err.Error(), "c has its keys in its configuration") || c.agreed().Sealing == next {
		t.Fatalf("before c has the key: %v", err)
	}
	both, err := keyring.Fixed(keyText(1) + "," + keyText(2))
	if err != nil {
		t.Fatal(err)
	}
	c.add("c", both) // restarted
	if err := c.keepers["b"].Rotate(t.Context(), next, "tester"); err != nil || c.agreed().Sealing != next || both.Ring().ID() != next {
		t.Fatalf("after c has the key: %v, %+v", err, c.agreed())
	}
	for node := range c.stores {
		c.opensAll(node)
	}
}

// Keys go only to nodes that hold the current sealing key, and are taken only from them: neither a certificate nor the cluster's
// token is enough.
func TestKeysTravelSealed(t *testing.T) {
	c := newKeyCluster(t, "a")
	a, err := c.keepers["a"].Answer(&keyring.Question{Op: "give", Key: keyring.KeyID(rawKey(1))})
	if err != nil || len(a.Sealed) == 0 || strings.Contains(string(a.Sealed), string(rawKey(1))) {
		t.Fatalf("give: %q, %v", a.Sealed, err)
	}
	foreign, err := ringOf(t, 9).Seal(rawKey(9), "secrets.key\x00"+keyring.KeyID(rawKey(9)))
	if err != nil {
		t.Fatal(err)
	}
	own := ringOf(t, 1)
	wrong, err := own.Seal(rawKey(8), "secrets.key\x00"+keyring.KeyID(rawKey(9)))
	if err != nil {
		t.Fatal(err)
	}
	unbound, err := own.Seal(rawKey(9), hub.SecretBinding("t", "c"))
	if err != nil {
		t.Fatal(err)
	}
	for name, sealed := range map[string][]byte{"sealed with another key": foreign, "a different key than its ID": wrong, "a secret": unbound, "in the clear": rawKey(9)} {
		if _, err := c.keepers["a"].Answer(&keyring.Question{Op: "take", Key: keyring.KeyID(rawKey(9)), Sealed: sealed}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if ids := c.stores["a"].Ring().IDs(); len(ids) != 1 {
		t.Errorf("the store now holds %v", ids)
	}
}

// A node whose file lacks a key the state needs reports which, and stops.
func TestNodeWithOldKeyFile(t *testing.T) {
	c := newKeyCluster(t, "a", "b")
	c.subscribe("a", 2)
	if err := c.keepers["a"].Rotate(t.Context(), "", "tester"); err != nil {
		t.Fatal(err)
	}
	c.subscribe("a", 2)
	present := c.agreed().Sealing
	path := keyFile(t, keyText(1)+"\n")
	c.add("late", openKeyFile(t, path))
	select {
	case err := <-c.unfit:
		for _, s := range []string{"late: secrets.key_file " + path, "lacks the key " + present, "copy the key file of another node"} {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("error %v, want %q", err, s)
			}
		}
	case <-time.After(15 * time.Second):
		t.Fatal("a missing key goes unreported")
	}
}

// A node without others is not told to copy a file of another node.
func TestLoneNodeWithAnotherKeyFile(t *testing.T) {
	c := newKeyCluster(t, "a")
	c.subscribe("a", 2)
	present := c.agreed().Sealing
	c.mu.Lock()
	delete(c.keepers, "a")
	c.mu.Unlock()
	c.add("b", openKeyFile(t, keyFile(t, keyText(7)+"\n")))
	select {
	case err := <-c.unfit:
		if !strings.Contains(err.Error(), present) || !strings.Contains(err.Error(), "restore the file that this hub had from a backup") || strings.Contains(err.Error(), "another node") {
			t.Errorf("error %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("a missing key goes unreported")
	}
}

// The error for a read-only key file says what to do.
func TestReadOnlyKeyFile(t *testing.T) {
	// Even root cannot create the temporary file beside this one, because its name would be too long.
	path := filepath.Join(t.TempDir(), strings.Repeat("k", 255))
	if err := os.WriteFile(path, []byte(keyText(1)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := openKeyFile(t, path)
	if err := file.Add(rawKey(2)); err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("%v", err)
	}
}
