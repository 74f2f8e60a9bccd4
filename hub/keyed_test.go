package hub_test

import (
	"strings"
	"testing"

	"quorumhub/hub"
)

// A publication is found by its idempotency key: one's own, and for operators those of all, since publishers may choose the same.
func TestByKey(t *testing.T) {
	w := newTenants(t)
	w.publishAs(alice, "news", "k1", "a")
	w.publishAs(bob, "news", "k1", "b")
	w.publishAs("", "news", "k1", "c")
	w.publishAs(bob, "other", "k1", "d")
	for who, want := range map[string]string{alice: "1-1", bob: "1-2", "": "1-3", operator: "1-1 1-2 1-3"} {
		found, err := w.ByKey(as(who), "news", "k1")
		var got []string
		for _, k := range found {
			got = append(got, k.MessageID())
			if k.At.IsZero() {
				t.Errorf("%q: no time", who)
			}
		}
		if len(got) != len(strings.Fields(want)) || err != nil {
			t.Errorf("%q found %v (%v), want %s", who, got, err, want)
		}
		for _, id := range strings.Fields(want) {
			if !strings.Contains(" "+strings.Join(got, " ")+" ", " "+id+" ") {
				t.Errorf("%q found %v, want %s", who, got, want)
			}
		}
	}
	for _, c := range [][2]string{{"news", "k2"}, {"none", "k1"}} {
		if found, err := w.ByKey(as(operator), c[0], c[1]); err != nil || len(found) != 0 {
			t.Errorf("%v: %v, %v", c, found, err)
		}
	}
	for _, key := range []string{"", strings.Repeat("k", 256)} {
		if _, err := w.ByKey(as(operator), "news", key); hub.CodeOf(err) != hub.CodeInvalid {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func (w *tenants) publishAs(principal, topic, key, body string) {
	w.world.Helper()
	if _, err := w.Publish(as(principal), hub.Publication{Topic: topic, ContentType: "text/plain", Body: []byte(body), IdempotencyKey: key}); err != nil {
		w.world.Fatal(err)
	}
}
