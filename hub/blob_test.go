package hub_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// partLog folds events and keeps the parts.
type partLog struct {
	t     *testing.T
	state *hub.State
	seq   uint64
	now   int64
	parts map[uint64][]byte
	fx    hub.Effects
	fail  []error // of the next proposals
}

func newPartLog(t *testing.T) *partLog {
	return &partLog{t: t, state: hub.NewState(), now: 1_800_000_000_000_000_000, parts: map[uint64][]byte{}}
}

func (l *partLog) Propose(_ context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	if len(l.fail) > 0 {
		err := l.fail[0]
		l.fail = l.fail[1:]
		if err != nil && !errors.Is(err, hub.ErrAmbiguous) {
			return nil, err
		}
		res := l.apply(events...)
		if err != nil {
			return nil, err
		}
		return res, nil
	}
	return l.apply(events...), nil
}

func (l *partLog) apply(events ...*hubpb.Event) []hub.Result {
	l.t.Helper()
	p, err := hub.EncodeProposal(events)
	if err != nil {
		l.t.Fatal(err)
	}
	l.seq++
	l.now++
	var b hub.EntryBuilder
	b.AddBatch("node/1", l.seq, [][]byte{p})
	l.fx = hub.Effects{}
	res, err := l.state.Apply(b.Encode(l.now), &l.fx)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, p := range l.fx.Parts {
		l.parts[p.Offset] = p.Body
	}
	if n := l.fx.DroppedParts; n > 0 {
		for part := range l.parts {
			if part <= n {
				delete(l.parts, part)
			}
		}
	}
	return res[0].Proposals[0]
}

func (l *partLog) ReadPart(part uint64, at int, p []byte) (int, error) {
	b, ok := l.parts[part]
	if !ok {
		return 0, hub.ErrTrimmed
	}
	return copy(p, b[at:]), nil
}

func blobPart(blob string, index int, data string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_BlobPartAdded{BlobPartAdded: &hubpb.BlobPartAdded{Blob: []byte(blob), Index: uint32(index), Data: []byte(data)}}}
}

func publishBlob(topic, blob string, parts, size int, key string) *hubpb.Event {
	e := &hubpb.BlobPublished{Topic: topic, ContentType: "text/plain", Blob: []byte(blob), Parts: uint32(parts), Size: uint64(size), AutoRegister: topic != "none"}
	if key != "" {
		e.IdempotencyKey, e.ContentHash = []byte(key), []byte(blob[:1])
	}
	return &hubpb.Event{Kind: &hubpb.Event_BlobPublished{BlobPublished: e}}
}

func trimThrough(topic, through uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{Ranges: []*hubpb.LogTrimmed_Range{{Topic: topic, Through: through}}}}}
}

func TestBlobs(t *testing.T) {
	l := newPartLog(t)
	outcome := func(want hub.Outcome, e *hubpb.Event) hub.Result {
		t.Helper()
		r := l.apply(e)[0]
		if r.Outcome != want {
			t.Fatalf("%v came to %d, want %d", e, r.Outcome, want)
		}
		return r
	}
	kept := func(first, last uint64) {
		t.Helper()
		if f, n := l.state.RetainedParts(); f != first || n != last || len(l.parts) != int(n+1-f) {
			t.Fatalf("parts %d to %d are kept, %d of them, want %d to %d", f, n, len(l.parts), first, last)
		}
	}
	outcome(hub.OutcomeStale, blobPart("a", 1, "x"))
	outcome(hub.OutcomeOK, blobPart("a", 0, "one "))
	outcome(hub.OutcomeOK, blobPart("b", 0, "other"))
	outcome(hub.OutcomeOK, blobPart("a", 1, "two"))
	outcome(hub.OutcomeDuplicate, blobPart("a", 1, "two"))
	outcome(hub.OutcomeDuplicate, blobPart("a", 0, "one "))
	outcome(hub.OutcomeStale, blobPart("a", 3, "four"))
	kept(1, 3)
	if r := outcome(hub.OutcomeOK, publishBlob("t", "a", 2, 7, "")); r.Topic != 1 || r.Offset != 1 {
		t.Fatalf("%+v", r)
	}
	m := l.fx.Messages[0]
	if !m.IsBlob() || m.Size() != 7 || m.Body != nil {
		t.Fatalf("the message is %+v", m)
	}
	if body, err := hub.ReadBody(l, &m); err != nil || string(body) != "one two" {
		t.Errorf("the body is %q (%v)", body, err)
	}
	var record []byte
	record = hub.AppendRecord(record, &m)
	if back, err := hub.ParseRecord(m.Topic, m.Offset, record); err != nil || back.Size() != 7 || len(back.Parts) != 2 || len(record) != hub.RecordSize(&m) {
		t.Errorf("%+v (%v) of %d bytes, want %d", back, err, len(record), hub.RecordSize(&m))
	}
	outcome(hub.OutcomeStale, publishBlob("t", "a", 2, 7, "")) // used up
	outcome(hub.OutcomeStale, publishBlob("t", "b", 1, 6, "")) // not all there: it is forgotten
	kept(1, 3)
	outcome(hub.OutcomeOK, blobPart("c", 0, "third"))
	outcome(hub.OutcomeNoTopic, publishBlob("none", "c", 1, 5, ""))
	kept(1, 4) // the first message holds those behind it

	// The same key and content again: the parts of the second one go.
	outcome(hub.OutcomeOK, blobPart("d1", 0, "same"))
	outcome(hub.OutcomeOK, publishBlob("t", "d1", 1, 4, "key"))
	outcome(hub.OutcomeOK, blobPart("d2", 0, "same"))
	if r := outcome(hub.OutcomeDuplicate, publishBlob("t", "d2", 1, 4, "key")); r.Offset != 2 {
		t.Errorf("%+v", r)
	}
	outcome(hub.OutcomeOK, blobPart("x", 0, "otherwise"))
	outcome(hub.OutcomeKeyConflict, publishBlob("t", "x", 1, 9, "key"))

	// Retention drops a message's parts with it, when nothing before them is needed.
	outcome(hub.OutcomeOK, trimThrough(1, 1))
	kept(5, 7)
	outcome(hub.OutcomeOK, blobPart("e", 0, "on its way"))
	outcome(hub.OutcomeOK, trimThrough(1, 2))
	kept(8, 8)
	l.now += 100
	outcome(hub.OutcomeOK, &hubpb.Event{Kind: &hubpb.Event_BlobsDropped{BlobsDropped: &hubpb.BlobsDropped{Before: l.now - 101}}})
	kept(8, 8)
	if l.state.IdleBlobs(l.now) != 1 {
		t.Error("the body on its way is not seen as idle")
	}
	outcome(hub.OutcomeOK, &hubpb.Event{Kind: &hubpb.Event_BlobsDropped{BlobsDropped: &hubpb.BlobsDropped{Before: l.now}}})
	kept(9, 8)
	outcome(hub.OutcomeStale, blobPart("e", 1, "too late"))

	// A topic's end is its parts' end; what the rows say is the same state.
	outcome(hub.OutcomeOK, blobPart("f", 0, "last"))
	outcome(hub.OutcomeOK, publishBlob("t", "f", 1, 4, ""))
	outcome(hub.OutcomeOK, blobPart("g", 0, "half"))
	loader := hub.NewLoader()
	if err := l.state.Rows(loader.Add); err != nil {
		t.Fatal(err)
	}
	again, err := loader.State()
	if err != nil {
		t.Fatal(err)
	}
	l.state = again
	kept(9, 10)
	outcome(hub.OutcomeOK, blobPart("g", 1, "whole"))
	outcome(hub.OutcomeOK, &hubpb.Event{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: &hubpb.TopicDeregistered{Topic: "t"}}})
	kept(10, 11)
	outcome(hub.OutcomeOK, publishBlob("u", "g", 2, 9, ""))
	if body, err := io.ReadAll(hub.NewBodyReader(l, &l.fx.Messages[0])); err != nil || string(body) != "halfwhole" {
		t.Errorf("the body is %q (%v)", body, err)
	}
}

// An upload outlives refusals for the moment and answers that got lost; each part is there once.
func TestUploadRepeatsWhatItMay(t *testing.T) {
	l := newPartLog(t)
	body := []byte(strings.Repeat("0123456789", 60_000))
	l.fail = []error{nil, hub.ErrNoLeader, hub.ErrAmbiguous, hub.ErrOverloaded, nil}
	up := hub.NewBlobWriter(l, "text/plain")
	if err := up.WriteAll(t.Context(), body); err != nil {
		t.Fatal(err)
	}
	if up.Size() != int64(len(body)) || len(l.parts) != 3 {
		t.Fatalf("%d bytes in %d parts", up.Size(), len(l.parts))
	}
	l.apply(&hubpb.Event{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: "t"}}})
	fetched := &hubpb.TopicFetched{Topic: 1, Ping: 1, Outcome: hubpb.FetchOutcome_FETCH_CHANGED, ContentType: "text/plain", Body: body, ContentHash: []byte("h")}
	l.apply(&hubpb.Event{Kind: &hubpb.Event_TopicPinged{TopicPinged: &hubpb.TopicPinged{Topic: "t"}}})
	up.AttachTo(fetched)
	fetched.Ping = 2 // without subscribers the ping itself is answered at once
	l.apply(&hubpb.Event{Kind: &hubpb.Event_TopicFetched{TopicFetched: fetched}})
	if len(l.fx.Messages) != 1 {
		t.Fatalf("fetching published %d messages", len(l.fx.Messages))
	}
	if got, err := hub.ReadBody(l, &l.fx.Messages[0]); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes (%v)", len(got), err)
	}
	l.fail = []error{hub.ErrStopping}
	if err := hub.NewBlobWriter(l, "text/plain").WriteAll(t.Context(), body); !errors.Is(err, hub.ErrStopping) {
		t.Errorf("a node that stops: %v", err)
	}
}
