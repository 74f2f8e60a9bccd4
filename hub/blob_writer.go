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
	// MaxInlineBytes is the largest body stored in the same log entry as its message.
	MaxInlineBytes = 256 << 10
	// MaxPartBytes is the largest part of a blob; with its envelope it fits into an entry of 256 KiB.
	MaxPartBytes = 255 << 10
	// proposeRetryFor is how long a part that is temporarily refused is proposed again: long enough for a change of
	// leader.
	proposeRetryFor   = 15 * time.Second
	proposeRetryPause = 100 * time.Millisecond
)

// BlobWriter writes a body larger than MaxInlineBytes to the log, part by part. The parts survive changes of leader.
// The hub drops an unfinished blob after a while. Not safe for concurrent use.
type BlobWriter struct {
	proposer Proposer
	id       []byte
	parts    uint32
	size     int64
	hash     hash.Hash
	caller   *hubpb.Caller // whose stored bytes the parts are; nil: nobody's
}

// NewBlobWriter starts a blob of the given content type.
func NewBlobWriter(p Proposer, contentType string) *BlobWriter {
	w := &BlobWriter{proposer: p, id: make([]byte, 16), hash: sha256.New()}
	_, _ = rand.Read(w.id) // never fails
	w.hash.Write([]byte(contentType))
	w.hash.Write([]byte{0})
	return w
}

// Size returns the number of bytes written so far.
func (w *BlobWriter) Size() int64 { return w.size }

// WritePart appends one part of 1 to MaxPartBytes bytes; the caller may change data afterwards. If the log cannot
// accept it at the moment, WritePart retries for up to 15 seconds.
func (w *BlobWriter) WritePart(ctx context.Context, data []byte) error {
	part := &hubpb.BlobPartAdded{Blob: w.id, Index: w.parts, Data: data}
	if w.parts == 0 {
		part.Caller = w.caller
	}
	res, err := w.propose(ctx, true, &hubpb.Event{Kind: &hubpb.Event_BlobPartAdded{BlobPartAdded: part}})
	switch {
	case err != nil:
		return err
	case res.Outcome == OutcomeStale:
		return errForgotten()
	case res.Outcome == OutcomeQuota:
		return res.Err("")
	}
	w.hash.Write(data)
	w.parts++
	w.size += int64(len(data))
	return nil
}

func errForgotten() *Error {
	return Errorf(CodeUnavailable, "the unfinished content was dropped because it took too long; send it again")
}

// propose retries for a while when the log cannot accept the event at the moment. repeatable allows retries that may
// write the event twice.
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

// AttachTo makes the blob the body of a TopicFetched event.
func (w *BlobWriter) AttachTo(e *hubpb.TopicFetched) {
	e.Body, e.Blob, e.Parts, e.Size = nil, w.id, w.parts, uint64(w.size)
}

// NewBlobWriter starts content larger than MaxInlineBytes, to be passed to PublishBlob for the same topic.
func (s *Service) NewBlobWriter(ctx context.Context, topic, contentType string) (*BlobWriter, error) {
	if err := s.AuthorizePublish(ctx, topic); err != nil {
		return nil, err
	}
	if s.ChecksContent(topic) {
		return nil, Errorf(CodeInternal, "the content of %s must be checked, and so published in memory", quote(topic))
	}
	return s.newBlobWriter(ctx, topic, contentType)
}

// newBlobWriter is NewBlobWriter after the caller was admitted.
func (s *Service) newBlobWriter(ctx context.Context, topic, contentType string) (*BlobWriter, error) {
	if !s.policy.AutoRegister && !s.known(topic) {
		return nil, Result{Outcome: OutcomeNoTopic}.Err(topic)
	}
	if err := s.refuseRetired(topic); err != nil {
		return nil, err // before parts are written in vain
	}
	if err := checkContentType(contentType); err != nil {
		return nil, err
	}
	w := NewBlobWriter(s.proposer, contentType)
	if s.quotasKnown() && s.principal(ctx) != "" {
		w.caller = s.caller(ctx)
	}
	return w, nil
}

// PublishBlob is Publish for content written by w; it ignores p.Body. After an error w cannot be used again.
func (s *Service) PublishBlob(ctx context.Context, p Publication, w *BlobWriter) (Receipt, error) {
	if err := s.authorize(ctx, ActionPublish, p.Topic); err != nil {
		return Receipt{}, err
	}
	if err := s.spend(ctx, p.Topic, 1); err != nil {
		return Receipt{}, err
	}
	return s.publishBlob(ctx, p, w)
}

func (s *Service) publishBlob(ctx context.Context, p Publication, w *BlobWriter) (Receipt, error) {
	if w.size > s.policy.MaxMessageBytes {
		return Receipt{}, s.TooLarge()
	}
	ev := &hubpb.BlobPublished{Topic: p.Topic, ContentType: p.ContentType, Blob: w.id, Parts: w.parts, Size: uint64(w.size),
		AutoRegister: s.policy.AutoRegister}
	ev.Caller, ev.KeyWindow = s.publisher(ctx, p.Topic, p.IdempotencyKey)
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
	return receipt(res), nil
}

// BodyReader reads a message's body, inline or blob, holding no more in memory than it is asked for. Not safe for
// concurrent use; a message may have any number of readers.
type BodyReader struct {
	source PartReader
	rest   []byte
	parts  []uint64
	at     int // position in parts[0]
}

// NewBodyReader returns a reader at the start of a message's body. source may be nil unless the message IsBlob.
func NewBodyReader(source PartReader, m *Message) *BodyReader {
	return &BodyReader{source: source, rest: m.Body, parts: m.Parts}
}

// Read implements io.Reader. Errors other than io.EOF are the PartReader's: ErrTrimmed if retention has dropped a
// part.
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

// ReadBody returns the whole body in memory.
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
