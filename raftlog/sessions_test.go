package raftlog_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

// loginLike is a person's login in two steps, with a subject and a session at the identity provider.
func loginLike(n int) *hub.NewSession {
	sub, sid := sha256.Sum256(fmt.Append(nil, "sub", n)), sha256.Sum256(fmt.Append(nil, "sid", n))
	now := time.Now()
	return &hub.NewSession{MaxOfPrincipal: 50, Session: hub.Session{ID: sha256.Sum256(fmt.Append(nil, "session", n)),
		Principal: fmt.Sprintf("issuer:corp/%08x-5717-4562-b3fc-2c963f66afa6", n), Name: fmt.Sprintf("Alexandra Example %06d", n), Client: "Firefox 144 on Windows, 192.0.2.1",
		Ends: now.Add(12 * time.Hour), SealedWith: "01020304", Passed: []hub.PassedStep{
			{Authenticator: "corp", At: now, Key: [16]byte(append(append([]byte{}, sub[:8]...), sid[:8]...))}, {Authenticator: "emergency", At: now}}}}
}

func serviceOf(m *member) *hub.Service {
	return hub.NewService(hub.Policy{}, nil, m.node, m.store, nil)
}

func sessionsOf(m *member) (n int) {
	m.store.View(func(s *hub.State) { n = s.Counts().Sessions })
	return n
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// sizeOf returns the bytes of the files below a directory whose name begins with prefix.
func sizeOf(t *testing.T, dir, prefix string) (size int64) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && strings.HasPrefix(info.Name(), prefix) {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// login logs in as callbacks do: the state is claimed, then the session starts.
func login(ctx context.Context, m *member, n int) error {
	s := serviceOf(m)
	fresh, err := s.ClaimLogin(ctx, sha256.Sum256(fmt.Append(nil, "state", n)), fmt.Sprintf("192.0.2.%d", n%200), time.Now().Add(time.Minute))
	if err == nil && !fresh {
		err = errors.New("the state is not fresh")
	}
	if err == nil {
		_, err = s.StartSession(ctx, loginLike(n))
	}
	return err
}

var sessionCount = flag.Int("sessions", 10_000, "how many sessions the test of their cost makes; 100000 take minutes under the race detector")

// A cluster keeps 100,000 sessions (-sessions 100000; fewer otherwise) at 512 bytes each in every node's memory. A login takes two
// entries of the log, what ends a session ends it on all nodes, and restarts and snapshots keep sessions.
func TestSessionsOnThreeNodes(t *testing.T) {
	count := *sessionCount
	if testing.Short() {
		count = 5000
	}
	w := newNetwork(t, 3)
	w.change = func(_ *member, o *raftlog.Options) {
		o.SnapshotInterval, o.SnapshotThreshold = time.Hour, 1<<40 // cut below, by hand
		o.TrailingBytes, o.MinTrailing = 1, 8
		o.Timing = raftlog.Timing{Heartbeat: 2 * time.Second, Lease: 1500 * time.Millisecond, Commit: 5 * time.Millisecond}
	}
	w.start()
	ctx := t.Context()
	follower := w.members[0]
	if follower == w.leader() {
		follower = w.members[1]
	}
	const few = 20
	var entries []uint64
	for n := range few {
		before := follower.node.Stats().AppliedIndex
		if err := login(ctx, follower, n); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the follower has applied it", func() bool { return sessionsOf(follower) == n+1 })
		entries = append(entries, follower.node.Stats().AppliedIndex-before)
	}
	slices.Sort(entries)
	if entries[few/2] > 2 { // others may come in between
		t.Errorf("logins took %d entries", entries)
	}
	if fresh, err := serviceOf(w.leader()).ClaimLogin(ctx, sha256.Sum256([]byte("state0")), "192.0.2.1", time.Now().Add(time.Minute)); err != nil || fresh {
		t.Errorf("a state is fresh once more on another node: %v, %v", fresh, err)
	}

	used := heap()
	began := time.Now()
	startSessions(t, w.members, few, count)
	took := time.Since(began)
	for _, m := range w.members {
		eventually(t, m.id+" has all sessions", func() bool { return sessionsOf(m) == count })
		if err := m.store.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	each := float64(heap()-used) / float64(len(w.members)*(count-few))
	t.Logf("%d sessions: %.0f bytes of memory each on each node, %d in the files of the state, %d in raft's log until it is cut; %s a login", count, each,
		sizeOf(t, filepath.Join(follower.dir, "store"), "")/int64(count), sizeOf(t, follower.dir, "raft")/int64(count), took/time.Duration(count))
	if each > 512 && count >= 100_000 { // what a node takes besides weighs less then
		t.Errorf("a session takes %.0f bytes of memory; at most 512 are promised", each)
	}

	endsEverywhere(t, w, follower)
	surviveRestarts(t, w, follower)
}

// startSessions starts the sessions with numbers from first to count, through all nodes.
func startSessions(t *testing.T, members []*member, first, count int) {
	t.Helper()
	next := make(chan int)
	var running sync.WaitGroup
	for i := range 120 {
		s := serviceOf(members[i%len(members)])
		running.Go(func() {
			for n := range next {
				_, err := s.StartSession(t.Context(), loginLike(n))
				for hub.CodeOf(err) == hub.CodeUnavailable && t.Context().Err() == nil { // no leader at the moment
					_, err = s.StartSession(t.Context(), loginLike(n))
				}
				if err != nil && hub.CodeOf(err) != hub.CodeConflict { // a conflict: it was recorded after all
					t.Errorf("login %d: %v", n, err)
				}
			}
		})
	}
	for n := first; n < count; n++ {
		next <- n
	}
	close(next)
	running.Wait()
}

// endsEverywhere ends sessions on one node, of one person and by the identity provider's word.
func endsEverywhere(t *testing.T, w *network, m *member) {
	t.Helper()
	was := sessionsOf(m)
	one, two := loginLike(17), loginLike(18)
	began := time.Now()
	for _, e := range []*hub.EndingSessions{
		{IDs: []hub.SessionID{one.ID}, Owner: one.Principal, Reason: hub.SessionLogout},
		{Filter: hub.SessionFilter{Authenticator: "corp", Key: two.Passed[0].Key}, Reason: hub.SessionProvider},
	} {
		if n, err := serviceOf(m).EndSessions(t.Context(), e); err != nil || n != 1 {
			t.Errorf("%d sessions ended, %v", n, err)
		}
	}
	for _, o := range w.members {
		eventually(t, o.id+" knows that they have ended", func() bool { return sessionsOf(o) == was-2 })
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("two logouts took %s", took)
	}
	for _, o := range w.members {
		o.store.View(func(s *hub.State) {
			_, a := s.Session(one.ID)
			_, b := s.Session(two.ID)
			if a || b {
				t.Errorf("%s has sessions that have ended", o.id)
			}
		})
	}
}

// surviveRestarts stops a node, and lets it miss so much that it gets a snapshot.
func surviveRestarts(t *testing.T, w *network, m *member) {
	t.Helper()
	want := sessionsOf(m)
	w.crash(m)
	if err := w.open(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node has its sessions after a restart", func() bool { return sessionsOf(m) == want })
	w.crash(m)
	lead := w.leader()
	three := loginLike(19)
	if _, err := serviceOf(lead).EndSessions(t.Context(), &hub.EndingSessions{IDs: []hub.SessionID{three.ID}, Reason: hub.SessionOperator}); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if _, err := lead.node.Propose(t.Context(), publish("t", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range w.members {
		if o != m {
			if err := o.node.CompactLog(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.open(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node has the snapshot", func() bool {
		a, _ := m.hash()
		b, _ := w.leader().hash()
		return a == b
	})
	eventually(t, "its log begins behind the snapshot", func() bool {
		first, last := m.node.LogBounds()
		return first > 1 || last == 0
	})
	if got := sessionsOf(m); got != want-1 {
		t.Errorf("%d sessions in the snapshot, want %d", got, want-1)
	}
	var missing int
	m.store.View(func(s *hub.State) {
		for n := range want + 2 {
			one := loginLike(n)
			got, ok := s.Session(one.ID)
			if gone := n >= 17 && n <= 19; ok == gone || ok && (got.Principal != one.Principal || got.Name != one.Name || len(got.Passed) != 2 || got.Passed[0].Key != one.Passed[0].Key) {
				missing++
			}
		}
	})
	if missing > 0 {
		t.Errorf("%d sessions are missing or changed", missing)
	}
}

// While a node runs the former program nobody logs in, and nothing is written that it would stop over. Once it runs this one, they do.
func TestSessionsWaitForEveryProgram(t *testing.T) {
	w := newNetwork(t, 3)
	old := uint32(3)
	w.members[2].faults.Level = &old
	w.start()
	lead := w.leader()
	eventually(t, "the level is that of the older program", func() bool { return lead.node.FeatureLevel() == 3 })
	if err := login(t.Context(), lead, 1); hub.CodeOf(err) != hub.CodeUnavailable || !strings.Contains(err.Error(), "feature level 4") {
		t.Errorf("a login: %v", err)
	}
	if _, err := serviceOf(lead).StartSession(t.Context(), loginLike(1)); hub.CodeOf(err) != hub.CodeUnavailable {
		t.Errorf("a session: %v", err)
	}
	if _, err := serviceOf(lead).EndSessions(t.Context(), &hub.EndingSessions{All: true}); hub.CodeOf(err) != hub.CodeUnavailable {
		t.Errorf("the end of sessions: %v", err)
	}
	w.crash(w.members[2])
	w.members[2].faults.Level = nil
	if err := w.open(t.Context(), w.members[2]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a login succeeds", func() bool { return login(t.Context(), w.leader(), 2) == nil })
	for _, m := range w.members {
		eventually(t, m.id+" has the session", func() bool { return sessionsOf(m) == 1 })
	}
}
