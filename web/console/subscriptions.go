package console

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// Values of the filters of subscriptions.
const (
	subActive, subPaused, subExpired         = "active", "paused", "expired"
	subFailing, subBehind, subWell, subAside = "failing", "behind", "well", "aside"
)

// state returns the state of a subscription as the filter names it.
func (r *subscriptionRow) state() string {
	switch {
	case r.Expired:
		return subExpired
	case r.Paused:
		return subPaused
	}
	return subActive
}

// health returns how the deliveries of a subscription are doing. Those to which nothing is delivered are set aside.
func (r *subscriptionRow) health() string {
	switch {
	case r.Expired, r.Paused:
		return subAside
	case r.Failures > 0:
		return subFailing
	case r.Lag > 0:
		return subBehind
	}
	return subWell
}

// Badge says how the subscription is doing.
func (r *subscriptionRow) Badge() badge {
	switch {
	case r.Expired:
		return badge{stateIdle, "expired"}
	case r.Paused:
		return badge{stateIdle, "paused"}
	case r.Failures > 0:
		return badge{stateBad, "failing"}
	case r.Lag > 0:
		return badge{stateInfo, "behind"}
	}
	return badge{stateGood, "well"}
}

// Since returns since when it fails.
func (r *subscriptionRow) Since() time.Time {
	if r.FailingSince == 0 {
		return time.Time{}
	}
	return time.Unix(0, r.FailingSince)
}

func subscriptionSorts() map[string]func(a, b *subscriptionRow) int {
	byID := func(a, b *subscriptionRow) int { return cmp.Compare(a.ID, b.ID) }
	by := func(f func(a, b *subscriptionRow) int) func(a, b *subscriptionRow) int {
		return func(a, b *subscriptionRow) int {
			if n := f(a, b); n != 0 {
				return n
			}
			return byID(a, b)
		}
	}
	return map[string]func(a, b *subscriptionRow) int{
		"id":       byID,
		"topic":    by(func(a, b *subscriptionRow) int { return strings.Compare(a.Topic, b.Topic) }),
		"callback": by(func(a, b *subscriptionRow) int { return strings.Compare(a.Callback, b.Callback) }),
		"lag":      by(func(a, b *subscriptionRow) int { return cmp.Compare(a.Lag, b.Lag) }),
		"failures": by(func(a, b *subscriptionRow) int { return cmp.Compare(a.Failures, b.Failures) }),
		"letters":  by(func(a, b *subscriptionRow) int { return cmp.Compare(a.Letters, b.Letters) }),
		"lease":    by(func(a, b *subscriptionRow) int { return cmp.Compare(a.leaseEnds, b.leaseEnds) }),
	}
}

// ordered returns the order that a list asks for; nil: its own.
func ordered[T any](l *listing, by map[string]func(a, b *T) int) func(a, b *T) int {
	compare := by[l.Sort]
	if compare == nil || !l.Desc {
		return compare
	}
	return func(a, b *T) int { return compare(b, a) }
}

// deep refuses pages that lie too far into a list.
func (l *listing) deep() error {
	if l.Page*perPage > maxDepth {
		return hub.ParamErrorf("page", "is %d; a list leads to its first %s rows: filter it, or take all as CSV", l.Page, count(maxDepth))
	}
	return nil
}

// subscriptionFilter returns what the list's filters select, of what the viewer may see.
func (c *Console) subscriptionFilter(l *listing, v Viewer) (func(*subscriptionRow) bool, error) {
	topic := l.Filter("topic")
	if topic != "" {
		name, err := c.Ports.TopicName("topic", topic)
		if err != nil {
			return nil, err
		}
		topic = name
	}
	for name, known := range map[string]string{"state": "active paused expired", "health": "failing behind well aside"} {
		if f := l.Filter(name); f != "" && !strings.Contains(" "+known+" ", " "+f+" ") {
			return nil, hub.ParamErrorf(name, "is %s; expected one of %s", problem.Quote(f), known)
		}
	}
	callback, owner, node, state, health := strings.ToLower(l.Filter("callback")), l.Filter("owner"), l.Filter("node"), l.Filter("state"), l.Filter("health")
	return func(r *subscriptionRow) bool {
		return (v.Operator || r.Owner == v.ID && v.ID != "") && (topic == "" || r.Topic == topic) && (owner == "" || r.Owner == owner) && (node == "" || r.Node == node) &&
			(state == "" || r.state() == state) && (health == "" || r.health() == health) &&
			(callback == "" || strings.Contains(strings.ToLower(r.Callback), callback))
	}, nil
}

// Subscriptions lists the subscriptions.
func (c *Console) Subscriptions(w http.ResponseWriter, r *http.Request) {
	sorts := subscriptionSorts()
	l, err := parseListing(r, []string{"id", "topic", "callback", "lag", "failures", "letters", "lease"}, "topic", "callback", "owner", "state", "node", "health")
	if err == nil {
		err = l.deep()
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if l.CSV {
		c.subscriptionsCSV(w, r, l)
		return
	}
	c.show(w, r, sheet{template: "subscriptions", section: "subscriptions", fragments: []string{"subscriptions-list"}, build: func(ctx context.Context) (*content, error) {
		match, err := c.subscriptionFilter(l, c.viewer(ctx))
		if err != nil {
			return nil, err
		}
		var data struct {
			List  *listing
			Rows  []*subscriptionRow
			Pager pager
			Any   bool
			Curl  string
		}
		rows := c.subscriptionRows()
		from := (l.Page - 1) * perPage
		var total int
		order := ordered(l, sorts)
		if order == nil {
			order = sorts["id"]
		}
		data.Rows, total = pick(rows, match, order, from, from+perPage)
		data.List, data.Pager, data.Any = l, l.pagerOf(len(data.Rows), total), total > 0 || l.Filtered()
		data.Curl = "curl " + c.publicURL() + "/hub -d hub.mode=subscribe -d hub.topic=" + c.Service.Namer().URL("news") + " -d hub.callback=https://example.org/callback"
		return &content{Title: "Subscriptions", Lead: "Who gets the messages of which topic, and how that is going.", Data: data}, nil
	}})
}

func (c *Console) subscriptionsCSV(w http.ResponseWriter, r *http.Request, l *listing) {
	match, err := c.subscriptionFilter(l, c.viewer(r.Context()))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	rows := c.subscriptionRows()
	found, _ := pick(rows, match, ordered(l, subscriptionSorts()), 0, len(rows))
	next := csvRows(found, func(s *subscriptionRow) []string {
		return []string{s.ID.String(), s.Topic, s.Callback, s.Owner, s.state(), s.health(), s.Node, strconv.FormatUint(s.Lag, 10), strconv.FormatUint(s.Failures, 10),
			csvTime(s.Since()), strconv.FormatUint(s.Letters, 10), csvTime(s.LeaseEnds())}
	}, "id", "topic", "callback", "owner", "state", "health", "node", "lag", "failures", "failing_since", "dead_letters", "lease_ends_at")
	writeCSV(w, "subscriptions", next)
}

// publicURL returns the hub's base URL.
func (c *Console) publicURL() string {
	return strings.TrimSuffix(c.Service.Namer().URL(""), "/topics/")
}

// csvRows returns rows one by one, after the names of the columns.
func csvRows[T any](rows []*T, cells func(*T) []string, head ...string) func() ([]string, bool) {
	i := -1
	return func() ([]string, bool) {
		i++
		switch {
		case i == 0:
			return head, true
		case i > len(rows):
			return nil, false
		}
		return cells(rows[i-1]), true
	}
}

func csvTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
