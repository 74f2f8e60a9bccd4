package console

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// topicPath returns the path of a topic's page. The name of a foreign topic is a URL, whose slashes proxies might join.
func (c *Console) topicPath(name string) string {
	if strings.Contains(name, "//") {
		return "/topics/" + url.PathEscape(name)
	}
	return "/topics/" + escapePath(name)
}

// Badge says how the topic is doing.
func (t *topicRow) Badge() badge { return lifecycleBadge(t.Lifecycle) }

func lifecycleBadge(l *hub.TopicLifecycle) badge {
	switch {
	case l.Retired():
		return badge{stateIdle, "retired"}
	case l != nil:
		return badge{stateWarn, "deprecated"}
	}
	return badge{stateGood, "active"}
}

func topicSorts() map[string]func(a, b *topicRow) int {
	by := func(f func(a, b *topicRow) int) func(a, b *topicRow) int {
		return func(a, b *topicRow) int {
			if n := f(a, b); n != 0 {
				return n
			}
			return strings.Compare(a.Name, b.Name)
		}
	}
	return map[string]func(a, b *topicRow) int{
		"name":          by(func(*topicRow, *topicRow) int { return 0 }),
		"rate":          by(func(a, b *topicRow) int { return cmp.Compare(a.Rate, b.Rate) }),
		"kept":          by(func(a, b *topicRow) int { return cmp.Compare(a.Kept(), b.Kept()) }),
		"stored":        by(func(a, b *topicRow) int { return cmp.Compare(a.Stored, b.Stored) }),
		"subscriptions": by(func(a, b *topicRow) int { return cmp.Compare(a.Subscriptions, b.Subscriptions) }),
		"head":          by(func(a, b *topicRow) int { return cmp.Compare(a.Head, b.Head) }),
		"published":     by(func(a, b *topicRow) int { return a.PublishedAt.Compare(b.PublishedAt) }),
	}
}

// topicFilter returns what the list's filters select, of what the viewer may see.
func topicFilter(l *listing, v Viewer) (func(*topicRow) bool, error) {
	status := l.Filter("status")
	if status != "" && status != "active" && status != "deprecated" && status != "retired" {
		return nil, hub.ParamErrorf("status", "is %s; expected active, deprecated or retired", problem.Quote(status))
	}
	name, owner := strings.ToLower(l.Filter("name")), l.Filter("owner")
	return func(t *topicRow) bool {
		return (v.Operator || t.belongs(v.ID)) && (owner == "" || t.Owner == owner) && (status == "" || t.Badge().Text == status) &&
			(name == "" || strings.Contains(strings.ToLower(t.Name), name))
	}, nil
}

// Topics lists the topics.
func (c *Console) Topics(w http.ResponseWriter, r *http.Request) {
	sorts := topicSorts()
	l, err := parseListing(r, []string{"name", "rate", "kept", "stored", "subscriptions", "head", "published"}, "name", "owner", "status")
	if err == nil {
		err = l.deep()
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if l.CSV {
		c.topicsCSV(w, r, l)
		return
	}
	c.show(w, r, sheet{template: "topics", section: "topics", fragments: []string{"topics-list"}, build: func(ctx context.Context) (*content, error) {
		match, err := topicFilter(l, c.viewer(ctx))
		if err != nil {
			return nil, err
		}
		var data struct {
			List      *listing
			Rows      []*topicRow
			Pager     pager
			Any       bool
			Curl      string
			Registers bool
		}
		order := ordered(l, sorts)
		if order == nil {
			order = sorts["name"]
		}
		from := (l.Page - 1) * perPage
		var total int
		data.Rows, total = pick(c.topicRows(), match, order, from, from+perPage)
		for i, row := range data.Rows {
			filled := *row // the rows are shared
			c.fillRate(&filled)
			data.Rows[i] = &filled
		}
		data.List, data.Pager, data.Any = l, l.pagerOf(len(data.Rows), total), total > 0 || l.Filtered()
		data.Curl = "curl " + c.Service.Namer().URL("news") + " -H 'Content-Type: text/plain' -d 'hello'"
		return &content{Title: "Topics", Lead: "What is published here, how much of it, and to how many.", Data: data}, nil
	}})
}

// fillRate tells how fast a topic grew in the last minute, if it has not been looked at for long enough to know more.
func (c *Console) fillRate(t *topicRow) {
	if t.Rate >= 0 {
		return
	}
	if next, err := c.Ports.OffsetAt(t.ID, c.now().Add(-time.Minute)); err == nil {
		t.Rate = float64(t.Head+1-min(next, t.Head+1)) / time.Minute.Seconds()
	}
}

func (c *Console) topicsCSV(w http.ResponseWriter, r *http.Request, l *listing) {
	match, err := topicFilter(l, c.viewer(r.Context()))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	rows := c.topicRows()
	found, _ := pick(rows, match, ordered(l, topicSorts()), 0, len(rows))
	writeCSV(w, "topics", csvRows(found, func(t *topicRow) []string {
		rate := ""
		if t.Rate >= 0 {
			rate = strconv.FormatFloat(t.Rate, 'f', 2, 64)
		}
		return []string{t.Name, t.Badge().Text, t.Owner, strconv.Itoa(t.Subscriptions), strconv.FormatUint(t.First, 10), strconv.FormatUint(t.Head, 10),
			strconv.FormatUint(t.Kept(), 10), strconv.FormatUint(t.Stored, 10), rate, csvTime(t.PublishedAt)}
	}, "name", "status", "owner", "subscriptions", "first_offset", "head_offset", "kept", "stored_bytes", "rate", "published_at"))
}

// RegisterTopic registers a topic.
func (c *Console) RegisterTopic(w http.ResponseWriter, r *http.Request) {
	if !c.readForm(w, r) {
		return
	}
	name, err := c.Ports.TopicName("topic", strings.TrimSpace(r.PostForm.Get("topic")))
	if err == nil {
		auth.Note(r.Context(), "topic", name)
		err = c.Service.Register(r.Context(), name)
	}
	c.finish(w, r, err, c.topicPath(name), name+" is registered.")
}
