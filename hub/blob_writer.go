package hub

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"quorumhub/hub/hubpb"
)

const (
	// MaxInlineBytes is the largest body that goes into one log entry with its message.
	MaxInlineBytes = 256 << 10
	// MaxPartBytes is the largest part of a larger body; with what is around it, it fits into an entry of 256 KiB.
	MaxPartBytes = 255 << 10
	// proposeRetryFor is how long a part is proposed again and again when it is refused for the moment: long enough
	// for a change of leaders.
	proposeRetryFor   = 15 * time.Second
	proposeRetryPause = 100 * time.Millisecond
)

// BlobWriter brings a body that is larger than MaxInlineBytes into the log, part by part. The parts outlive changes of
// leaders. What is given up half way is forgotten by the hub after a while. Not safe for concurrent use.
type BlobWriter struct {
	proposer Proposer
	id       []byte
	parts    uint32
	size     int64
	hash     hash.Hash
}

// NewBlobWriter begins a body of the content type given.
func NewBlobWriter(p Proposer, contentType string) *BlobWriter {
	w := &BlobWriter{proposer: p, id: make([]byte, 16), hash: sha256.New()}
	_, _ = rand.Read(w.id) // never fails
	w.hash.Write([]byte(contentType))
	w.hash.Write([]byte{0})
	return w
}

// Size is the number of bytes so far.
func (w *BlobWriter) Size() int64 { return w.size }

// WritePart appends 1 to MaxPartBytes bytes, which may be changed after the return. When the log cannot take them at the moment it
// waits for up to 15 seconds.
func (w *BlobWriter) WritePart(ctx context.Context, data []byte) error {
	res, err := w.propose(ctx, true, &hubpb.Event{Kind: &hubpb.Event_BlobPartAdded{BlobPartAdded: &hubpb.BlobPartAdded{Blob: w.id, Index: w.parts, Data: data}}})
	switch {
	case err != nil:
		return err
	case res.Outcome == OutcomeStale:
		return errForgotten()
	}
	w.hash.Write(data)
	w.parts++
	w.size += int64(len(data))
	return nil
}

func errForgotten() *Error {
	return Errorf(CodeUnavailable, "the parts of the content were forgotten before it was complete; send it again")
}

// propose tries again for a while when the log cannot take the event at the moment; repeatable says that it may be
// there twice.
func (w *BlobWriter) propose(ctx context.Context, repeatable bool, ev *hubpb.Event) (Result, error) {
	for begin := time.Now(); ; {
		res, err := w.proposer.Propose(ctx, ev)
		if err == nil {
			return res[0], nil
		}
		passing := errors.Is(err, ErrNoLeader) || errors.Is(err, ErrOverloaded) || repeatable && errors.Is(err, ErrAmbiguous)
		if !passing || time.Since(begin) >= proposeRetryFor {
			return Result{}, err
		}
		pause := time.NewTimer(proposeRetryPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return Result{}, ctx.Err()
		}
	}
}

// WriteAll appends a body that is in memory.
func (w *BlobWriter) WriteAll(ctx context.Context, body []byte) error {
	for len(body) > 0 {
		n := min(len(body), MaxPartBytes)
		if err := w.WritePart(ctx, body[:n]); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// AttachTo makes the body that of a fetched topic's event.
func (w *BlobWriter) AttachTo(e *hubpb.TopicFetched) {
	e.Body, e.Blob, e.Parts, e.Size = nil, w.id, w.parts, uint64(w.size)
}

// NewBlobWriter begins content that is larger than MaxInlineBytes, for PublishBlob to the same topic.
func (s *Service) NewBlobWriter(ctx context.Context, topic, contentType string) (*BlobWriter, error) {
	if err := s.authorize(ctx, ActionPublish, topic); err != nil {
		return nil, err
	}
	if !s.policy.AutoRegister && !s.known(topic) {
		return nil, Result{Outcome: OutcomeNoTopic}.Err(topic)
	}
	if err := checkContentType(contentType); err != nil {
		return nil, err
	}
	return NewBlobWriter(s.proposer, contentType), nil
}

// PublishBlob is Publish for content that was uploaded; p.Body is not used. After an error the upload is of no use any
// more.
func (s *Service) PublishBlob(ctx context.Context, p Publication, w *BlobWriter) (Receipt, error) {
	if err := s.authorize(ctx, ActionPublish, p.Topic); err != nil {
		return Receipt{}, err
	}
	if w.size > s.policy.MaxMessageBytes {
		return Receipt{}, s.TooLarge()
	}
	ev := &hubpb.BlobPublished{Topic: p.Topic, ContentType: p.ContentType, Blob: w.id, Parts: w.parts, Size: uint64(w.size),
		AutoRegister: s.policy.AutoRegister}
	var err error
	if ev.Headers, err = keptHeaders(p.Headers); err != nil {
		return Receipt{}, err
	}
	if ev.IdempotencyKey, err = hashKey(p.IdempotencyKey); err != nil {
		return Receipt{}, err
	}
	if ev.IdempotencyKey != nil {
		ev.ContentHash = w.hash.Sum(nil)
	}
	res, err := w.propose(ctx, false, &hubpb.Event{Kind: &hubpb.Event_BlobPublished{BlobPublished: ev}})
	if err != nil {
		return Receipt{}, err
	}
	if res.Outcome == OutcomeStale {
		return Receipt{}, errForgotten()
	}
	if err := res.Err(p.Topic); err != nil {
		return Receipt{}, err
	}
	return Receipt{Topic: res.Topic, Offset: res.Offset, Duplicate: res.Outcome == OutcomeDuplicate}, nil
}

// BodyReader reads a message's body, wherever it is, without holding more of it than it is asked for. Not safe for
// concurrent use; a message may have any number of them.
type BodyReader struct {
	source PartReader
	rest   []byte
	parts  []uint64
	at     int // in parts[0]
}

// NewBodyReader begins at the start of a message's body. source may be nil for a message that is not Large.
func NewBodyReader(source PartReader, m *Message) *BodyReader {
	return &BodyReader{source: source, rest: m.Body, parts: m.Parts}
}

// Read implements io.Reader. Errors beside io.EOF are the PartReader's; ErrTrimmed when retention was faster.
func (b *BodyReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if len(b.rest) > 0 {
			n := copy(p, b.rest)
			b.rest = b.rest[n:]
			return n, nil
		}
		if len(b.parts) == 0 {
			return 0, io.EOF
		}
		n, err := b.source.ReadPart(b.parts[0], b.at, p)
		if err != nil {
			return 0, fmt.Errorf("read part %d: %w", b.parts[0], err)
		}
		if n > 0 {
			b.at += n
			return n, nil
		}
		b.parts, b.at = b.parts[1:], 0
	}
}

// ReadBody is the whole body in memory.
func ReadBody(source PartReader, m *Message) ([]byte, error) {
	if !m.IsBlob() {
		return m.Body, nil
	}
	out := make([]byte, m.PartsSize)
	if _, err := io.ReadFull(NewBodyReader(source, m), out); err != nil {
		return nil, err
	}
	return out, nil
}
