package raftlog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/raftlog"
)

// operatorKey is a batch that creates an API key with all rights.
func operatorKey(t *testing.T) []byte {
	t.Helper()
	data, err := hub.EncodeProposal(events(&hubpb.Event{Kind: &hubpb.Event_ApiKeyCreated{ApiKeyCreated: &hubpb.ApiKeyCreated{
		Id: "intruder", Name: "intruder", Hash: bytes.Repeat([]byte{1}, 32), Roles: []string{"operator"},
	}}}))
	if err != nil {
		t.Fatal(err)
	}
	return raftlog.ForwardBody("intruder/1", 1, data)
}

// tryEverything makes every call there can be to a node, known or not, and opens one of raft's streams. It returns what a node got
// that is for members.
func tryEverything(t *testing.T, v raftlog.Visitor, address string, key []byte) (got []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for method := range 256 {
		bodies := [][]byte{nil, {1}, []byte("{}")}
		if byte(method) == raftlog.MethodForward {
			bodies = [][]byte{key}
		}
		visit, err := v.Calls(ctx, address)
		if err != nil {
			if !raftlog.IsRefusal(err) {
				t.Fatalf("connect: %v", err)
			}
			break // as good as a refusal of each
		}
		for _, body := range bodies {
			status, out, err := visit.Call(ctx, byte(method), body)
			if err != nil {
				t.Fatalf("call %d: %v", method, err)
			}
			open := byte(method) == raftlog.MethodState || byte(method) == raftlog.MethodJoin
			if !open && status != raftlog.StatusStranger && status != raftlog.StatusRemoved {
				got = append(got, fmt.Sprintf("call %d: status %d %q", method, status, out))
			}
			if open && bytes.Contains(out, []byte(`"joined"`)) {
				got = append(got, fmt.Sprintf("call %d: %s", method, out))
			}
		}
		visit.Close()
	}
	if stream, err := v.Raft(ctx, address); err == nil {
		got = append(got, "one of raft's streams")
		stream.Close()
	} else if !raftlog.IsRefusal(err) {
		t.Fatalf("open a stream: %v", err)
	}
	return got
}

// nothingChanged checks that no intruder has a key.
func (w *network) nothingChanged() {
	w.t.Helper()
	for _, m := range w.members {
		if m.store == nil {
			continue
		}
		m.store.View(func(s *hub.State) {
			if keys := s.APIKeys(); len(keys) > 0 {
				w.t.Errorf("%s has the API keys %v", m.id, keys)
			}
		})
	}
}

func (w *network) cluster() (id string) {
	w.members[0].store.View(func(s *hub.State) { id = s.ClusterID() })
	return id
}

// With plain TCP any process of the machine can connect. It gets nothing without a secret of the nodes, even as a member whose
// identity it has learned, and nothing for members with the secret alone.
func TestStrangersOnAPlainPortAreRefused(t *testing.T) {
	secrets := [][]byte{[]byte("a secret of the nodes"), []byte("an older one")}
	for _, token := range []string{"", "a token"} {
		t.Run("token="+token, func(t *testing.T) {
			w := newNetwork(t, 3)
			w.change = func(m *member, o *raftlog.Options) {
				o.Token, o.Secrets = token, func() [][]byte { return secrets }
				if m.id == "node-3" {
					o.Secrets = func() [][]byte { return secrets[1:] } // it was away while the others got another key
				}
			}
			w.start()
			w.levelIs(hub.FeatureLevel)
			key := operatorKey(t)
			member := raftlog.Visitor{ID: "node-2", Instance: w.members[1].node.Instance(), Cluster: w.cluster()}
			for name, v := range map[string]raftlog.Visitor{
				"no member":                 {ID: "node-9", Instance: "x", Cluster: w.cluster()},
				"a member's name":           member,
				"open":                      {ID: "node-2", Instance: member.Instance, Cluster: member.Cluster, Open: true, Secrets: [][]byte{[]byte("guess")}},
				"a program without proofs":  {ID: "node-2", Instance: member.Instance, Cluster: member.Cluster, Old: true},
				"a wrong secret":            {ID: "node-2", Instance: member.Instance, Cluster: member.Cluster, Secrets: [][]byte{[]byte("guess")}},
				"a wrong token":             {ID: "node-2", Instance: member.Instance, Cluster: member.Cluster, Token: "guess"},
				"the secret, but no member": {ID: "node-9", Instance: "x", Cluster: w.cluster(), Token: token, Secrets: secrets},
			} {
				for i, m := range w.members {
					if name != "no member" && m.id == v.ID {
						continue
					}
					if got := tryEverything(t, v, w.peers[i].Address, key); len(got) > 0 {
						t.Errorf("%s gets from %s: %q", name, m.id, got)
					}
				}
			}
			w.nothingChanged()

			// The same calls as a member, to be sure that they would work.
			member.Token, member.Secrets, member.Boot = token, secrets, "another run"
			lead := w.leader()
			if lead.id == member.ID {
				return
			}
			w.crash(w.members[1])
			if got := tryEverything(t, member, w.address(lead), key); len(got) < 200 {
				t.Errorf("a member gets %q", got)
			}
			eventually(t, "the batch of a member is applied", func() (has bool) {
				lead.store.View(func(s *hub.State) { has = len(s.APIKeys()) == 1 })
				return has
			})
		})
	}
}

// levelIs waits until all nodes have agreed on a feature level.
func (w *network) levelIs(level uint32) {
	w.t.Helper()
	for _, m := range w.members {
		eventually(w.t, m.id+" knows the feature level", func() bool { return m.node.FeatureLevel() == level })
	}
}

// noneMovesAnother checks that nobody may ask to join, or to be moved, for another node.
func (w *network) noneMovesAnother(ctx context.Context, v raftlog.Visitor) {
	w.t.Helper()
	visit, err := v.Calls(ctx, w.address(w.leader()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer visit.Close()
	other := w.follower()
	q, _ := json.Marshal(map[string]any{"node": other.id, "instance": other.node.Instance(), "address": "127.0.0.1:9"})
	if status, out, err := visit.Call(ctx, raftlog.MethodJoin, q); err != nil || status == raftlog.StatusOK {
		w.t.Errorf("asking to move %s: status %d %s, %v", other.id, status, out, err)
	}
}

// A certificate makes no member: not one that was issued but not announced, not one that was announced and has not joined, not that
// of a node that was removed, and not a joining node's before it is in raft's configuration. A non-voter is a member.
func TestACertificateMakesNoMember(t *testing.T) {
	a := makeAuthority(t)
	w := newNetwork(t, 3)
	w.change = func(m *member, o *raftlog.Options) {
		o.TLS, o.Token, o.ListedOnly, o.Nonvoter = a.issue(m.id), "", true, m.id == "node-5"
		o.Autopilot.Stabilization = 200 * time.Millisecond
	}
	w.start()
	key := operatorKey(t)
	address := func(m *member) string { return w.address(m) }

	unannounced := raftlog.Visitor{ID: "node-9", Instance: "nine", Cluster: w.cluster(), TLS: a.issue("node-9")}
	announced := raftlog.Visitor{ID: "node-8", Instance: "eight", Cluster: w.cluster(), TLS: a.issue("node-8")}
	w.mustChange(raftlog.Change{Operation: raftlog.AddNode, Node: "node-8", Address: "127.0.0.1:8"})
	wrong := raftlog.Visitor{ID: w.members[1].id, Instance: w.members[1].node.Instance(), Cluster: w.cluster(), TLS: unannounced.TLS}
	for _, m := range w.members {
		for name, v := range map[string]raftlog.Visitor{"not announced": unannounced, "announced": announced, "another's certificate": wrong} {
			if v.ID == m.id {
				continue
			}
			if got := tryEverything(t, v, address(m), key); len(got) > 0 {
				t.Errorf("%s gets from %s: %q", name, m.id, got)
			}
		}
	}

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	lead := w.leader()
	w.noneMovesAnother(ctx, unannounced)
	// A node that joins is served from the moment it is a member, and no longer than it is, on a connection that stays open.
	for _, id := range []string{"node-4", "node-5"} {
		m := w.add(id)
		w.mustChange(raftlog.Change{Operation: raftlog.AddNode, Node: id, Address: address(m), Nonvoter: id == "node-5"})
		before := raftlog.Visitor{ID: id, Instance: "before", Cluster: w.cluster(), TLS: a.issue(id)}
		if got := tryEverything(t, before, address(w.leader()), key); len(got) > 0 {
			t.Errorf("%s gets before it joined: %q", id, got)
		}
		if err := w.open(ctx, m); err != nil {
			t.Fatal(err)
		}
		w.ready(m)
	}
	w.votersAre("node-1", "node-2", "node-3", "node-4")
	m5 := w.members[4]
	v := raftlog.Visitor{ID: m5.id, Instance: m5.node.Instance(), Cluster: w.cluster(), TLS: a.issue(m5.id)}
	visit, err := v.Calls(ctx, address(lead))
	if err != nil {
		t.Fatal(err)
	}
	defer visit.Close()
	if status, out, err := visit.Call(ctx, raftlog.MethodStatus, nil); err != nil || status != raftlog.StatusOK {
		t.Fatalf("a non-voter asks for the status: %d %s, %v", status, out, err)
	}
	stream, err := v.Raft(ctx, address(lead))
	if err != nil {
		t.Fatalf("a non-voter opens one of raft's streams: %v", err)
	}
	defer stream.Close()
	w.mustChange(raftlog.Change{Operation: raftlog.RemoveNode, Node: m5.id})
	eventually(t, "the removed node gets nothing on the connection it has", func() bool {
		status, _, err := visit.Call(ctx, raftlog.MethodForward, key)
		return err == nil && (status == raftlog.StatusRemoved || status == raftlog.StatusStranger)
	})
	if _, err := stream.Write([]byte{0}); err == nil {
		if _, err := stream.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the removed node's raft stream goes on: %v", err)
		}
	}
	if got := tryEverything(t, v, address(lead), key); len(got) > 0 {
		t.Errorf("a removed node gets %q", got)
	}
}

// A member that was away while the others were replaced learns from those it knows that the leader, which it does not know, is a
// member.
func TestALeaderThatJoinedMeanwhileIsBelieved(t *testing.T) {
	w := growing(t, 3)
	w.start()
	former, away := w.leader(), w.follower()
	w.crash(away)
	m := w.join("node-4")
	w.votersAre("node-1", "node-2", "node-3", "node-4")
	w.mustChange(raftlog.Change{Operation: raftlog.TransferLeadership, Node: m.id})
	eventually(t, "the new node leads", func() bool { return m.node.IsLeader() })
	if _, err := m.node.Propose(context.Background(), publish("a", "x")); err != nil {
		t.Fatal(err)
	}
	w.crash(former) // what it was about to send to the node that is away would tell that one
	for _, o := range []*member{former, away} {
		if err := w.open(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		w.ready(o)
	}
	eventually(t, "all have the same state", w.sameState)
}
