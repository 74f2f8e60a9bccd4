package hub_test

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// heap returns the bytes in use after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// maxSessionBytes is what a session may cost in a node's memory, with all indexes. It is a promise (docs/adr/0066).
const maxSessionBytes = 512

// sessionLike returns the start of a session as they are: of a person in two steps, with a subject and a session at the identity
// provider.
func sessionLike(n int, now time.Time) *hubpb.SessionStarted {
	id := sessionIDOf(n)
	sub, sid := sha256.Sum256(fmt.Append(nil, "sub", n)), sha256.Sum256(fmt.Append(nil, "sid", n))
	return &hubpb.SessionStarted{Id: id[:], Principal: fmt.Sprintf("issuer:corp/%08x-5717-4562-b3fc-2c963f66afa6", n), Name: fmt.Sprintf("Alexandra Example %06d", n), Client: "Firefox 144 on Windows, 192.0.2.1",
		Ends: now.Add(12 * time.Hour).UnixNano(), SealedWith: 0x01020304, MaxSessions: 50, Passed: []*hubpb.PassedStep{
			{Authenticator: "corp", At: now.UnixNano(), Key: append(append([]byte{}, sub[:8]...), sid[:8]...)},
			{Authenticator: "emergency", At: now.UnixNano()}}}
}

// 100,000 people who have logged in cost each node at most 512 bytes of memory each, and not much more on disk.
func TestWhatASessionCosts(t *testing.T) {
	const count = 100_000
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	s := hub.NewState()
	before := heap()
	start := time.Now()
	for n := 0; n < count; n += 100 {
		var batch []*hubpb.Event
		for i := range 100 {
			batch = append(batch, &hubpb.Event{Kind: &hubpb.Event_SessionStarted{SessionStarted: sessionLike(n+i, now)}})
		}
		if _, err := s.Apply(entry(t, now, "node-1/a", uint64(n/100+1), batch...), new(hub.Effects)); err != nil {
			t.Fatal(err)
		}
		s.TakeDirty()
	}
	took := time.Since(start)
	if s.Counts().Sessions != count {
		t.Fatalf("%d sessions", s.Counts().Sessions)
	}
	rows, bytes := 0, 0
	err := s.Rows(func(k hub.RowKey, v []byte) error {
		if k.Table == hub.TableSession {
			rows, bytes = rows+1, bytes+len(k.Append(nil))+len(v)
		}
		return nil
	})
	if err != nil || rows != count {
		t.Fatalf("%d rows, %v", rows, err)
	}
	each := float64(heap()-before) / count
	t.Logf("a session takes %.0f bytes of memory, and a row of %d bytes; folding one takes %s", each, bytes/count, took/count)
	if each > maxSessionBytes {
		t.Errorf("a session takes %.0f bytes of memory; at most %d are promised", each, maxSessionBytes)
	}
	if bytes/count > 300 {
		t.Errorf("a row has %d bytes", bytes/count)
	}
	again := reloaded(t, s)
	runtime.KeepAlive(s)
	if again.Counts().Sessions != count {
		t.Errorf("%d sessions after a restart", again.Counts().Sessions)
	}
}
