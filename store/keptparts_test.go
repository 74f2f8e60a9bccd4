package store_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/store"
)

// One part that somebody still needs, for whatever reason, does not keep all later ones of everybody: the disk that retention
// frees is free, and what is needed can be read.
func TestOldPartsInUseDoNotKeepNewerOnes(t *testing.T) {
	const limit, size = 16 << 20, 300 << 10
	const partSize = 100 << 10
	body := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, size/3) }
	for name, hold := range map[string]func(t *testing.T, s *store.Store, w *writer){
		"a dead letter": func(t *testing.T, s *store.Store, w *writer) {
			apply(t, s, w.entry(t, deadLettered(1, 1)))
		},
		"an unfinished upload": func(*testing.T, *store.Store, *writer) {},
	} {
		t.Run(name, func(t *testing.T) {
			opts := slow(t.TempDir())
			opts.SegmentBytes, opts.TailBytes = 1<<20, 1
			s := open(t, opts)
			w := newWriter()
			upload := func(topic string, i int, publish bool) {
				t.Helper()
				blob, data := fmt.Sprint(topic, i), body(i)
				for n := 0; n*partSize < len(data); n++ {
					apply(t, s, w.entry(t, part(blob, n, data[n*partSize:min(len(data), (n+1)*partSize)])))
				}
				if publish {
					apply(t, s, w.entry(t, publishBlob(topic, blob, (len(data)+partSize-1)/partSize, len(data))))
				}
			}
			apply(t, s, w.entry(t, levelSet()), w.entry(t, request("held", "https://cb.example/"), verified(1, 0, w.now)))
			upload("held", 1, name == "a dead letter")
			hold(t, s, w)
			most := int64(0)
			for i := range 240 { // 70 MiB
				upload("busy", i, true)
				if i%4 > 0 {
					continue
				}
				flush(t, s)
				if trims := s.TrimCandidates(0, limit, time.Unix(0, w.now)); len(trims) > 0 {
					apply(t, s, w.entry(t, trimEvent(trims)))
					flush(t, s)
				}
				most = max(most, diskBytes(t, opts.Dir))
			}
			if most > 2*limit {
				t.Errorf("%d MiB of disk are used with a limit of %d", most>>20, limit>>20)
			}
			check := func(s *store.Store) {
				t.Helper()
				if name == "a dead letter" {
					d := lettersOf(s)[0]
					m, err := s.ReadLetter(t.Context(), &d)
					if err != nil {
						t.Fatal(err)
					}
					if got, err := io.ReadAll(hub.NewBodyReader(s, &m)); err != nil || !bytes.Equal(got, body(1)) {
						t.Fatalf("the dead letter has %d bytes: %v", len(got), err)
					}
				}
				var top hub.Topic
				s.View(func(st *hub.State) { top, _ = st.TopicByName("busy") })
				msgs, err := s.Read(top.ID, top.First, 1000, 1<<30)
				if err != nil || len(msgs) == 0 {
					t.Fatalf("%d messages: %v", len(msgs), err)
				}
				for i := range msgs {
					if got, err := io.ReadAll(hub.NewBodyReader(s, &msgs[i])); err != nil || !bytes.Equal(got, body(int(msgs[i].Offset)-1)) {
						t.Fatalf("message %s has %d bytes: %v", msgs[i].ID(), len(got), err)
					}
				}
			}
			check(s)
			crash(t, s)
			s = open(t, opts)
			check(s)
			check(contentOf(t, snapshot(t, s)))
			if name == "an unfinished upload" {
				apply(t, s, w.entry(t, publishBlob("held", "held1", 3, len(body(1)))))
				msgs, err := s.Read(1, 1, 1, 1)
				if err != nil || len(msgs) != 1 {
					t.Fatal(msgs, err)
				}
				if got, err := io.ReadAll(hub.NewBodyReader(s, &msgs[0])); err != nil || !bytes.Equal(got, body(1)) {
					t.Fatalf("the upload has %d bytes: %v", len(got), err)
				}
				apply(t, s, w.entry(t, trim(1, 1)))
			} else {
				apply(t, s, w.entry(t, lettersDropped(1), trimEvent(nil)))
			}
			flush(t, s)
			flush(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if r, err := store.Inspect(opts.Dir); err != nil || len(r.Problems) > 0 {
				t.Errorf("inspection: %v, %v", err, r.Problems)
			}
			if n := store.KeptParts(t, opts.Dir); n != 0 {
				t.Errorf("%d parts are kept that nobody needs", n)
			}
		})
	}
}

// Until every member of the cluster can read what is then left, parts are dropped in order only.
func TestPartsAreDroppedInOrderUntilAllMembersKnowBetter(t *testing.T) {
	opts := slow(t.TempDir())
	opts.SegmentBytes, opts.TailBytes = 1, 1
	s := open(t, opts)
	w := newWriter()
	apply(t, s, w.entry(t, request("held", "https://cb.example/"), verified(1, 0, w.now), part("x", 0, []byte("x")), publishBlob("held", "x", 1, 1), deadLettered(1, 1)))
	flush(t, s)
	for i := range 5 {
		blob := fmt.Sprint(i)
		apply(t, s, w.entry(t, part(blob, 0, []byte(blob)), publishBlob("busy", blob, 1, 1)))
		flush(t, s)
	}
	apply(t, s, w.entry(t, trim(1, 1), trim(2, 5)))
	flush(t, s)
	if n := len(segments(t, opts.Dir)); n < 6 {
		t.Errorf("%d segments are left", n)
	}
	apply(t, s, w.entry(t, levelSet()), w.entry(t, trim(2, 5)))
	// What was published before does not say which parts are its own; what is published from now on does.
	flush(t, s)
	for n := range uint64(6) {
		if _, err := s.ReadPart(n+1, 0, make([]byte, 1)); err != nil {
			t.Errorf("part %d: %v", n+1, err)
		}
	}
}
