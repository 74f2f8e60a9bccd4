package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// letterFilters are the filters of dead letters, as at the API.
func letterFilters() []string {
	return []string{"topic", "callback", "subscription", "status", "reason", "since", "until"}
}

// letterRow is a dead letter in a list.
type letterRow struct {
	hub.DeadLetter
	Words string
}

// Name returns the ID as it is shown.
func (l *letterRow) Name() string { return hub.DeadLetterID(l.ID) }

func rowOfLetter(d *hub.DeadLetter) letterRow {
	return letterRow{*d, reasonWords(d.Reason, int(d.Status))}
}

// letterKey is what a list sorts dead letters by.
type letterKey struct{ id, by uint64 }

// lettersView is what the list of dead letters shows.
type lettersView struct {
	List  *listing
	Rows  []letterRow
	Pager pager
	Any   bool
	// Of all that match: those that wait for a replay, since when, and those whose subscription has ended.
	Waiting int
	Since   time.Time
	Ended   int
	Bytes   uint64
	Total   int
	// Of is how many were to be replayed, if the page came from that; and Again how many of these have failed again.
	Of, Gone int
	Acts     bool
	Export   string
	Filters  []field
}

type field struct{ Name, Value string }

// letterQuery is what the filters of a list select: see LetterFilter of the server.
func (c *Console) letterQuery(l *listing) (hub.DeadLetterFilter, error) {
	return c.Ports.LetterFilter(func(name string) string { return c.filterTime(name, l.Filter(name)) })
}

// filterTime turns what people write into a form into what the API takes.
func (c *Console) filterTime(name, value string) string {
	if name != "since" && name != "until" || value == "" {
		return value
	}
	if at, err := momentOf(name, value, c.now()); err == nil {
		return at.UTC().Format(time.RFC3339)
	}
	return value
}

// Letters lists the dead letters.
func (c *Console) Letters(w http.ResponseWriter, r *http.Request) {
	l, err := parseListing(r, []string{"id", "attempts", "size"}, append(letterFilters(), "of")...)
	var f hub.DeadLetterFilter
	if err == nil {
		f, err = c.letterQuery(l)
	}
	if err == nil {
		err = l.deep()
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if l.CSV {
		c.lettersCSV(w, r, l, &f)
		return
	}
	c.show(w, r, sheet{template: "letters", section: "letters", fragments: []string{"letters-progress", "letters-list"}, build: func(ctx context.Context) (*content, error) {
		v := c.findLetters(l, &f, c.viewer(ctx))
		v.Acts = c.Ports.May(ctx, auth.ActionDeadLetters)
		return &content{Title: "Dead letters", Lead: "Messages that the hub gave up delivering, each to one subscription. A replay sends them once more.", Data: v}, nil
	}})
}

// mineOf returns whether the viewer sees a dead letter.
func mineOf(v Viewer) func(*hub.DeadLetter) bool {
	return func(d *hub.DeadLetter) bool { return v.Operator || d.Owner == v.ID && v.ID != "" }
}

// findLetters reads the page of a list, and figures about all that match.
func (c *Console) findLetters(l *listing, f *hub.DeadLetterFilter, viewer Viewer) *lettersView {
	v := &lettersView{List: l}
	mine := mineOf(viewer)
	var keys, some []letterKey // some: read under the state's lock, into memory that is there already
	hub.WalkLetters(c.State, func(d *hub.DeadLetter) bool {
		if !mine(d) || !f.Match(d) {
			return true
		}
		v.Bytes += d.Size
		if !d.Replaying.IsZero() {
			if v.Waiting++; v.Since.IsZero() || d.Replaying.Before(v.Since) {
				v.Since = d.Replaying
			}
		}
		some = append(some, letterKey{d.ID, letterSort(l.Sort, d)})
		return true
	}, func() { keys, some = append(keys, some...), some[:0] })
	compare := func(a, b *letterKey) int { return cmp.Or(cmp.Compare(a.by, b.by), cmp.Compare(a.id, b.id)) }
	if l.Sort == "" || l.Desc { // the newest first
		forward := compare
		compare = func(a, b *letterKey) int { return forward(b, a) }
	}
	from := (l.Page - 1) * perPage
	shownKeys, total := pick(keys, func(*letterKey) bool { return true }, compare, from, from+perPage)
	c.State.View(func(st *hub.State) {
		for _, k := range shownKeys {
			if d, ok := st.DeadLetter(k.id); ok {
				v.Rows = append(v.Rows, rowOfLetter(&d))
			}
		}
	})
	v.Total, v.Pager, v.Any = total, l.pagerOf(len(v.Rows), total), total > 0 || l.Filtered()
	q := url.Values{}
	for _, name := range letterFilters() {
		if value := c.filterTime(name, l.Filter(name)); value != "" {
			q.Set(name, value)
			v.Filters = append(v.Filters, field{name, value})
		}
	}
	v.Export = "/dead-letters/export"
	if len(q) > 0 {
		v.Export += "?" + q.Encode()
	}
	if n, err := strconv.Atoi(l.Filter("of")); err == nil && n > 0 {
		v.Of, v.Gone = n, max(n-v.Waiting, 0)
	}
	return v
}

func letterSort(by string, d *hub.DeadLetter) uint64 {
	switch by {
	case "attempts":
		return uint64(d.Attempts)
	case "size":
		return d.Size
	}
	return d.ID
}

func (c *Console) lettersCSV(w http.ResponseWriter, r *http.Request, _ *listing, f *hub.DeadLetterFilter) {
	mine := mineOf(c.viewer(r.Context()))
	var rows, some []letterRow
	hub.WalkLetters(c.State, func(d *hub.DeadLetter) bool {
		if mine(d) && f.Match(d) {
			some = append(some, letterRow{DeadLetter: *d})
		}
		return true
	}, func() { rows, some = append(rows, some...), some[:0] })
	found := make([]*letterRow, len(rows))
	for i := range rows {
		found[i] = &rows[i]
	}
	writeCSV(w, "dead-letters", csvRows(found, func(d *letterRow) []string {
		return []string{d.Name(), d.Subscription.String(), d.TopicName, d.Callback, d.Owner, d.MessageID(), strconv.Itoa(int(d.Attempts)), strconv.Itoa(int(d.Status)), d.Reason,
			csvTime(d.At), csvTime(d.PublishedAt), d.ContentType, strconv.FormatUint(d.Size, 10), csvTime(d.Replaying)}
	}, "id", "subscription", "topic", "callback", "owner", "message_id", "attempts", "status", "reason", "given_up_at", "published_at", "content_type", "size", "replaying_since"))
}

// letterAction reads the form of an act on all dead letters that filters select.
func (c *Console) letterAction(r *http.Request) (a hub.DeadLetterAction, l *listing, err error) {
	l = &listing{filters: url.Values{}}
	for _, name := range letterFilters() {
		if v := r.PostForm.Get(name); v != "" {
			l.filters.Set(name, v)
			auth.Note(r.Context(), name, v)
		}
	}
	a.Expect = -1
	if text := r.PostForm.Get("expect"); text != "" {
		if a.Expect, err = strconv.Atoi(text); err != nil || a.Expect < 0 {
			return a, l, hub.ParamErrorf("expect", "is %s; expected a number", problem.Quote(text))
		}
	}
	a.Filter, err = c.letterQuery(l)
	return a, l, err
}

// facts describes the filters of an act.
func (l *listing) facts() (out []string) {
	for _, name := range letterFilters() {
		if v := l.Filter(name); v != "" {
			out = append(out, name+": "+v)
		}
	}
	if out == nil {
		out = []string{"No filter is set: these are all dead letters of the hub."}
	}
	return out
}

// ReplayLetters replays all that the filters select, not only what a page shows. First it counts them.
func (c *Console) ReplayLetters(w http.ResponseWriter, r *http.Request) {
	a, l, ok := c.readLetterAct(w, r)
	if !ok {
		return
	}
	would := a
	would.DryRun = true
	n, err := c.Service.ReplayDeadLetters(r.Context(), would)
	if err == nil && n.Matched == 0 {
		c.warn(w, "/dead-letters"+l.url(), "No dead letter matches the filters; nothing was done.")
		return
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	ask := confirm{Title: "Replay " + plural(n.Matched, "dead letter"), Back: "/dead-letters" + l.url(), Button: "Replay " + plural(n.Matched, "dead letter"),
		Lead:  fmt.Sprintf("Each is sent once more to its subscription, marked as a replay: its order, its place and its failures in a row do not change. Those that are acknowledged are removed; the others stay, with the attempt added."),
		Facts: l.facts()}
	if n.Ended > 0 {
		ask.Facts = append(ask.Facts, fmt.Sprintf("%s cannot be replayed, because the subscription has ended.", plural(n.Ended, "of them", "of them")))
	}
	r.PostForm.Set("expect", strconv.Itoa(n.Matched))
	if !c.confirmed(w, r, "letters", ask) {
		return
	}
	done, err := c.Service.ReplayDeadLetters(r.Context(), a)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	l.filters.Set("of", strconv.Itoa(done.Done))
	c.done(w, "/dead-letters"+l.url(), plural(done.Done, "dead letter")+" will be replayed. You can leave this page and come back; it shows how far they are.")
}

// DropLetters deletes all that the filters select.
func (c *Console) DropLetters(w http.ResponseWriter, r *http.Request) {
	a, l, ok := c.readLetterAct(w, r)
	if !ok {
		return
	}
	would := a
	would.DryRun = true
	n, err := c.Service.DropDeadLetters(r.Context(), would)
	if err == nil && n.Matched == 0 {
		c.warn(w, "/dead-letters"+l.url(), "No dead letter matches the filters; nothing was done.")
		return
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	r.PostForm.Set("expect", strconv.Itoa(n.Matched))
	if !c.confirmed(w, r, "letters", confirm{Title: "Drop " + plural(n.Matched, "dead letter"), Name: "drop " + strconv.Itoa(n.Matched), Danger: true, Back: "/dead-letters" + l.url(),
		Lead: "They are deleted with their content, for good. Export them first if you may need them.", Facts: l.facts(), Button: "Drop " + plural(n.Matched, "dead letter")}) {
		return
	}
	done, err := c.Service.DropDeadLetters(r.Context(), a)
	c.finish(w, r, err, "/dead-letters"+l.url(), plural(done.Done, "dead letter")+" dropped.")
}

func (c *Console) readLetterAct(w http.ResponseWriter, r *http.Request) (a hub.DeadLetterAction, l *listing, ok bool) {
	if !c.readForm(w, r) {
		return a, l, false
	}
	a, l, err := c.letterAction(r)
	if err != nil {
		c.fail(w, r, err)
		return a, l, false
	}
	return a, l, true
}

// plural writes a number of things: many is one and an s unless it is given.
func plural(n int, one string, many ...string) string {
	switch {
	case n == 1:
		return "1 " + one
	case len(many) > 0:
		return count(n) + " " + many[0]
	}
	return count(n) + " " + one + "s"
}

// letterView is what the page of one dead letter shows.
type letterView struct {
	letterRow
	Active    bool
	Remedy    string
	Content   shown
	Attempts  []attemptRow
	TopicPath string
	Acts      bool
	Path      string
	Headers   []hub.Header
}

// Letter shows one dead letter with its attempts and content.
func (c *Console) Letter(w http.ResponseWriter, r *http.Request) {
	id := idInPath(r, "/dead-letters/")
	c.show(w, r, sheet{template: "letter", section: "letters", personal: true, build: func(ctx context.Context) (*content, error) {
		d, m, err := c.Ports.Letter(ctx, id)
		if err != nil {
			return nil, err
		}
		v := &letterView{letterRow: rowOfLetter(d), Remedy: remedy(d.Reason, int(d.Status)), TopicPath: c.topicPath(d.TopicName), Acts: c.Ports.May(ctx, auth.ActionDeadLetters),
			Path: "/dead-letters/" + id, Headers: m.Headers}
		c.State.View(func(st *hub.State) { _, v.Active = st.Subscription(d.Subscription) })
		for _, a := range slices.Backward(d.Tries) {
			row := attemptRow{Words: reasonWords(a.Reason, int(a.Status)), Latency: a.Latency, Badge: badge{stateBad, "failed"}}
			row.At, row.Status, row.Reason = a.At, int(a.Status), a.Reason
			row.Kind = a.Node // shown in its place
			v.Attempts = append(v.Attempts, row)
		}
		v.Content = c.readContent(w, m)
		return &content{Title: "Dead letter " + id, Crumbs: []crumb{{"/dead-letters", "Dead letters"}}, Data: v,
			Lead: fmt.Sprintf("Given up for %s after %s: the callback %s.", d.Callback, timesText(uint64(d.Attempts)), callbackDid(d.Reason, int(d.Status)))}, nil
	}})
}

// ReplayLetter replays one dead letter.
func (c *Console) ReplayLetter(w http.ResponseWriter, r *http.Request) {
	if n, ok := c.letterAct(w, r); ok {
		c.finish(w, r, c.Service.ReplayDeadLetter(r.Context(), n), "/dead-letters/"+hub.DeadLetterID(n), "It will be replayed. If it is acknowledged, it is removed from the dead letters.")
	}
}

// DropLetter deletes one dead letter.
func (c *Console) DropLetter(w http.ResponseWriter, r *http.Request) {
	n, ok := c.letterAct(w, r)
	if !ok || !c.confirmed(w, r, "letters", confirm{Title: "Drop " + hub.DeadLetterID(n), Name: hub.DeadLetterID(n), Danger: true, Back: "/dead-letters/" + hub.DeadLetterID(n),
		Lead: "It is deleted with its content, for good.", Button: "Drop it"}) {
		return
	}
	c.finish(w, r, c.Service.DropDeadLetter(r.Context(), n), "/dead-letters", hub.DeadLetterID(n)+" is dropped.")
}

// letterAct reads the form of an act on one dead letter.
func (c *Console) letterAct(w http.ResponseWriter, r *http.Request) (uint64, bool) {
	if !c.readForm(w, r) {
		return 0, false
	}
	d, _, err := c.Ports.Letter(r.Context(), idInPath(r, "/dead-letters/"))
	if err != nil {
		c.fail(w, r, err)
		return 0, false
	}
	return d.ID, true
}
