package cli_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Subscriptions start, and are rewound, anywhere in the log, through nodes that do not own them. Invalid positions are refused by any node,
// naming the parameter and its range.
func TestPlacesInTheLogOfACluster(t *testing.T) {
	c := startDevCluster(t, 3, "storage.segment_bytes=64KiB", "retention.max_age=4s") // checked every second
	r := newCallbacks(t, nil)
	c.say("1", "2", "3")
	if got := run(t, "", "topics", "set", "t", "--max-age", "7d", "--hub", c.urls[1]); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	between := time.Now()
	c.say("4", "5", "6")
	starts := map[string]string{"/latest": "latest", "/earliest": "earliest", "/offset": "4", "/next": "7",
		"/time": between.Format(time.RFC3339Nano), "/zone": between.In(time.FixedZone("", -3600)).Format(time.RFC3339Nano)}
	i := 0
	for path, start := range starts {
		c.subscribeWith(i%3, "hub.callback", r.URL+path, "hub.start", start)
		i++
	}
	c.subscribeWith(1, "hub.callback", r.URL+"/none")
	ids := c.active("/latest", "/earliest", "/offset", "/next", "/time", "/zone", "/none")
	c.say("7")
	for path, want := range map[string]string{"/latest": "7", "/none": "7", "/next": "7", "/earliest": "1 2 3 4 5 6 7", "/offset": "4 5 6 7",
		"/time": "4 5 6 7", "/zone": "4 5 6 7"} {
		eventually(t, path+" gets "+want, func() bool { return r.bodies(path) == want })
	}
	for i := range c.urls {
		eventually(t, "the cursors are at the end", func() bool {
			for _, s := range c.listed(i) {
				if s.Cursor != 7 || s.Lag != 0 {
					return false
				}
			}
			return true
		})
	}

	rewindAnywhere(t, c, r, ids, between)
	refuseDroppedPlaces(t, c, r, ids)
	c.badChoices(r.URL)
	endSubscription(t, c, r, ids)
}

// rewindAnywhere checks that a renewal keeps the cursor, and rewinds subscriptions by command and API.
func rewindAnywhere(t *testing.T, c *devCluster, r *callbacks, ids map[string]string, between time.Time) {
	t.Helper()
	c.subscribeWith(2, "hub.callback", r.URL+"/none", "hub.start", "earliest")
	eventually(t, "the renewal is verified", func() bool { return r.verified("/none") == 2 })
	through := c.urls[c.other("/latest")]
	for _, s := range []struct{ to, says, gets string }{
		{"5", "continues with message 5: 3 sent again, 0 skipped", "7 5 6 7"},
		{between.UTC().Format(time.RFC3339Nano), "continues with message 4: 4 sent again", "7 5 6 7 4 5 6 7"},
		{"latest", "continues with message 8: 0 sent again", "7 5 6 7 4 5 6 7"},
		{"earliest", "continues with message 1: 7 sent again", "7 5 6 7 4 5 6 7 1 2 3 4 5 6 7"},
	} {
		if got := run(t, "", "subscriptions", "rewind", ids["/latest"], "--to", s.to, "--dry-run", "--hub", through); got.code != 0 ||
			!strings.Contains(got.out, strings.Replace(s.says, "continues", "would continue", 1)) {
			t.Errorf("dry run to %s: %+v", s.to, got)
		}
		if got := run(t, "", "subscriptions", "rewind", ids["/latest"], "--to", s.to, "--hub", through); got.code != 0 || !strings.Contains(got.out, s.says) {
			t.Errorf("rewind to %s: %+v", s.to, got)
		}
		eventually(t, "the rewound messages are delivered", func() bool { return r.bodies("/latest") == s.gets && c.listed(0)["/latest"].Cursor == 7 })
	}
	if status, body := c.post(c.other("/offset"), "/v1/subscriptions/"+ids["/offset"]+"/rewind", `{"to":"earliest"}`); status != http.StatusOK ||
		!strings.Contains(body, `"next_offset":1`) {
		t.Errorf("rewind: %d %s", status, body)
	}
	eventually(t, "the rewound messages are delivered", func() bool { return r.bodies("/offset") == "4 5 6 7 1 2 3 4 5 6 7" })
	if got := r.bodies("/none"); got != "7" {
		t.Errorf("the renewed subscription got %s", got)
	}
}

// refuseDroppedPlaces drops the first messages of a topic; starting or rewinding there must be refused by every node.
func refuseDroppedPlaces(t *testing.T, c *devCluster, r *callbacks, ids map[string]string) {
	t.Helper()
	for range 10 {
		if status, _ := c.post(1, "/topics/old", strings.Repeat("x", 20<<10)); status != http.StatusOK {
			t.Fatalf("publish: %d", status)
		}
	}
	c.subscribeWith(0, "hub.topic", c.urls[0]+"/topics/old", "hub.callback", r.URL+"/old")
	old := c.active("/old")["/old"]
	if got := run(t, "", "topics", "set", "old", "--max-bytes", "1B", "--hub", c.urls[2]); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	var first, head uint64
	for i := range c.urls {
		eventually(t, "the first messages are dropped", func() bool {
			var page struct {
				Items []struct {
					Name        string
					FirstOffset uint64 `json:"first_offset"`
					HeadOffset  uint64 `json:"head_offset"`
				}
			}
			c.get(i, "/v1/topics", &page)
			for _, topic := range page.Items {
				if topic.Name == "old" {
					first, head = topic.FirstOffset, topic.HeadOffset
				}
			}
			return first > 3
		})
	}
	window := fmt.Sprintf("expected an offset from %d to %d", first, head+1)
	for i := range c.urls {
		c.refused(i, 400, "hub.start: 1 was dropped by retention; "+window, "hub.topic", c.urls[0]+"/topics/old", "hub.start", "1")
		if status, body := c.post(i, "/v1/subscriptions/"+old+"/rewind", `{"to": 1}`); status != 400 || !strings.Contains(body, "to: 1 was dropped by retention; "+window) ||
			!strings.Contains(body, `"param":"to"`) {
			t.Errorf("rewind before the first message: %d %s", status, body)
		}
	}
	for _, to := range []struct{ to, says string }{{"8000", "expected an offset from 1 to 8"}, {"0", "to: is \"0\"; offsets count from 1"},
		{"2200-01-01T00:00:00Z", "to: 2200-01-01T00:00:00Z is in the future; expected a time no later than now"}, {"soon", "to: is \"soon\"; expected latest, earliest, a message offset"}} {
		if got := run(t, "", "subscriptions", "rewind", ids["/time"], "--to", to.to, "--hub", c.urls[1]); got.code != 4 || !strings.Contains(got.err, to.says) {
			t.Errorf("rewind to %s: %+v", to.to, got)
		}
	}
}

// endSubscription ends a subscription: its callback is notified and gets nothing more.
func endSubscription(t *testing.T, c *devCluster, r *callbacks, ids map[string]string) {
	t.Helper()
	if got := run(t, "", "subscriptions", "end", ids["/earliest"], "--hub", c.urls[c.other("/earliest")]); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	eventually(t, "the callback is notified", func() bool { return r.denial("/earliest") != nil })
	if d := r.denial("/earliest"); d.Get("hub.topic") != c.urls[0]+"/topics/t" || d.Get("hub.reason") == "" {
		t.Errorf("the callback was notified with %v", d)
	}
	c.say("8")
	eventually(t, "the others continue", func() bool {
		return strings.HasSuffix(r.bodies("/time"), " 8") && strings.HasSuffix(r.bodies("/none"), " 8")
	})
	if got := r.bodies("/earliest"); got != "1 2 3 4 5 6 7" {
		t.Errorf("after the end the callback had received %s", got)
	}
}

// badChoices sends invalid requests to the nodes in turn. Topic t ends with message 7.
func (c *devCluster) badChoices(callbacks string) {
	c.t.Helper()
	c.subscribeWith(0, "hub.callback", callbacks+"/group/1", "hub.consumer_group", "g", "hub.delivery_key", "json:/key", "hub.delivery_window", "8")
	c.active("/group/1")
	for i, b := range []struct {
		status int
		says   string
		params []string
	}{
		{400, `hub.start: is "soon"; expected latest, earliest, a message offset (from 1), or an RFC 3339 time`, []string{"hub.start", "soon"}},
		{400, `hub.start: is ""; expected latest, earliest`, []string{"hub.start", ""}},
		{400, `hub.start: is "0"; offsets count from 1`, []string{"hub.start", "0"}},
		{400, `hub.start: is "-3"; expected latest, earliest`, []string{"hub.start", "-3"}},
		{400, "hub.start: 9 is past the end of the topic; expected an offset from 1 to 8", []string{"hub.start", "9"}},
		{400, "hub.start: 2200-01-01T00:00:00Z is in the future; expected a time no later than now", []string{"hub.start", "2200-01-01T00:00:00Z"}},
		{400, `hub.delivery_window: is "0"; expected messages from 1 to 1024`, []string{"hub.delivery_window", "0"}},
		{400, `hub.delivery_window: is "1025"; expected messages from 1 to 1024`, []string{"hub.delivery_window", "1025", "hub.delivery_mode", "parallel"}},
		{400, `hub.delivery_window: is "many"; expected messages from 1 to 1024`, []string{"hub.delivery_window", "many"}},
		{400, "hub.delivery_window: is 8 with hub.delivery_mode=ordered, which has one message in flight at a time; expected 1, or hub.delivery_mode=parallel or keyed",
			[]string{"hub.delivery_window", "8", "hub.delivery_mode", "ordered"}},
		{400, `hub.delivery_mode: is "random"; expected ordered, parallel or keyed`, []string{"hub.delivery_mode", "random"}},
		{400, "hub.delivery_key: is missing; hub.delivery_mode=keyed requires header:<Name> or json:<JSON pointer>", []string{"hub.delivery_mode", "keyed"}},
		{400, "hub.delivery_key: requires hub.delivery_mode=keyed, not parallel", []string{"hub.delivery_mode", "parallel", "hub.delivery_key", "json:/a"}},
		{400, "hub.delivery_key: ", []string{"hub.delivery_key", "key"}},
		{400, `hub.delivery_key: names the header "X-Other", which is not kept with messages; expected one of Content-Type, X-Hub-Key`, []string{"hub.delivery_key", "header:x-other"}},
		{400, `hub.consumer_group: is "two words"; expected a name of 1 to 128 bytes without spaces`, []string{"hub.consumer_group", "two words"}},
		{400, `hub.consumer_group: is "a" and consumerGroup is "b"; expected one group`, []string{"hub.consumer_group", "a", "consumerGroup", "b"}},
		{409, `hub.delivery_mode: is ordered, but the consumer group "g" has keyed; all members must agree, so expected keyed`, []string{"hub.consumer_group", "g"}},
		{409, `hub.delivery_window: is 16, but the consumer group "g" has 8`, []string{"hub.consumer_group", "g", "hub.delivery_key", "json:/key"}},
		{409, `hub.delivery_key: is "json:/other", but the consumer group "g" has "json:/key"`,
			[]string{"hub.consumer_group", "g", "hub.delivery_key", "json:/other", "hub.delivery_window", "8"}},
		{400, `hub.rate: is "0"; expected messages per second, from 0.001 to 100000`, []string{"hub.rate", "0"}},
		{400, `hub.rate: is "NaN"; expected messages per second, from 0.001 to 100000`, []string{"hub.rate", "NaN"}},
		{400, `hub.retry.max_attempts: is "0"; expected attempts from 1 to 10000`, []string{"hub.retry.max_attempts", "0"}},
		{400, `hub.retry.refused_attempts: is "10001"; expected attempts from 1 to 10000`, []string{"hub.retry.refused_attempts", "10001"}},
		{400, `hub.retry.max_age: is "30d"; expected seconds from 1 to 2592000`, []string{"hub.retry.max_age", "30d"}},
		{400, `hub.retry.max_interval: is "86401"; expected seconds from 1 to 86400`, []string{"hub.retry.max_interval", "86401"}},
	} {
		c.refused(i%3, b.status, b.says, b.params...)
	}
}

// A secret changes while messages are sent: deliveries are signed with both secrets (Standard Webhooks), even after their owner crashes.
func TestSecretsInRotationOnACluster(t *testing.T) {
	c := startDevCluster(t, 3)
	r := newCallbacks(t, nil)
	const before, after = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	renew := func(i int, secret string) {
		c.subscribeWith(i, "hub.callback", r.URL+"/cb", "hub.secret", secret, "hub.signature_scheme", "standard-webhooks")
	}
	renew(0, before)
	c.active("/cb")
	check := func(body string, valid ...string) {
		t.Helper()
		eventually(t, body+" is delivered", func() bool { return strings.HasSuffix(" "+r.bodies("/cb"), " "+body) })
		got := r.at("/cb")
		last := got[len(got)-1]
		if last.header.Get("webhook-id") != last.id {
			t.Errorf("webhook-id %s of message %s", last.header.Get("webhook-id"), last.id)
		}
		for _, secret := range []string{before, after} {
			wh, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Contains(strings.Join(valid, " "), secret)
			if err := wh.Verify([]byte(last.body), last.header); (err == nil) != want {
				t.Errorf("%s with %s: %v; valid should be %v; it has %q", body, secret, err, want, last.header.Get("webhook-signature"))
			}
		}
	}
	c.say("one")
	check("one", before)
	renew(c.other("/cb"), after)
	eventually(t, "the renewal is verified", func() bool { return r.verified("/cb") == 2 })
	eventually(t, "the new secret signs", func() bool {
		c.say("two")
		got := r.at("/cb")
		return len(got) > 0 && strings.Contains(got[len(got)-1].header.Get("webhook-signature"), " ")
	})
	check("two", before, after)
	owner := 0
	if _, err := fmt.Sscanf(c.listed(0)["/cb"].Node, "node-%d", &owner); err != nil {
		t.Fatal(err)
	}
	c.kill(owner - 1)
	alive := owner % 3
	eventually(t, "a publish is accepted", func() bool { status, _ := c.post(alive, "/topics/t", "three"); return status == http.StatusOK })
	check("three", before, after)
}
