package demo

import (
	"fmt"
	"testing"

	"quorumhub/cli/subscriber"
)

// Each kind of failure must spoil the verdict, so that the demo cannot wrongly claim that nothing was lost.
func TestLedgerNoticesEveryKindOfFailure(t *testing.T) {
	const topic = "http://hub.example/topics/news"
	arrival := func(n int) subscriber.Delivery {
		return subscriber.Delivery{Topic: topic, Body: fmt.Appendf(nil, "message %d", n), Signature: subscriber.SignatureOK}
	}
	altered, forged, elsewhere := arrival(2), arrival(2), arrival(2)
	altered.Body = []byte("message 2!")
	forged.Signature = subscriber.SignatureBad
	elsewhere.Topic = "http://hub.example/topics/other"
	tests := []struct {
		name     string
		arrivals []subscriber.Delivery
		want     verdict
		good     bool
	}{
		{"all well", []subscriber.Delivery{arrival(1), arrival(2), arrival(3)}, verdict{Acknowledged: 3, Arrived: 3}, true},
		{"repeated", []subscriber.Delivery{arrival(1), arrival(1), arrival(2), arrival(3), arrival(2)}, verdict{Acknowledged: 3, Arrived: 3, Repeated: 2}, true},
		{"one is missing", []subscriber.Delivery{arrival(1), arrival(3)}, verdict{Acknowledged: 3, Arrived: 2}, false},
		{"all are missing", nil, verdict{Acknowledged: 3}, false},
		{"wrong order", []subscriber.Delivery{arrival(1), arrival(3), arrival(2)}, verdict{Acknowledged: 3, Arrived: 3, OutOfOrder: 1}, false},
		{"altered", []subscriber.Delivery{arrival(1), altered, arrival(2), arrival(3)}, verdict{Acknowledged: 3, Arrived: 3, Altered: 1}, false},
		{"wrong topic", []subscriber.Delivery{arrival(1), elsewhere, arrival(2), arrival(3)}, verdict{Acknowledged: 3, Arrived: 3, Altered: 1}, false},
		{"forged", []subscriber.Delivery{arrival(1), forged, arrival(3)}, verdict{Acknowledged: 3, Arrived: 2, Unsigned: 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger()
			for n := 1; n <= 3; n++ {
				l.attempt(topic, arrival(n).Body)
			}
			// A message may arrive before it is acknowledged.
			l.acknowledge(topic, arrival(1).Body)
			for _, d := range tt.arrivals {
				l.arrive(d)
			}
			for n := 2; n <= 3; n++ {
				l.acknowledge(topic, arrival(n).Body)
			}
			if got := l.read(); got != tt.want || got.good() != tt.good {
				t.Errorf("got %+v, good %v; expected %+v, good %v", got, got.good(), tt.want, tt.good)
			}
		})
	}
}

func TestLedgerDoesNotCountWhatWasNeverAcknowledged(t *testing.T) {
	l := newLedger()
	l.attempt("t", []byte("x"))
	l.arrive(subscriber.Delivery{Topic: "t", Body: []byte("x"), Signature: subscriber.SignatureOK})
	if got := l.read(); got != (verdict{}) {
		t.Errorf("got %+v", got)
	}
}
