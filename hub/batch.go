package hub

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"quorumhub/hub/hubpb"
)

const (
	// MaxBatchBytes bounds the bodies and content types of a batch together: it goes into one log entry, so that
	// all of it is there or nothing.
	MaxBatchBytes = 256 << 10
	// MaxBatchMessages bounds the messages of a batch.
	MaxBatchMessages = 1000
)

// Item is one message of a batch.
type Item struct {
	ContentType string
	Body        []byte
}

// Batch is several messages to publish to one topic, all of them or none.
type Batch struct {
	Topic          string
	Items          []Item
	IdempotencyKey string // of the batch as a whole; empty: none
}

// BatchReceipt says where a batch stands in the log: its messages are at First and the offsets behind it.
type BatchReceipt struct {
	Topic     TopicID
	First     uint64
	Count     int
	Duplicate bool // it was there already, by its idempotency key
}

// MessageID is the id of the message i, from 0.
func (r BatchReceipt) MessageID(i int) string {
	m := Message{Topic: r.Topic, Offset: r.First + uint64(i)}
	return m.ID()
}

// PublishBatch takes several messages for distribution, which get offsets one behind the other. When it returns
// without an error all of them are durable; after an error none of them is there, except for ErrAmbiguous, which leaves
// that open for the batch as a whole. The bodies must not be changed afterwards.
func (s *Service) PublishBatch(ctx context.Context, b Batch) (BatchReceipt, error) {
	if err := s.authorize(ctx, ActionPublish, b.Topic); err != nil {
		return BatchReceipt{}, err
	}
	if err := checkBatch(b.Items); err != nil {
		return BatchReceipt{}, err
	}
	ev := &hubpb.BatchPublished{Topic: b.Topic, AutoRegister: s.policy.AutoRegister}
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
	res, err := s.proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_BatchPublished{BatchPublished: ev}})
	if err != nil {
		return BatchReceipt{}, err
	}
	if err := res[0].Err(b.Topic); err != nil {
		return BatchReceipt{}, err
	}
	return BatchReceipt{Topic: res[0].Topic, First: res[0].Offset, Count: len(b.Items), Duplicate: res[0].Outcome == OutcomeDuplicate}, nil
}

func checkBatch(items []Item) error {
	if len(items) == 0 {
		return ParamErrorf("body", "holds no message; a batch has at least one")
	}
	if len(items) > MaxBatchMessages {
		return Errorf(CodeTooLarge, "the batch has %d messages; at most %d are taken at a time", len(items), MaxBatchMessages)
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

// BatchTooLarge is the error for a batch over the limit.
func BatchTooLarge() *Error {
	return Errorf(CodeTooLarge, "the messages of the batch are larger than %d bytes together; send several batches, or large messages one by one", MaxBatchBytes)
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

// hashKey checks an Idempotency-Key and returns its SHA-256; nil for none.
func hashKey(key string) ([]byte, error) {
	if key == "" {
		return nil, nil
	}
	if len(key) > maxIdempotencyKeyBytes {
		return nil, ParamErrorf("Idempotency-Key", "is %d bytes long; at most %d are accepted", len(key), maxIdempotencyKeyBytes)
	}
	sum := sha256.Sum256([]byte(key))
	return sum[:], nil
}
