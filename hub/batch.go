package hub

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"quorumhub/hub/hubpb"
)

const (
	// MaxBatchBytes bounds the total size of a batch's bodies and content types. A batch goes into one log entry, so
	// that it is atomic.
	MaxBatchBytes = 256 << 10
	// MaxBatchMessages bounds the number of messages in a batch.
	MaxBatchMessages = 1000
)

// Item is one message of a batch.
type Item struct {
	ContentType string
	Body        []byte
}

// Batch is several messages to publish to one topic, all or none.
type Batch struct {
	Topic          string
	Items          []Item
	IdempotencyKey string // of the batch as a whole; empty: none
	Authorized     bool   // as in Publication
}

// BatchReceipt locates a batch in the log: Count messages at consecutive offsets, starting at First.
type BatchReceipt struct {
	Topic     TopicID
	First     uint64
	Count     int
	Duplicate bool // already published under this idempotency key
	// KeysForgotten is as in Receipt.
	KeysForgotten int
}

// MessageID returns the ID of message i, counting from 0.
func (r BatchReceipt) MessageID(i int) string {
	m := Message{Topic: r.Topic, Offset: r.First + uint64(i)}
	return m.ID()
}

// PublishBatch publishes several messages at consecutive offsets. When it returns without an error, all of them are
// durable; after an error none was published, except that ErrAmbiguous leaves this open for the batch as a whole. The
// bodies must not be changed afterwards.
func (s *Service) PublishBatch(ctx context.Context, b Batch) (BatchReceipt, error) {
	if !b.Authorized {
		if err := s.authorize(ctx, ActionPublish, b.Topic); err != nil {
			return BatchReceipt{}, err
		}
	}
	if err := checkBatch(b.Items); err != nil {
		return BatchReceipt{}, err
	}
	if err := s.spend(ctx, b.Topic, len(b.Items)); err != nil {
		return BatchReceipt{}, err
	}
	for i := range b.Items {
		if err := s.checkContent(ctx, b.Topic, b.Items[i].ContentType, b.Items[i].Body); err != nil {
			return BatchReceipt{}, inItem(i, err)
		}
	}
	ev := &hubpb.BatchPublished{Topic: b.Topic, AutoRegister: s.policy.AutoRegister}
	ev.Caller, ev.KeyWindow = s.publisher(ctx, b.Topic, b.IdempotencyKey)
	for i := range b.Items {
		ev.Items = append(ev.Items, &hubpb.BatchPublished_Item{ContentType: b.Items[i].ContentType, Body: b.Items[i].Body})
	}
	var err error
	if ev.IdempotencyKey, err = hashKey(b.IdempotencyKey); err != nil {
		return BatchReceipt{}, err
	}
	if ev.IdempotencyKey != nil {
		ev.ContentHash = batchHash(b.Items)
	}
	res, err := s.propose(ctx, b.Topic, &hubpb.Event{Kind: &hubpb.Event_BatchPublished{BatchPublished: ev}})
	if err != nil {
		return BatchReceipt{}, err
	}
	return BatchReceipt{Topic: res.Topic, First: res.Offset, Count: len(b.Items), Duplicate: res.Outcome == OutcomeDuplicate,
		KeysForgotten: int(res.ID)}, nil
}

// inItem says which message of a batch an error is about.
func inItem(i int, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return fmt.Errorf("message %d: %w", i+1, err)
	}
	one := *e
	one.Message = fmt.Sprintf("message %d: %s", i+1, e.Message)
	return &one
}

func checkBatch(items []Item) error {
	if len(items) == 0 {
		return ParamErrorf("body", "contains no messages; expected at least one")
	}
	if len(items) > MaxBatchMessages {
		return Errorf(CodeTooLarge, "the batch has %d messages; at most %d are accepted", len(items), MaxBatchMessages)
	}
	size := 0
	for i := range items {
		if err := checkContentType(items[i].ContentType); err != nil {
			return ParamErrorf("body", "message %d: %v", i+1, err)
		}
		size += len(items[i].Body) + len(items[i].ContentType)
	}
	if size > MaxBatchBytes {
		return BatchTooLarge()
	}
	return nil
}

// BatchTooLarge returns the error for a batch over the size limit.
func BatchTooLarge() *Error {
	return Errorf(CodeTooLarge, "the messages of the batch are larger than %d bytes together; send several batches, or large messages individually", MaxBatchBytes)
}

func batchHash(items []Item) []byte {
	h := sha256.New()
	h.Write([]byte("batch"))
	var n [8]byte
	put := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	for i := range items {
		put([]byte(items[i].ContentType))
		put(items[i].Body)
	}
	return h.Sum(nil)
}
