package store_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/store"
)

func lettersOf(s *store.Store) (out []hub.DeadLetter) {
	s.View(func(st *hub.State) { out = st.DeadLetters(0, 0, nil) })
	return out
}

func checkLetter(t *testing.T, s *store.Store, d hub.DeadLetter, body []byte) {
	t.Helper()
	m, err := s.ReadLetter(t.Context(), &d)
	if err != nil {
		t.Fatalf("dead letter %s: %v", d.MessageID(), err)
	}
	if m.Topic != d.Topic || m.Offset != d.Offset || m.ContentType != "text/plain" || m.Time == 0 || !bytes.Equal(m.Body, body) {
		t.Fatalf("reading dead letter %s returned %s of %d bytes", d.MessageID(), m.ID(), len(m.Body))
	}
}

// The content of a dead letter exists as long as the letter, whatever happens to the log: a trim, removal of its topic, crashes
// before and after, and on a node that received a snapshot.
func TestDeadLettersOutliveTheLog(t *testing.T) {
	opts := slow(t.TempDir())
	opts.SegmentBytes, opts.TailBytes = 1, 1
	s := open(t, opts)
	w := newWriter()
	apply(t, s, w.entry(t, request("a", "https://cb.example/"), verified(1, 0, w.now)))
	body := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 5_000+i) }
	for i := range 10 {
		apply(t, s, w.entry(t, publish("a", body(i)), publish("b", []byte("x"))))
		flush(t, s)
	}
	for _, offset := range []uint64{2, 3, 9} {
		apply(t, s, w.entry(t, &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{
			Subscription: 1, Offset: offset, Attempts: 3, Status: 500, Reason: "http-status"}}}))
	}
	check := func(s *store.Store) {
		t.Helper()
		letters := lettersOf(s)
		if len(letters) != 3 {
			t.Fatalf("%d dead letters, want 3", len(letters))
		}
		for _, d := range letters {
			checkLetter(t, s, d, body(int(d.Offset)-1))
		}
	}
	check(s)
	apply(t, s, w.entry(t, trimEvent([]hub.Trim{{Topic: 1, Through: 5}, {Topic: 2, Through: 5}})))
	check(s) // trimmed, but the files still exist
	flush(t, s)
	if n := len(segments(t, opts.Dir)); n != 5 {
		t.Errorf("%d segments left, want 5", n)
	}
	check(s)
	crash(t, s)
	s = open(t, opts)
	check(s)
	check(contentOf(t, snapshot(t, s)))

	apply(t, s, w.entry(t, &hubpb.Event{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: &hubpb.TopicDeregistered{Topic: "a"}}},
		trimEvent([]hub.Trim{{Topic: 2, Through: 10}})))
	check(s)
	flush(t, s)
	if n := len(segments(t, opts.Dir)); n > 1 {
		t.Errorf("%d segments left, want at most the newest", n)
	}
	check(s)
	crash(t, s)
	s = open(t, opts)
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := store.Inspect(opts.Dir); err != nil || len(r.Problems) > 0 {
		t.Errorf("inspection: %v, %v", err, r.Problems)
	}
	s = open(t, opts)

	// Dropping a letter deletes its content.
	gone := lettersOf(s)[1]
	apply(t, s, w.entry(t, &hubpb.Event{Kind: &hubpb.Event_DeadLettersDropped{DeadLettersDropped: &hubpb.DeadLettersDropped{Letters: []uint64{gone.ID}}}}))
	if _, err := s.ReadLetter(t.Context(), &gone); err == nil {
		t.Log("the content exists until the drop is flushed")
	}
	flush(t, s)
	if _, err := s.ReadLetter(t.Context(), &gone); !errors.Is(err, hub.ErrTrimmed) {
		t.Errorf("a dropped letter: %v", err)
	}
	for _, d := range lettersOf(s) {
		checkLetter(t, s, d, body(int(d.Offset)-1))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadLetter(t.Context(), &gone); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
}

// A lagging node may learn of the trim before it has written the message to a file.
func TestDeadLetterTrimmedBeforeItsFlush(t *testing.T) {
	opts := slow(t.TempDir())
	s := open(t, opts)
	w := newWriter()
	apply(t, s, w.entry(t, request("a", "https://cb.example/"), verified(1, 0, w.now),
		publish("a", []byte("hello")),
		&hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{Subscription: 1, Offset: 1}}},
		trimEvent([]hub.Trim{{Topic: 1, Through: 1}})))
	checkLetter(t, s, lettersOf(s)[0], []byte("hello"))
	var surplus []uint64
	s.View(func(st *hub.State) { surplus = st.SurplusLetters(time.Hour, 0, 0, st.Now().Add(2*time.Hour), 10) })
	if len(surplus) != 1 {
		t.Errorf("surplus %v", surplus)
	}
}
