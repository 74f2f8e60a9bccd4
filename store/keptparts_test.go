package store_test

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/store"
)

// busyDisk is a store with one old large message that is needed, while a busy topic gets many.
type busyDisk struct {
	*testing.T
	s    *store.Store
	w    *writer
	opts store.Options
}

const (
	largeBytes = 300 << 10
	partBytes  = 100 << 10
	largeParts = largeBytes / partBytes
)

func largeBody(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, largeBytes/3) }

func newBusyDisk(t *testing.T) *busyDisk {
	opts := slow(t.TempDir())
	opts.SegmentBytes, opts.TailBytes = 1<<20, 1
	d := &busyDisk{T: t, s: open(t, opts), w: newWriter(), opts: opts}
	apply(t, d.s, d.w.entry(t, levelSet()), d.w.entry(t, request("held", "https://cb.example/"), verified(1, 0, d.w.now)))
	return d
}

func (d *busyDisk) upload(topic string, i int) (blob string) {
	d.Helper()
	blob = fmt.Sprint(topic, i)
	body := largeBody(i)
	for n := range largeParts {
		apply(d.T, d.s, d.w.entry(d.T, part(blob, n, body[n*partBytes:(n+1)*partBytes])))
	}
	return blob
}

func (d *busyDisk) publish(topic, blob string) {
	d.Helper()
	apply(d.T, d.s, d.w.entry(d.T, publishBlob(topic, blob, largeParts, largeBytes)))
}

// flood publishes 70 MiB to the busy topic under a limit of retention, and returns the most disk it took.
func (d *busyDisk) flood(limit int64) (most int64) {
	d.Helper()
	for i := range 240 {
		d.publish("busy", d.upload("busy", i))
		if i%4 > 0 {
			continue
		}
		flush(d.T, d.s)
		if trims := d.s.TrimCandidates(0, limit, time.Unix(0, d.w.now)); len(trims) > 0 {
			apply(d.T, d.s, d.w.entry(d.T, trimEvent(trims)))
			flush(d.T, d.s)
		}
		most = max(most, diskBytes(d.T, d.opts.Dir))
	}
	return most
}

// checkBusy reads all messages of the busy topic that are retained.
func (d *busyDisk) checkBusy(s *store.Store) {
	d.Helper()
	var top hub.Topic
	s.View(func(st *hub.State) { top, _ = st.TopicByName("busy") })
	msgs, err := s.Read(top.ID, top.First, 1000, 1<<30)
	if err != nil || len(msgs) == 0 {
		d.Fatalf("%d messages: %v", len(msgs), err)
	}
	for i := range msgs {
		d.checkBody(s, &msgs[i], largeBody(int(msgs[i].Offset)-1))
	}
}

func (d *busyDisk) checkBody(s *store.Store, m *hub.Message, want []byte) {
	d.Helper()
	if got, err := io.ReadAll(hub.NewBodyReader(s, m)); err != nil || !bytes.Equal(got, want) {
		d.Fatalf("message %s has %d bytes: %v", m.ID(), len(got), err)
	}
}

// checkClean closes the store and checks that its files are sound, and hold no part that nobody needs.
func (d *busyDisk) checkClean() {
	d.Helper()
	flush(d.T, d.s)
	if err := d.s.Close(); err != nil {
		d.Fatal(err)
	}
	if r, err := store.Inspect(d.opts.Dir); err != nil || len(r.Problems) > 0 {
		d.Errorf("inspection: %v, %v", err, r.Problems)
	}
	if n := store.KeptParts(d.T, d.opts.Dir); n != 0 {
		d.Errorf("%d parts are kept that nobody needs", n)
	}
}

// everywhere calls check with the store, with the store after a crash, and with one that received a snapshot of it.
func (d *busyDisk) everywhere(check func(*store.Store)) {
	d.Helper()
	check(d.s)
	crash(d.T, d.s)
	d.s = open(d.T, d.opts)
	check(d.s)
	check(contentOf(d.T, snapshot(d.T, d.s)))
}

// One part that somebody still needs, for whatever reason, does not keep all later ones of everybody: the disk that
// retention frees is free, and what is needed can be read.
func TestOldPartsInUseDoNotKeepNewerOnes(t *testing.T) {
	const limit = 16 << 20
	t.Run("of a dead letter", func(t *testing.T) {
		d := newBusyDisk(t)
		d.publish("held", d.upload("held", 1))
		apply(t, d.s, d.w.entry(t, deadLettered(1, 1)))
		if most := d.flood(limit); most > 2*limit {
			t.Errorf("%d MiB of disk are used with a limit of %d", most>>20, limit>>20)
		}
		d.everywhere(func(s *store.Store) {
			letter := lettersOf(s)[0]
			m, err := s.ReadLetter(t.Context(), &letter)
			if err != nil {
				t.Fatal(err)
			}
			d.checkBody(s, &m, largeBody(1))
			d.checkBusy(s)
		})
		apply(t, d.s, d.w.entry(t, lettersDropped(1)))
		d.checkClean()
	})
	t.Run("of an unfinished upload", func(t *testing.T) {
		d := newBusyDisk(t)
		blob := d.upload("held", 1)
		if most := d.flood(limit); most > 2*limit {
			t.Errorf("%d MiB of disk are used with a limit of %d", most>>20, limit>>20)
		}
		d.everywhere(d.checkBusy)
		d.publish("held", blob)
		msgs, err := d.s.Read(1, 1, 1, 1)
		if err != nil || len(msgs) != 1 {
			t.Fatal(msgs, err)
		}
		d.checkBody(d.s, &msgs[0], largeBody(1))
		apply(t, d.s, d.w.entry(t, trim(1, 1)))
		d.checkClean()
	})
}

// Until every member of the cluster can read what is then left, parts are dropped in order only. What was published
// before that does not say which parts are its own, so none of that time is dropped out of order later, either.
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
	flush(t, s)
	for n := range uint64(6) {
		if _, err := s.ReadPart(n+1, 0, make([]byte, 1)); err != nil {
			t.Errorf("part %d: %v", n+1, err)
		}
	}
}

// A part that is needed can be read at every moment, also while it moves from its segment to state.db.
func TestPartsCanBeReadWhileTheyMove(t *testing.T) {
	opts := slow(t.TempDir())
	opts.SegmentBytes, opts.TailBytes = 1, 1
	s := open(t, opts)
	w := newWriter()
	apply(t, s, w.entry(t, levelSet(), request("held", "https://cb.example/"), verified(1, 0, w.now)))
	const held = 10
	for i := range held {
		blob := fmt.Sprint("held", i)
		apply(t, s, w.entry(t, part(blob, 0, []byte(blob)), publishBlob("held", blob, 1, len(blob)), deadLettered(1, uint64(i+1))))
		flush(t, s)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for n := 0; ; n = (n + 1) % held {
				select {
				case <-stop:
					return
				default:
				}
				got := make([]byte, 10)
				size, err := s.ReadPart(uint64(n+1), 0, got)
				if want := fmt.Sprint("held", n); err != nil || string(got[:size]) != want {
					t.Errorf("part %d is %q (%v), want %q", n+1, got[:size], err, want)
					return
				}
			}
		})
	}
	for i := range held {
		apply(t, s, w.entry(t, trim(1, uint64(i+1))))
		flush(t, s)
	}
	close(stop)
	readers.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := store.KeptParts(t, opts.Dir); n == 0 {
		t.Error("nothing has moved")
	}
}
