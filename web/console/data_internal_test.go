package console

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quorumhub/hub"
)

// Content is shown as what it is, whole characters only, and never more than a page can bear.
func TestContentIsShownAsText(t *testing.T) {
	long := strings.Repeat("é", maxShown)
	for name, c := range map[string]struct {
		kind, body string
		size       int64
		want       shown
	}{
		"JSON":           {"application/json", `{"a":[1,2],"b":"<i>"}`, 0, shown{Kind: "JSON", Text: "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": \"<i>\"\n}"}},
		"a JSON dialect": {"application/cloudevents+json; charset=utf-8", `{"a":1}`, 0, shown{Kind: "JSON", Text: "{\n  \"a\": 1\n}"}},
		"broken JSON":    {"application/json", `{"a":`, 0, shown{Kind: "text", Text: `{"a":`}},
		"cut JSON":       {"application/json", `{"a":1}`, 9000, shown{Kind: "text", Text: `{"a":1}`, Short: true}},
		"XML":            {"application/xml", `<?xml version="1.0"?><o:a x="1&amp;2"><b/><c>text</c><d><e/>more</d></o:a>`, 0, shown{Kind: "XML", Text: "<?xml version=\"1.0\"?>\n<o:a x=\"1&amp;2\">\n  <b/>\n  <c>text</c>\n  <d>\n    <e/>\n    more\n  </d>\n</o:a>"}},
		"broken XML":     {"text/xml", `<a><b></a>`, 0, shown{Kind: "text", Text: "<a><b></a>"}},
		"unended XML":    {"text/xml", `<a>`, 0, shown{Kind: "text", Text: "<a>"}},
		"deep XML":       {"text/xml", strings.Repeat("<a>", 200), 0, shown{Kind: "text", Text: strings.Repeat("<a>", 200)}},
		"text":           {"text/plain", "Grüße\n", 0, shown{Kind: "text", Text: "Grüße\n"}},
		"cut text":       {"text/plain", "Gr\xc3", 5, shown{Kind: "text", Text: "Gr", Short: true}},
		"long text":      {"text/plain", long, 0, shown{Kind: "text", Text: long[:maxShown], Short: true}},
		"bytes":          {"image/png", "\x89PNG\x00", 0, shown{Kind: "bytes", Text: "00000000  89 50 4e 47 00                                    |.PNG.|\n"}},
		"no type":        {"", "x", 0, shown{Kind: "text", Text: "x"}},
	} {
		c.want.Size = cmp.Or(c.size, int64(len(c.body)))
		got := showContent(c.kind, []byte(c.body), c.want.Size)
		if got != c.want {
			t.Errorf("%s: %+v\nwant %+v", name, got, c.want)
		}
	}
	if got := showContent("application/octet-stream", bytes.Repeat([]byte{0}, 5000), 5000); !got.Short || len(got.Text) > 6*maxHex {
		t.Errorf("%d bytes of %d", len(got.Text), got.Size)
	}
}

// A page of a sorted list has what the whole list, sorted, has in its place.
func TestPickIsSortAndCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type row struct{ key, id int }
		rows := make([]row, rapid.IntRange(0, 200).Draw(t, "rows"))
		for i := range rows {
			rows[i] = row{rapid.IntRange(0, 20).Draw(t, "key"), i}
		}
		mod := rapid.IntRange(1, 4).Draw(t, "mod")
		from := rapid.IntRange(0, 60).Draw(t, "from")
		to := from + rapid.IntRange(0, 60).Draw(t, "n")
		match := func(r *row) bool { return r.key%mod == 0 }
		compare := func(a, b *row) int { return cmp.Or(cmp.Compare(b.key, a.key), cmp.Compare(a.id, b.id)) }
		if rapid.Bool().Draw(t, "as they are") {
			compare = nil
		}
		var all []*row
		for i := range rows {
			if match(&rows[i]) {
				all = append(all, &rows[i])
			}
		}
		if compare != nil {
			slices.SortFunc(all, compare)
		}
		want := all[min(from, len(all)):min(to, len(all))]
		got, total := pick(rows, match, compare, from, to)
		if total != len(all) || !slices.Equal(got, want) {
			t.Fatalf("%d of %d, want %d of %d", len(got), total, len(want), len(all))
		}
	})
}

// Rates are measured over the last ten seconds or so, however often somebody looks.
func TestRatesOfTopics(t *testing.T) {
	var r rates
	now := time.Unix(1000, 0)
	look := func(head uint64) float64 {
		rows := []topicRow{{ID: 1, Head: head}}
		r.measure(now, rows)
		return rows[0].Rate
	}
	if got := look(100); got >= 0 {
		t.Errorf("known at once: %v", got)
	}
	head := uint64(100)
	for i := range 30 { // 5 a second
		now = now.Add(2 * time.Second)
		head += 10
		if got := look(head); i > 0 && math.Abs(got-5) > 0.01 {
			t.Errorf("after %d s: %v", 2*(i+1), got)
		}
	}
	for range 15 {
		now = now.Add(2 * time.Second)
		look(head)
	}
	if got := look(head); got != 0 {
		t.Errorf("after half a minute without messages: %v", got)
	}
	now = now.Add(time.Hour)
	if got := look(head + 100); got >= 0.1 {
		t.Errorf("after an hour without a look: %v", got)
	}
}

func TestReasonsHaveWords(t *testing.T) {
	for _, reason := range []string{"forbidden-address", "crowded", "unreachable", "timeout", "tls", "wrong-challenge", "cancelled", "protocol", "bad-url", "unreadable", "proxy", "credentials", "bad-secret", "policy",
		hub.FailedNotOwner, hub.FailedUnknownTopic, hub.FailedGroup, hub.FailedQuota, hub.FailedRetired} {
		if words := reasonWords(reason, 0); words == reason || !strings.Contains(words, " ") {
			t.Errorf("%s: %q", reason, words)
		}
	}
	for status, want := range map[int]string{404: "answered 404 Not Found", 599: "answered 599", 204: "acknowledged"} {
		if got := reasonWords("http-status", status); got != want {
			t.Errorf("%d: %q", status, got)
		}
	}
}

// offsets answers with a topic that gets a message every minute since start.
type offsets struct {
	Ports
	start time.Time
}

func (o offsets) OffsetAt(_ hub.TopicID, at time.Time) (uint64, error) {
	return uint64(max(at.Sub(o.start)/time.Minute, 0)) + 1, nil
}

// The lag of the last hour follows from when messages were published and what is known of the subscription, and nothing is made up.
func TestLagOfTheLastHour(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	start := now.Add(-100 * time.Minute) // 100 messages since
	c := &Console{Options: Options{Ports: offsets{start: start}}}
	topic := &hub.Topic{ID: 1, First: 1, Head: 100}
	at := func(v *subscriptionView, served uint64, minutes int) float64 {
		points := c.lagPoints(v, topic, served, now)
		if len(points) != lagSteps+1 || points[lagSteps].Lag != float64(v.Lag) {
			t.Fatalf("%d points, the last one %v", len(points), points[len(points)-1])
		}
		return points[lagSteps-minutes].Lag
	}
	attempt := func(offset uint64, minutes int, outcome, kind string) attemptRow {
		a := attemptRow{}
		a.Offset, a.At, a.Outcome, a.Kind = offset, now.Add(-time.Duration(minutes)*time.Minute), outcome, kind
		return a
	}
	// It has failed for half an hour, after message 70.
	v := &subscriptionView{Lag: 30, Row: subscriptionRow{Failures: 9, FailingSince: now.Add(-30 * time.Minute).UnixNano()}}
	for minutes, want := range map[int]float64{1: 29, 10: 20, 30: 0} {
		if got := at(v, 70, minutes); got != want {
			t.Errorf("failing: %d min ago %v, want %v", minutes, got, want)
		}
	}
	if got := at(v, 70, 31); !math.IsNaN(got) {
		t.Errorf("before it failed: %v", got)
	}
	// It catches up: the newest attempts are the first.
	v = &subscriptionView{Lag: 2, Attempts: []attemptRow{attempt(98, 1, "delivered", "delivery"), attempt(98, 2, "down", "delivery"), attempt(3, 4, "delivered", "replay"), attempt(80, 5, "delivered", "delivery")}}
	for minutes, want := range map[int]float64{1: 1, 3: 17, 5: 15} {
		if got := at(v, 98, minutes); got != want {
			t.Errorf("catching up: %d min ago %v, want %v", minutes, got, want)
		}
	}
	if got := at(v, 98, 6); !math.IsNaN(got) {
		t.Errorf("before what is remembered: %v", got)
	}
	if got := at(&subscriptionView{}, 100, 1); !math.IsNaN(got) {
		t.Errorf("nothing is known: %v", got)
	}
}
