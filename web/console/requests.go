package console

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// requestRow is a subscribe or unsubscribe request in a list.
type requestRow struct {
	ID          hub.RequestID
	Mode        string
	Topic       string
	Callback    string
	Owner       string
	Pending     bool
	Reason      string
	Status      int
	Attempts    uint32
	RequestedAt time.Time
	SettledAt   time.Time
	Repeatable  bool
}

// Badge says how the request stands.
func (r *requestRow) Badge() badge {
	if r.Pending {
		return badge{stateInfo, "pending"}
	}
	return badge{stateBad, "failed"}
}

// Words says why it failed.
func (r *requestRow) Words() string { return reasonWords(r.Reason, r.Status) }

// Remedy says what may help.
func (r *requestRow) Remedy() string { return remedy(r.Reason, r.Status) }

// requestRows returns the requests that a list's filters select, the latest first.
func (c *Console) requestRows(l *listing, v Viewer) (rows []requestRow, err error) {
	f := hub.RequestFilter{Owner: v.ID, All: v.Operator}
	if topic := l.Filter("topic"); topic != "" {
		if f.Topic, err = c.Ports.TopicName("topic", topic); err != nil {
			return nil, err
		}
	}
	state, callback := l.Filter("state"), strings.ToLower(l.Filter("callback"))
	if state != "" && state != "pending" && state != "failed" {
		return nil, hub.ParamErrorf("state", "is %s; expected pending or failed", problem.Quote(state))
	}
	if !v.Operator && v.ID == "" {
		return nil, nil
	}
	if state != "failed" {
		var pending []hub.Request
		c.State.View(func(st *hub.State) { pending = st.PendingRequests(f, 0, maxRequests) })
		for i := range pending {
			r := &pending[i]
			rows = append(rows, requestRow{ID: r.ID, Mode: r.ModeName(), Topic: r.TopicName, Callback: r.Callback, Owner: r.Owner, Pending: true, RequestedAt: r.RequestedAt, Repeatable: true})
		}
	}
	if state != "pending" {
		var failed []hub.FailedRequest
		c.State.View(func(st *hub.State) { failed = st.FailedRequests(f, 0, maxRequests) })
		for i := range failed {
			r := &failed[i]
			rows = append(rows, requestRow{ID: r.ID, Mode: r.ModeName(), Topic: r.TopicName, Callback: r.Callback, Owner: r.Owner, Reason: r.Reason, Status: int(r.Status),
				Attempts: r.Attempts, RequestedAt: r.RequestedAt, SettledAt: r.SettledAt, Repeatable: r.Repeatable()})
		}
	}
	if callback != "" {
		rows = slices.DeleteFunc(rows, func(r requestRow) bool { return !strings.Contains(strings.ToLower(r.Callback), callback) })
	}
	return rows, nil
}

// maxRequests bounds the requests of either kind that a list looks at, the latest ones.
const maxRequests = 2000

func requestSorts() map[string]func(a, b *requestRow) int {
	byID := func(a, b *requestRow) int { return cmp.Compare(a.ID, b.ID) }
	text := func(f func(*requestRow) string) func(a, b *requestRow) int {
		return func(a, b *requestRow) int { return cmp.Or(strings.Compare(f(a), f(b)), byID(a, b)) }
	}
	return map[string]func(a, b *requestRow) int{
		"id":       byID,
		"topic":    text(func(r *requestRow) string { return r.Topic }),
		"callback": text(func(r *requestRow) string { return r.Callback }),
		"reason":   text(func(r *requestRow) string { return r.Reason }),
	}
}

// Requests lists the pending and failed verifications.
func (c *Console) Requests(w http.ResponseWriter, r *http.Request) {
	l, err := parseListing(r, []string{"id", "topic", "callback", "reason"}, "topic", "callback", "state")
	if err == nil {
		err = l.deep()
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	order := ordered(l, requestSorts())
	if order == nil {
		order = func(a, b *requestRow) int { return cmp.Compare(b.ID, a.ID) }
	}
	all := func(*requestRow) bool { return true }
	if l.CSV {
		rows, err := c.requestRows(l, c.viewer(r.Context()))
		if err != nil {
			c.fail(w, r, err)
			return
		}
		found, _ := pick(rows, all, order, 0, len(rows))
		writeCSV(w, "requests", csvRows(found, func(q *requestRow) []string {
			return []string{q.ID.String(), q.Mode, q.Topic, q.Callback, q.Owner, q.Badge().Text, q.Reason, strconv.Itoa(q.Status), strconv.Itoa(int(q.Attempts)), csvTime(q.RequestedAt), csvTime(q.SettledAt)}
		}, "id", "mode", "topic", "callback", "owner", "state", "reason", "status", "attempts", "requested_at", "settled_at"))
		return
	}
	c.show(w, r, sheet{template: "requests", section: "requests", fragments: []string{"requests-list"}, build: func(ctx context.Context) (*content, error) {
		rows, err := c.requestRows(l, c.viewer(ctx))
		if err != nil {
			return nil, err
		}
		var data struct {
			List  *listing
			Rows  []*requestRow
			Pager pager
			Any   bool
			Curl  string
		}
		from := (l.Page - 1) * perPage
		var total int
		data.Rows, total = pick(rows, all, order, from, from+perPage)
		data.List, data.Pager, data.Any = l, l.pagerOf(len(data.Rows), total), total > 0 || l.Filtered()
		data.Curl = "curl " + c.publicURL() + "/hub -d hub.mode=subscribe -d hub.topic=" + c.Service.Namer().URL("news") + " -d hub.callback=https://example.org/callback"
		return &content{Title: "Requests", Lead: "Subscribe and unsubscribe requests whose callback has yet to confirm, and those of the last hour that came to nothing.", Data: data}, nil
	}})
}

// AskAgain makes a request once more.
func (c *Console) AskAgain(w http.ResponseWriter, r *http.Request) {
	if !c.readForm(w, r) {
		return
	}
	id := idInPath(r, "/requests/")
	n, err := strconv.ParseUint(strings.TrimPrefix(id, "r-"), 10, 64)
	if err != nil || !strings.HasPrefix(id, "r-") {
		c.fail(w, r, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "id", Detail: problem.Quote(id) + " is not a request of this hub"})
		return
	}
	again, err := c.Service.AskAgain(r.Context(), hub.RequestID(n))
	c.finish(w, r, err, "/requests", id+" is asked again, as "+again.String()+". Once its callback confirms, it is no longer in this list.")
}
