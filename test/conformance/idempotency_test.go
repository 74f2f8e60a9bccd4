package conformance_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"quorumhub/test/hubtest"
)

func TestIdempotencyKeyMakesRepeatsOneMessage(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	first := n.Publish(t, topic, "text/plain", []byte("once"), "Idempotency-Key", "k-1")
	for range 3 {
		again := n.Publish(t, topic, "text/plain", []byte("once"), "Idempotency-Key", "k-1")
		if again.ID != first.ID {
			t.Errorf("the repeat got id %s, the first %s", again.ID, first.ID)
		}
	}
	other := n.Publish(t, topic, "text/plain", []byte("once"), "Idempotency-Key", "k-2")
	if other.Offset != first.Offset+1 {
		t.Errorf("another key got offset %d after %d", other.Offset, first.Offset)
	}
	n.Publish(t, topic, "text/plain", []byte("end"))
	s.WaitBody(t, "end")
	if got := s.CountDeliveries(); got != 3 {
		t.Errorf("got %d deliveries of 3 messages: %v", got, s.Deliveries())
	}
}

func TestIdempotencyKeyWithAnotherBodyIsAConflict(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	n.Publish(t, topic, "text/plain", []byte("one"), "Idempotency-Key", "k")
	for _, target := range []string{hubtest.PublishTarget(topic), topic} {
		r := n.Do(t, http.MethodPost, target, hubtest.Headers("Content-Type", "text/plain", "Idempotency-Key", "k"), []byte("two"))
		wantStatus(t, "another body under the same key", r, 409, 422)
		wantRefusal(t, r, "Idempotency-Key")
	}
	if topic := n.Publish(t, topic, "text/plain", []byte("three")); topic.Offset != 2 {
		t.Errorf("the refused message used an offset: the next one got %d", topic.Offset)
	}
}

func TestIdempotencyKeyIsNotSharedBetweenTopics(t *testing.T) {
	n := shared(t)
	topicA, topicB := newTopic(t, n), newTopic(t, n)
	s, _ := subscribed(t, n, topicB)
	a := n.Publish(t, topicA, "text/plain", []byte("x"), "Idempotency-Key", "k")
	b, err := n.TryPublish(topicB, "text/plain", []byte("x"), "Idempotency-Key", "k")
	var refused *hubtest.RefusedError
	if errors.As(err, &refused) {
		wantStatus(t, "the key in another topic", refused.Reply, 409, 422)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if a.ID == b.ID {
		t.Errorf("a publish to %s was answered with the message %s of %s", topicB, a.ID, topicA)
	}
	s.WaitBody(t, "x")
}

func TestIdempotencyKeyUnderConcurrency(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			ack, err := n.TryPublish(topic, "text/plain", []byte("x"), "Idempotency-Key", "k")
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = ack.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("the same message got ids %v", ids)
		}
	}
	n.Publish(t, topic, "text/plain", []byte("end"))
	s.WaitBody(t, "end")
	if got := s.CountDeliveries(); got != 2 {
		t.Errorf("got %d deliveries, want 2: %v", got, s.Deliveries())
	}
}

func TestIdempotencyKeySurvivesAKill(t *testing.T) {
	t.Parallel()
	n := hubtest.Start(t, hubtest.Options{})
	topic := newTopic(t, n)
	ack := n.Publish(t, topic, "text/plain", []byte("x"), "Idempotency-Key", "k")
	n.Kill(t)
	n.Restart(t)
	if again := n.Publish(t, topic, "text/plain", []byte("x"), "Idempotency-Key", "k"); again.ID != ack.ID {
		t.Errorf("after a restart the repeat got id %s, before it was %s", again.ID, ack.ID)
	}
	_, err := n.TryPublish(topic, "text/plain", []byte("y"), "Idempotency-Key", "k")
	var refused *hubtest.RefusedError
	if !errors.As(err, &refused) {
		t.Errorf("after a restart another body under the key got %v, want a refusal", err)
	}
}

func TestIdempotencyKeyIsBounded(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	key := fmt.Sprintf("%0300d", 7)
	r := n.Do(t, http.MethodPost, topic, hubtest.Headers("Content-Type", "text/plain", "Idempotency-Key", key), []byte("x"))
	if r.Status != http.StatusOK { // a long key may work or be refused
		wantRefusal(t, r, "Idempotency-Key")
	}
}
