package web_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

var (
	tailOf  = regexp.MustCompile(`<tbody id="tail-rows" data-tail="([^"]+)"( data-more)?`)
	eventID = regexp.MustCompile(`<summary>(\d+-\d+)</summary>`)
	olderOf = regexp.MustCompile(`<a rel="next" href="([^"]+)">Older`)
)

// eventful is a hub with hub.events, and a subscription of alice's and of bob's.
func eventful(t *testing.T) *owned {
	t.Helper()
	o := newOwned(t, "")
	o.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: hub.EventsTopic}}})
	o.ask(t, o.alice, "subscribe", "https://alice.example/cb")
	o.ledger.verify(t)
	o.ask(t, o.bob, "subscribe", "https://bob.example/cb")
	o.ledger.verify(t)
	return o
}

// happen lets a number of events happen to alice's subscription.
func (o *owned) happen(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		act := []string{"pause", "resume"}[i%2]
		if status, body, _ := o.act("/console/subscriptions/s-1/"+act, nil, "X-API-Key", o.root); status != http.StatusSeeOther {
			t.Fatalf("%s: %d %s", act, status, text(body))
		}
	}
}

func eventIDs(page string) (ids []string) {
	for _, m := range eventID.FindAllStringSubmatch(page, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

func TestConsoleShowsEventsToTheirOwners(t *testing.T) {
	o := eventful(t)
	as := func(k string) []string { return []string{"X-API-Key", k} }
	o.ask(t, o.bob, "subscribe", "https://alice.example/cb")
	o.happen(t, 1)
	shows(t, o.page(t, "/events", as(o.root)...), "alice.example", "bob.example", "subscription.paused", "It is only in each node's own log")
	page := o.page(t, "/events", as(o.alice)...)
	shows(t, page, "alice.example", "not_owner", "-bob.example")
	if strings.Contains(page, principalOf(o.bob)) {
		t.Error("alice learns who tried")
	}
	for _, path := range []string{"/events", "/events?rows=1&after=0"} {
		shows(t, o.page(t, path, as(o.bob)...), "bob.example", "-alice.example")
		if page := o.page(t, path, as(o.key(t, "stranger", "none"))...); len(eventIDs(page)) != 0 {
			t.Errorf("a stranger on %s: %s", path, text(page))
		}
		if status, body, _ := o.browse("/console" + path); status != http.StatusUnauthorized || !strings.Contains(body, "You are not logged in") {
			t.Errorf("%s without credentials: %d", path, status)
		}
	}
	shows(t, o.page(t, "/events?type=subscription.paused", as(o.root)...), "subscription.paused", "-bob.example")
	shows(t, o.page(t, "/events?subscription=s-2", as(o.root)...), "bob.example", "-alice.example")
	shows(t, o.page(t, "/events?topic=news", as(o.root)...), "No event matches.")
	for _, wrong := range []string{"?before=x", "?after=1-1", "?rows=1", "?rows=1&after=99-1", "?rows=1&after=x", "?x=1"} {
		if status, body, _ := o.browse("/console/events"+wrong, as(o.root)...); status != http.StatusBadRequest || !strings.Contains(body, "That cannot be done as it was asked") {
			t.Errorf("%s: %d", wrong, status)
		}
	}
	shows(t, newFixture(t).page(t, "/events"), "Nothing is recorded yet", "quorumhub topics register hub.events")
}

// A reader who stops following and goes on gets all that has happened meanwhile, each once, however much it is; so does one who goes
// back through older pages.
func TestFollowingEventsLosesNone(t *testing.T) {
	o := eventful(t)
	for name, filter := range map[string]string{"all": "", "filtered": "&subscription=s-1"} {
		page := o.page(t, "/events?"+filter, "X-API-Key", o.root)
		have := eventIDs(page)
		cursor := tailOf.FindStringSubmatch(page)[1]
		o.happen(t, 500)
		turns := 0
		for more := true; more; turns++ {
			page = o.page(t, "/events?rows=1&after="+url.QueryEscape(cursor)+filter, "X-API-Key", o.root)
			m := tailOf.FindStringSubmatch(page)
			if m == nil || strings.Contains(page, "<html") {
				t.Fatalf("not rows: %s", page)
			}
			cursor, more = m[1], m[2] != ""
			have = append(eventIDs(page), have...)
		}
		if turns < 3 {
			t.Errorf("%s: %d turns bring 500 events", name, turns)
		}
		var back []string
		for path := "/events?" + filter; path != ""; {
			page := o.page(t, path, "X-API-Key", o.root)
			back = append(back, eventIDs(page)...)
			path = ""
			if m := olderOf.FindStringSubmatch(page); m != nil {
				path = "/events" + html.UnescapeString(m[1])
			}
		}
		if len(have) < 501 || len(back) < len(have) || !slices.Equal(have, back[:len(have)]) {
			t.Errorf("%s: followed %d events, went back through %d", name, len(have), len(back))
		}
		if page := o.page(t, "/events?rows=1&after="+cursor+filter, "X-API-Key", o.root); len(eventIDs(page)) != 0 {
			t.Errorf("%s: some come again", name)
		}
	}
}

func TestConsoleTriesStreams(t *testing.T) {
	o := newOwned(t, "")
	page := o.page(t, "/streams?topic="+url.QueryEscape(`a"><script>`), "X-API-Key", o.bob)
	if !strings.Contains(page, `data-base="/topics/"`) || !strings.Contains(page, `value="a&#34;&gt;&lt;script&gt;"`) {
		t.Errorf("got %s", page)
	}
	shows(t, page, "This page needs its script.", "-alice")
	if status, body, _ := o.browse("/console/streams"); status != http.StatusUnauthorized || !strings.Contains(body, "You are not logged in") {
		t.Errorf("without credentials: %d", status)
	}
	if page := newFixtureAt(t, "https://hub.example.net/ws").send("GET", "/ws/console/streams", "").Body.String(); !strings.Contains(page, `data-base="/ws/topics/"`) {
		t.Error(fmt.Sprint("below a path: ", page))
	}
}
