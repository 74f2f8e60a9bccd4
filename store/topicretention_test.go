package store_test

import (
	"bytes"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/store"
)

func TestTopicTrims(t *testing.T) {
	for name, change := range map[string]func(*store.Options){
		"in memory":   func(*store.Options) {},
		"in segments": func(o *store.Options) { o.SegmentBytes, o.TailBytes = 1, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			opts := slow(t.TempDir())
			change(&opts)
			s, w, _ := filled(t, opts) // 200 messages of 10 KB in topic 1, of one byte in topic 2, one second apart
			now := time.Unix(0, w.now)
			for range 5 {
				apply(t, s, w.entry(t, publish("a", bytes.Repeat([]byte("x"), 10_000)))) // not flushed
			}
			now = now.Add(5 * time.Second)
			duration := func(d time.Duration) *time.Duration { return &d }
			size := func(n int64) *int64 { return &n }
			within := func(r hub.Retention, topic hub.TopicID, least, most uint64) {
				t.Helper()
				trims, err := s.TopicTrims([]hub.TopicLimit{{Topic: topic, Retention: r}}, now)
				if err != nil {
					t.Fatal(err)
				}
				var through uint64
				if len(trims) == 1 {
					through = trims[0].Through
				}
				if len(trims) > 1 || through < least || through > most {
					t.Errorf("%+v of topic %d: %+v, want %d to %d", r, topic, trims, least, most)
				}
			}
			within(hub.Retention{}, 1, 0, 0)
			within(hub.Retention{MaxAge: duration(0), MaxBytes: size(0)}, 1, 0, 0)
			within(hub.Retention{MaxAge: duration(time.Hour), MaxBytes: size(1 << 30)}, 1, 0, 0)
			within(hub.Retention{MaxAge: duration(10 * time.Second)}, 1, 194, 194)
			within(hub.Retention{MaxAge: duration(time.Nanosecond)}, 1, 204, 204)
			within(hub.Retention{MaxAge: duration(time.Nanosecond)}, 2, 200, 200)
			within(hub.Retention{MaxBytes: size(1_005_000)}, 1, 104, 107)
			within(hub.Retention{MaxBytes: size(21_000)}, 1, 202, 204)
			within(hub.Retention{MaxBytes: size(1)}, 1, 204, 204) // the newest message stays
			within(hub.Retention{MaxBytes: size(1)}, 2, 199, 199)
			within(hub.Retention{MaxBytes: size(1_005_000), MaxAge: duration(10 * time.Second)}, 1, 194, 194)
			within(hub.Retention{MaxAge: duration(time.Second)}, 77, 0, 0) // no such topic
			apply(t, s, w.entry(t, trim(1, 150)))
			within(hub.Retention{MaxBytes: size(1_005_000)}, 1, 0, 0)
			within(hub.Retention{MaxAge: duration(100 * time.Second)}, 1, 0, 0)
			within(hub.Retention{MaxBytes: size(105_000)}, 1, 194, 196)
		})
	}
}
