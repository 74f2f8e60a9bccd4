package hub_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const upgradeTopics = 50

// upgrade is a cluster of level 1 with many subscriptions, before and after every member knows owners.
type upgrade struct {
	testing.TB
	state *hub.State
	now   time.Time
	seq   uint64
	was   []hub.Subscription // in order of ID
}

func (u *upgrade) apply(events ...*hubpb.Event) (*hub.Effects, []hub.Result) {
	u.Helper()
	u.seq++
	fx := new(hub.Effects)
	res, err := u.state.Apply(entry(u, u.now, "node-1/a", u.seq, events...), fx)
	if err != nil {
		u.Fatal(err)
	}
	return fx, res[0].Proposals[0]
}

func upgradeTopic(i int) string { return fmt.Sprint("topic-", i%upgradeTopics) }

// ask returns the request for subscription i; every tenth is in a consumer group.
func (u *upgrade) ask(i int) *hubpb.Event {
	e := requested(hub.ModeSubscribe, upgradeTopic(i), fmt.Sprintf("https://subscriber-%d.example/cb", i), 30*24*hr, fmt.Sprint("secret", i))
	if i%10 == 0 {
		e.GetSubscriptionRequested().Options = &hubpb.SubscriptionOptions{Group: fmt.Sprint("group-", i%1000)}
	}
	return e
}

// fill makes subscriptions and messages as level 1 does.
func (u *upgrade) fill(count int) {
	const each = 1000
	u.apply(levelSet(1))
	for at := 0; at < count; at += each {
		var requests, confirmations []*hubpb.Event
		for i := range each {
			requests = append(requests, u.ask(at+i))
		}
		_, res := u.apply(requests...)
		for _, r := range res {
			e := verifiedFrom(r.ID, u.now, 0)
			e.GetRequestVerified().Candidates = []*hubpb.Candidate{{Node: "node-1"}, {Node: "node-2"}, {Node: "node-3"}}
			confirmations = append(confirmations, e)
		}
		u.apply(confirmations...)
	}
	for i := range upgradeTopics {
		u.apply(published(upgradeTopic(i), "before"), publishedOnce(upgradeTopic(i), "once", "key"))
	}
	u.apply(paused(3, true), advanced(2, 1, func(c *hubpb.Cursor) { c.Epoch = 1 }))
	u.was = u.state.Subscriptions(0, 0, nil)
}

// unchanged checks that all subscriptions but those given are as they were.
func (u *upgrade) unchanged(what string, but map[hub.SubscriptionID]bool) {
	u.Helper()
	now := u.state.Subscriptions(0, 0, nil)
	for i := range u.was {
		if !but[u.was[i].ID] && !reflect.DeepEqual(now[i], u.was[i]) {
			u.Fatalf("%s: %+v was %+v", what, now[i], u.was[i])
		}
	}
}

// A running cluster with 100,000 subscriptions learns of owners: nothing changes for its subscribers. They keep their
// IDs, nodes, epochs, cursors and leases, no callback is asked or told anything, and each subscriber becomes the owner of
// its subscription as it renews.
func TestUpgradeChangesNothingForSubscribers(t *testing.T) {
	count := 100_000
	if testing.Short() {
		count = 5000
	}
	u := &upgrade{TB: t, state: hub.NewState(), now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	u.fill(count)
	pending, _ := u.apply(requested(hub.ModeSubscribe, upgradeTopic(1), cb, hr, ""))

	// A node with the new program starts with these rows, and later every member knows owners.
	before := rows(t, u.state)
	u.state = reloaded(t, u.state)
	if !bytes.Equal(before, rows(t, u.state)) || len(u.was) != count {
		t.Fatal("the new program stores the old state otherwise")
	}
	if fx, _ := u.apply(levelSet(hub.FeatureLevel)); !reflect.DeepEqual(*fx, hub.Effects{}) {
		t.Errorf("effects %+v", fx)
	}
	u.unchanged("the level rises", nil)
	u.state = reloaded(t, u.state)
	u.unchanged("a restart", nil)

	// What was under way goes on.
	if _, res := u.apply(verifiedFrom(uint64(pending.Requests[0].ID), u.now, 0)); res[0].Outcome != hub.OutcomeOK {
		t.Errorf("a request from before: %+v", res[0])
	}
	if _, res := u.apply(by(alice, publishedOnce(upgradeTopic(0), "once", "key"))); res[0].Outcome != hub.OutcomeDuplicate {
		t.Errorf("a publication from before, repeated: %+v", res[0])
	}
	if fx, res := u.apply(by(alice, published(upgradeTopic(0), "after"))); res[0].Outcome != hub.OutcomeOK || len(fx.Messages) != 1 || u.state.Usage(alice).Topics != 0 {
		t.Errorf("a publication: %+v", res[0])
	}
	u.unchanged("work goes on", nil)
	u.renew(300)
}

// renew renews the first subscriptions, some as principals and some as before: both keep everything but the owner.
func (u *upgrade) renew(count int) {
	renewed := map[hub.SubscriptionID]bool{}
	for i := range count {
		e, owner := u.ask(i), ""
		if i%3 > 0 {
			owner = fmt.Sprint("issuer:idp/", i)
			e = by(owner, e)
		}
		_, res := u.apply(e)
		was := u.was[i]
		if _, res = u.apply(verifiedFrom(res[0].ID, u.now, 0)); res[0].ID != uint64(was.ID) {
			u.Fatalf("renewal of %s: %+v", was.ID, res[0])
		}
		renewed[was.ID] = true
		got, _ := u.state.Subscription(was.ID)
		if got.Owner != owner || got.Assignment != was.Assignment || !reflect.DeepEqual(got.Cursor, was.Cursor) || got.Paused != was.Paused {
			u.Errorf("%s was renewed to %+v, was %+v", was.ID, got, was)
		}
	}
	u.unchanged("others renew", renewed)
}
