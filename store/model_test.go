package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/store"
)

const origin = "node-1/boot-1"

// writer creates log entries as raft would pass them to the store.
type writer struct {
	index, seq uint64
	now        int64
}

func newWriter() *writer { return &writer{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()} }

func (w *writer) entry(t testing.TB, events ...*hubpb.Event) store.Entry {
	t.Helper()
	var b hub.EntryBuilder
	var proposals [][]byte
	for _, e := range events {
		p, err := hub.EncodeProposal([]*hubpb.Event{e})
		if err != nil {
			t.Fatal(err)
		}
		proposals = append(proposals, p)
	}
	w.seq++
	w.index++
	w.now += int64(time.Second)
	b.AddBatch(origin, w.seq, proposals)
	return store.Entry{Index: w.index, Term: 1 + w.index/100, Data: b.Encode(w.now)}
}

func publish(topic string, body []byte) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
		Topic: topic, ContentType: "text/plain", Body: body, AutoRegister: true}}}
}

func part(blob string, index int, data []byte) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_BlobPartAdded{BlobPartAdded: &hubpb.BlobPartAdded{Blob: []byte(blob), Index: uint32(index), Data: data}}}
}

func publishBlob(topic, blob string, parts, size int) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_BlobPublished{BlobPublished: &hubpb.BlobPublished{
		Topic: topic, ContentType: "text/plain", Blob: []byte(blob), Parts: uint32(parts), Size: uint64(size), AutoRegister: true}}}
}

func dropBlobs(before int64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_BlobsDropped{BlobsDropped: &hubpb.BlobsDropped{Before: before}}}
}

func trim(topic, through uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{
		Ranges: []*hubpb.LogTrimmed_Range{{Topic: topic, Through: through}}, Reason: "retention"}}}
}

func deregister(topic string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: &hubpb.TopicDeregistered{Topic: topic}}}
}

func request(topic, callback string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
		Mode: hub.ModeSubscribe, Topic: topic, TopicRaw: topic, Callback: callback, CallbackKey: callback,
		LeaseSeconds: 864000, AutoRegister: true}}}
}

func verified(id, start uint64, at int64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{
		Request: id, VerifiedFrom: at, StartOffset: start}}}
}

func advance(sub, offset uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{
		Node: "node-1", Cursors: []*hubpb.Cursor{{Subscription: sub, Offset: offset, Delivered: offset}}}}}
}

func ended(sub uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
		Subscriptions: []uint64{sub}, Reason: hubpb.EndReason_END_GONE}}}
}

func levelSet() *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}}
}

func deadLettered(sub, offset uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{
		Subscription: sub, Offset: offset, Attempts: 3, Status: 500, Reason: "http-status"}}}
}

func lettersDropped(ids ...uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_DeadLettersDropped{DeadLettersDropped: &hubpb.DeadLettersDropped{Letters: ids}}}
}

// model is what a store must equal: the same entries applied in plain memory.
type model struct {
	state    *hub.State
	messages map[hub.TopicID][]hub.Message // by offset-1
	parts    [][]byte                      // by number-1
	uploads  map[string][]byte             // incomplete blobs
	index    uint64
}

func newModel() *model {
	return &model{state: hub.NewState(), messages: map[hub.TopicID][]hub.Message{}, uploads: map[string][]byte{}}
}

func (m *model) apply(t testing.TB, entries ...store.Entry) {
	t.Helper()
	for _, e := range entries {
		m.index = e.Index
		if e.Configuration {
			continue
		}
		var fx hub.Effects
		if _, err := m.state.Apply(e.Data, &fx); err != nil {
			t.Fatal(err)
		}
		for _, p := range fx.Parts {
			m.parts = append(m.parts, p.Body)
		}
		for _, msg := range fx.Messages {
			m.messages[msg.Topic] = append(m.messages[msg.Topic], msg)
		}
	}
}

// rows returns a state's rows.
func rows(t testing.TB, st *hub.State) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := st.Rows(func(k hub.RowKey, v []byte) error {
		out[string(k.Append(nil))] = string(v)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// difference describes the first difference between a store and the model, "" if there is none.
func (m *model) difference(t testing.TB, s *store.Store) string {
	t.Helper()
	var got map[string]string
	s.View(func(st *hub.State) { got = rows(t, st) })
	want := rows(t, m.state)
	for k, v := range want {
		if got[k] != v {
			return fmt.Sprintf("row %x is %q, want %q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d rows, want %d: %x", len(got), len(want), slices.Sorted(maps.Keys(got)))
	}
	for id, all := range m.messages {
		topic, ok := m.state.TopicByID(id)
		if !ok {
			if _, err := s.Read(id, 1, 1, 1); !errors.Is(err, hub.ErrUnknownTopic) {
				return fmt.Sprintf("reading removed topic %d: %v", id, err)
			}
			continue
		}
		if topic.First > 1 {
			if _, err := s.Read(id, topic.First-1, 1, 1); !errors.Is(err, hub.ErrTrimmed) {
				return fmt.Sprintf("reading trimmed message %d-%d: %v", id, topic.First-1, err)
			}
		}
		if d := sameTimes(s, &topic, all); d != "" {
			return d
		}
		msgs, err := s.Read(id, topic.First, len(all)+1, 1<<30)
		if err != nil {
			return fmt.Sprintf("read topic %d from %d: %v", id, topic.First, err)
		}
		if d := sameMessages(msgs, all[topic.First-1:]); d != "" {
			return fmt.Sprintf("topic %d from %d: %s", id, topic.First, d)
		}
		for i := range msgs {
			if !msgs[i].IsBlob() {
				continue
			}
			var want []byte
			for _, n := range msgs[i].Parts {
				want = append(want, m.parts[n-1]...)
			}
			got, err := io.ReadAll(iotest.OneByteReader(hub.NewBodyReader(s, &msgs[i])))
			if err != nil || !bytes.Equal(got, want) || msgs[i].Size() != int64(len(want)) {
				return fmt.Sprintf("the body of %s is %q (%v), want %q", msgs[i].ID(), got, err, want)
			}
		}
	}
	if d := m.sameParts(s); d != "" {
		return d
	}
	if first, last := m.state.RetainedParts(); last > 0 {
		if _, err := s.ReadPart(first-1, 0, make([]byte, 1)); !errors.Is(err, hub.ErrTrimmed) {
			return fmt.Sprintf("reading dropped part %d: %v", first-1, err)
		}
		if _, err := s.ReadPart(last+1, 0, make([]byte, 1)); !errors.Is(err, hub.ErrTrimmed) {
			return fmt.Sprintf("reading part %d, which never existed: %v", last+1, err)
		}
	}
	return ""
}

// sameParts reads every part that is in use, and tries to read those that are not.
func (m *model) sameParts(s *store.Store) string {
	inUse := map[uint64]bool{}
	for _, n := range m.state.PartsInUse(m.state.RetainedParts()) {
		inUse[n] = true
	}
	for i, want := range m.parts {
		n := uint64(i + 1)
		got := make([]byte, len(want)+1)
		size, err := s.ReadPart(n, 0, got)
		if trimmed := errors.Is(err, hub.ErrTrimmed); inUse[n] && err != nil || err != nil && !trimmed || err == nil && !bytes.Equal(got[:size], want) {
			return fmt.Sprintf("part %d, in use: %t, is %q (%v), want %q", n, inUse[n], got[:size], err, want)
		}
	}
	return ""
}

// sameTimes looks up every message by its time, and by the nanoseconds before and after.
func sameTimes(s *store.Store, topic *hub.Topic, all []hub.Message) string {
	for i := range all {
		for delta := int64(-1); delta <= 1; delta++ {
			at := all[i].Time + delta
			want := topic.First
			for want <= topic.Head && all[want-1].Time < at {
				want++
			}
			if got, err := s.OffsetAt(topic.ID, time.Unix(0, at)); err != nil || got != want {
				return fmt.Sprintf("topic %d: the first message not older than %d is %d (%v), want %d", topic.ID, at, got, err, want)
			}
		}
	}
	return ""
}

func sameMessages(got, want []hub.Message) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d messages, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := &got[i], &want[i]
		if g.Topic != w.Topic || g.Offset != w.Offset || g.Time != w.Time || g.ContentType != w.ContentType ||
			g.LinkSelf != w.LinkSelf || !bytes.Equal(g.Body, w.Body) || !slices.Equal(g.Parts, w.Parts) {
			return fmt.Sprintf("message %s is %+v, want %+v", w.ID(), *g, *w)
		}
	}
	return ""
}

func (m *model) check(t testing.TB, s *store.Store) {
	t.Helper()
	if d := m.difference(t, s); d != "" {
		t.Fatal(d)
	}
	if got := s.Applied().Index; got != m.index {
		t.Fatalf("applied index %d, want %d", got, m.index)
	}
}

// open opens a store that is closed when the test ends.
func open(t testing.TB, opts store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Crash() })
	return s
}

// openFaulty is open on a disk that calls beforeCommit before each commit.
func openFaulty(t testing.TB, opts store.Options, beforeCommit func(file string) error) *store.Store {
	t.Helper()
	s, err := store.OpenFaulty(opts, beforeCommit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Crash() })
	return s
}

// slow returns options under which only Flush flushes.
func slow(dir string) store.Options {
	return store.Options{Dir: dir, FlushInterval: time.Hour, LockTimeout: 100 * time.Millisecond}
}

func apply(t testing.TB, s *store.Store, entries ...store.Entry) {
	t.Helper()
	if _, err := s.Apply(entries); err != nil {
		t.Fatal(err)
	}
}

func flush(t testing.TB, s *store.Store) {
	t.Helper()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func crash(t testing.TB, s *store.Store) {
	t.Helper()
	if err := s.Crash(); err != nil {
		t.Fatal(err)
	}
}

// files lists the files below dir whose names have the suffix.
func files(t testing.TB, dir, suffix string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, suffix) {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	return slices.DeleteFunc(files(t, dir, ".db"), func(f string) bool { return filepath.Base(filepath.Dir(f)) != "log" })
}

// await waits until ok returns true.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("timed out waiting: %s", what)
		case <-tick.C:
		}
	}
}
