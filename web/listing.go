package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// listQuery holds the parameters of all lists: limit, cursor and filters.
type listQuery struct {
	limit       int
	kind        byte   // letter of the cursor's ID; 0: from the start
	after       uint64 // number of the cursor's ID
	topic       string // name; empty: all
	callbackKey string // empty: all
	owner       string // whose; only without all
	all         bool   // everybody's
}

// page is the response of every list. Next is the cursor of the next page, empty on the last one.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

// parseList parses the query of a list. kinds are the letters a cursor may begin with; params are further parameters of the list.
func (s *Server) parseList(r *http.Request, kinds string, params ...string) (listQuery, url.Values, error) {
	q := listQuery{limit: defaultLimit}
	values, err := parseURLQuery(r.URL.RawQuery)
	if err != nil {
		return q, nil, err
	}
	if err := onlyParams(values, append([]string{"limit", "cursor"}, params...)...); err != nil {
		return q, nil, err
	}
	if q.limit, err = limitOf(values); err != nil {
		return q, nil, err
	}
	if v := values.Get("cursor"); v != "" {
		var ok bool
		if q.kind, q.after, ok = parseID(v); !ok || !strings.ContainsRune(kinds, rune(q.kind)) {
			return q, nil, hub.ParamErrorf("cursor", "is %s; expected the next of an earlier page", problem.Quote(v))
		}
	}
	if v := values.Get("topic"); v != "" {
		if q.topic, err = s.Service.Namer().HostedName("topic", v); err != nil {
			return q, nil, err
		}
	}
	if v := values.Get("callback"); v != "" {
		if _, err := hub.ParseURL("callback", v); err != nil {
			return q, nil, err
		}
		q.callbackKey = hub.NormalizeURL(v)
	}
	return q, values, nil
}

// onlyParams refuses parameters that a list does not know, or that are repeated.
func onlyParams(values url.Values, known ...string) error {
	for name, v := range values {
		switch {
		case !slices.Contains(known, name):
			return hub.ParamErrorf(problem.Quote(name), "is not a parameter of this list; expected %s", strings.Join(known, ", "))
		case len(v) > 1:
			return hub.ParamErrorf(name, "is given %d times; expected once", len(v))
		}
	}
	return nil
}

// limitOf returns the number of items on a page.
func limitOf(values url.Values) (int, error) {
	v := values.Get("limit")
	if v == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxLimit {
		return 0, hub.ParamErrorf("limit", "is %s; expected a number from 1 to %d", problem.Quote(v), maxLimit)
	}
	return n, nil
}

// parseURLQuery decodes a query. Its error is for the client.
func parseURLQuery(raw string) (url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, hub.ParamErrorf("query", "is malformed (%v)", err)
	}
	return values, nil
}

// parseID parses a public ID such as "s-17".
func parseID(id string) (kind byte, n uint64, ok bool) {
	if len(id) < 3 || id[1] != '-' || id[2] == '0' || id[2] == '+' {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(id[2:], 10, 64)
	return id[0], n, err == nil
}

// moment converts a time for JSON: RFC 3339 in UTC, or null for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

type topicItem struct {
	Name          string `json:"name"`
	HeadOffset    uint64 `json:"head_offset"`
	FirstOffset   uint64 `json:"first_offset"`
	Subscriptions int    `json:"subscriptions"`
	// Retention is set if the topic has limits of its own.
	Retention *retentionItem `json:"retention,omitempty"`
	// Lifecycle is set if the topic is deprecated or retired.
	Lifecycle *lifecycleItem `json:"lifecycle,omitempty"`
	Owner     string         `json:"owner,omitempty"`
	// Content is reference if subscriptions get references in place of content; Share is set if they may.
	Content string     `json:"content,omitempty"`
	Share   *shareItem `json:"share,omitempty"`
	// RequireEncryption: subscriptions must name a key to encrypt to.
	RequireEncryption bool `json:"require_encryption,omitempty"`
	// StoredBytes counts what is stored in the topic of an owner, as for its quota.
	StoredBytes uint64 `json:"stored_bytes,omitempty"`
}

// listTopics lists all topics to operators, and to other principals their own.
func (s *Server) listTopics(w http.ResponseWriter, r *http.Request) {
	q, _, err := s.parseList(r, "t", "topic")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var topics []hub.Topic
	owner, all := s.onlyOwner(r.Context())
	s.State.View(func(st *hub.State) {
		if q.topic == "" && all {
			topics = st.Topics(hub.TopicID(q.after), q.limit+1)
		} else if q.topic == "" {
			topics = st.TopicsOf(owner, hub.TopicID(q.after), q.limit+1)
		} else if t, ok := st.TopicByName(q.topic); ok && uint64(t.ID) > q.after && (all || t.Belongs(owner)) {
			topics = []hub.Topic{t}
		}
	})
	out := page[topicItem]{Items: []topicItem{}}
	if len(topics) > q.limit {
		topics = topics[:q.limit]
		out.Next = "t-" + strconv.FormatUint(uint64(topics[q.limit-1].ID), 10)
	}
	for i := range topics {
		t := &topics[i]
		out.Items = append(out.Items, topicItemOf(t))
	}
	writeJSON(w, http.StatusOK, out)
}
