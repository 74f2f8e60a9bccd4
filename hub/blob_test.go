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

// partLog applies events and stores the parts.
type partLog struct {
	t     *testing.T
	state *hub.State
	seq   uint64
	now   int64
	parts map[uint64][]byte
	fx    hub.Effects
	fail  []error // errors of the next proposals
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

func partAdded(blob string, index int, data string) *hubpb.Event {
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

// outcome applies an event and checks its outcome.
func (l *partLog) outcome(want hub.Outcome, e *hubpb.Event) hub.Result {
	l.t.Helper()
	r := l.apply(e)[0]
	if r.Outcome != want {
		l.t.Fatalf("%v: outcome %d, want %d", e, r.Outcome, want)
	}
	return r
}

// wantParts checks which parts are retained.
func (l *partLog) wantParts(first, last uint64) {
	l.t.Helper()
	if f, n := l.state.RetainedParts(); f != first || n != last || len(l.parts) != int(n+1-f) {
		l.t.Fatalf("parts %d to %d are retained, %d of them, want %d to %d", f, n, len(l.parts), first, last)
	}
}

func dropped(before int64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_BlobsDropped{BlobsDropped: &hubpb.BlobsDropped{Before: before}}}
}

func TestBlobIsPublishedFromItsParts(t *testing.T) {
	l := newPartLog(t)
	l.outcome(hub.OutcomeStale, partAdded("a", 1, "x"))
	l.outcome(hub.OutcomeOK, partAdded("a", 0, "one "))
	l.outcome(hub.OutcomeOK, partAdded("b", 0, "other"))
	l.outcome(hub.OutcomeOK, partAdded("a", 1, "two"))
	l.outcome(hub.OutcomeDuplicate, partAdded("a", 1, "two"))
	l.outcome(hub.OutcomeDuplicate, partAdded("a", 0, "one "))
	l.outcome(hub.OutcomeStale, partAdded("a", 3, "four"))
	l.wantParts(1, 3)
	if r := l.outcome(hub.OutcomeOK, publishBlob("t", "a", 2, 7, "")); r.Topic != 1 || r.Offset != 1 {
		t.Fatalf("%+v", r)
	}
	m := l.fx.Messages[0]
	if !m.IsBlob() || m.Size() != 7 || m.Body != nil {
		t.Fatalf("the message is %+v", m)
	}
	if body, err := hub.ReadBody(l, &m); err != nil || string(body) != "one two" {
		t.Errorf("the body is %q (%v)", body, err)
	}
	record := hub.AppendRecord(nil, &m)
	if back, err := hub.ParseRecord(m.Topic, m.Offset, record); err != nil || back.Size() != 7 || len(back.Parts) != 2 || len(record) != hub.RecordSize(&m) {
		t.Errorf("%+v (%v) of %d bytes, want %d", back, err, len(record), hub.RecordSize(&m))
	}
	l.outcome(hub.OutcomeStale, publishBlob("t", "a", 2, 7, "")) // published already
	l.outcome(hub.OutcomeStale, publishBlob("t", "b", 1, 6, "")) // incomplete: dropped
	l.wantParts(1, 3)
	l.outcome(hub.OutcomeOK, partAdded("c", 0, "third"))
	l.outcome(hub.OutcomeNoTopic, publishBlob("none", "c", 1, 5, ""))
	l.wantParts(1, 4) // the first message retains the parts after its own
}

func TestBlobPartsAreDropped(t *testing.T) {
	l := newPartLog(t)
	// The same key and content again: the parts of the second blob are not needed.
	l.outcome(hub.OutcomeOK, partAdded("d1", 0, "same"))
	l.outcome(hub.OutcomeOK, publishBlob("t", "d1", 1, 4, "key"))
	l.outcome(hub.OutcomeOK, partAdded("d2", 0, "same"))
	if r := l.outcome(hub.OutcomeDuplicate, publishBlob("t", "d2", 1, 4, "key")); r.Offset != 1 {
		t.Errorf("%+v", r)
	}
	l.outcome(hub.OutcomeOK, partAdded("x", 0, "otherwise"))
	l.outcome(hub.OutcomeKeyConflict, publishBlob("t", "x", 1, 9, "key"))
	l.wantParts(1, 3)

	// Retention drops a message's parts with it, up to the first part still needed.
	l.outcome(hub.OutcomeOK, partAdded("e", 0, "pending"))
	l.outcome(hub.OutcomeOK, trimThrough(1, 1))
	l.wantParts(4, 4)
	l.now += 100
	l.outcome(hub.OutcomeOK, dropped(l.now-101))
	l.wantParts(4, 4)
	if l.state.IdleBlobs(l.now) != 1 {
		t.Error("the pending blob does not count as idle")
	}
	l.outcome(hub.OutcomeOK, dropped(l.now))
	l.wantParts(5, 4)
	l.outcome(hub.OutcomeStale, partAdded("e", 1, "too late"))
}

func TestBlobsSurviveARestart(t *testing.T) {
	l := newPartLog(t)
	l.outcome(hub.OutcomeOK, partAdded("f", 0, "last"))
	l.outcome(hub.OutcomeOK, publishBlob("t", "f", 1, 4, ""))
	l.outcome(hub.OutcomeOK, partAdded("g", 0, "half"))
	l.state = reloaded(t, l.state)
	l.wantParts(1, 2)
	l.outcome(hub.OutcomeOK, partAdded("g", 1, "whole"))
	// The parts of a topic's messages go with the topic.
	l.outcome(hub.OutcomeOK, &hubpb.Event{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: &hubpb.TopicDeregistered{Topic: "t"}}})
	l.wantParts(2, 3)
	l.outcome(hub.OutcomeOK, publishBlob("u", "g", 2, 9, ""))
	if body, err := io.ReadAll(hub.NewBodyReader(l, &l.fx.Messages[0])); err != nil || string(body) != "halfwhole" {
		t.Errorf("the body is %q (%v)", body, err)
	}
}

// A BlobWriter survives temporary refusals and lost results; each part is added once.
func TestBlobWriterRetries(t *testing.T) {
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
	fetched.Ping = 2 // without subscribers the ping is answered at once
	l.apply(&hubpb.Event{Kind: &hubpb.Event_TopicFetched{TopicFetched: fetched}})
	if len(l.fx.Messages) != 1 {
		t.Fatalf("fetching published %d messages", len(l.fx.Messages))
	}
	if got, err := hub.ReadBody(l, &l.fx.Messages[0]); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes (%v)", len(got), err)
	}
	l.fail = []error{hub.ErrStopping}
	if err := hub.NewBlobWriter(l, "text/plain").WriteAll(t.Context(), body); !errors.Is(err, hub.ErrStopping) {
		t.Errorf("a stopping node: %v", err)
	}
}
