package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// deadLetterItem is a dead letter in a list.
type deadLetterItem struct {
	ID           string     `json:"id"`
	Subscription string     `json:"subscription"`
	Topic        string     `json:"topic"`
	Callback     string     `json:"callback"`
	Offset       uint64     `json:"offset"`
	MessageID    string     `json:"message_id"`
	Attempts     uint32     `json:"attempts"`
	Status       int32      `json:"status"`
	Reason       string     `json:"reason"`
	At           *time.Time `json:"at"`
	PublishedAt  *time.Time `json:"published_at"`
	ContentType  string     `json:"content_type"`
	Size         uint64     `json:"size"`
	Replaying    *time.Time `json:"replaying_since"`
}

// deadLetterDetail is a dead letter with its attempts and content: text if it is valid UTF-8, else base64.
type deadLetterDetail struct {
	deadLetterItem
	Active     bool              `json:"subscription_active"`
	Tries      []attemptItem     `json:"tries"`
	Headers    map[string]string `json:"headers"`
	Body       *string           `json:"body,omitempty"`
	BodyBase64 *[]byte           `json:"body_base64,omitempty"`
}

type attemptItem struct {
	At        *time.Time `json:"at"`
	Status    int32      `json:"status"`
	LatencyMS float64    `json:"latency_ms"`
	Reason    string     `json:"reason"`
	Node      string     `json:"node"`
}

func letterItem(d *hub.DeadLetter) deadLetterItem {
	return deadLetterItem{hub.DeadLetterID(d.ID), d.Subscription.String(), d.TopicName, d.Callback, d.Offset, d.MessageID(), d.Attempts,
		d.Status, d.Reason, moment(d.At), moment(d.PublishedAt), d.ContentType, d.Size, moment(d.Replaying)}
}

// letterParams returns the filters of dead letters, which have the same names in queries and bodies.
func letterParams() []string {
	return []string{"topic", "callback", "subscription", "status", "reason", "since", "until"}
}

// letterFilter parses the filters that get returns by name; an empty one matches everything.
func (s *Server) letterFilter(get func(string) string) (f hub.DeadLetterFilter, err error) {
	if v := get("topic"); v != "" {
		if f.Topic, err = s.Service.Namer().HostedName("topic", v); err != nil {
			return f, err
		}
	}
	if v := get("callback"); v != "" {
		if _, err := hub.ParseURL("callback", v); err != nil {
			return f, err
		}
		f.CallbackKey = hub.NormalizeURL(v)
	}
	if v := get("subscription"); v != "" {
		kind, n, ok := parseID(v)
		if !ok || kind != 's' {
			return f, hub.ParamErrorf("subscription", "is %s; expected an ID such as s-17", problem.Quote(v))
		}
		f.Subscription = hub.SubscriptionID(n)
	}
	var ok bool
	if f.Status, ok = hub.ParseStatusFilter(get("status")); !ok {
		return f, hub.ParamErrorf("status", "is %s; expected an HTTP status such as 404, a class such as 4xx, or none", problem.Quote(get("status")))
	}
	f.Reason = get("reason")
	for param, at := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if v := get(param); v != "" {
			if *at, err = time.Parse(time.RFC3339, v); err != nil {
				return f, hub.ParamErrorf(param, "is %s; expected a time such as 2026-01-31T12:00:00Z", problem.Quote(v))
			}
		}
	}
	return f, nil
}

func (s *Server) listDeadLetters(w http.ResponseWriter, r *http.Request) {
	q, values, err := s.parseList(r, "d", letterParams()...)
	var f hub.DeadLetterFilter
	if err == nil {
		f, err = s.letterFilter(values.Get)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var letters []hub.DeadLetter
	owner, all := s.onlyOwner(r.Context())
	s.State.View(func(st *hub.State) {
		letters = st.DeadLetters(q.after, q.limit+1, func(d *hub.DeadLetter) bool { return (all || d.Owner == owner && owner != "") && f.Match(d) })
	})
	out := page[deadLetterItem]{Items: []deadLetterItem{}}
	if len(letters) > q.limit {
		letters = letters[:q.limit]
		out.Next = hub.DeadLetterID(letters[q.limit-1].ID)
	}
	for i := range letters {
		out.Items = append(out.Items, letterItem(&letters[i]))
	}
	writeJSON(w, http.StatusOK, out)
}

// letterInPath returns the ID in /v1/dead-letters/<id> and below.
func letterInPath(r *http.Request) (uint64, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/dead-letters/"), "/")
	kind, n, ok := parseID(id)
	if !ok || kind != 'd' {
		return 0, noLetter(id)
	}
	return n, nil
}

func noLetter(id string) *problem.Details {
	return &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "id",
		Detail: problem.Quote(id) + " is not a dead letter of this hub; expected an ID such as d-17"}
}

func (s *Server) getDeadLetter(w http.ResponseWriter, r *http.Request) {
	id, err := letterInPath(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out, release, err := s.letterDetail(w, r, id)
	defer release()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if utf8.Valid(*out.BodyBase64) {
		text := string(*out.BodyBase64)
		out.Body, out.BodyBase64 = &text, nil
	}
	writeJSON(w, http.StatusOK, out)
}

// letterDetail reads one dead letter with its content, in base64. Call release, even after an error; it returns memory to the
// budget.
func (s *Server) letterDetail(w http.ResponseWriter, r *http.Request, id uint64) (out *deadLetterDetail, release func(), err error) {
	release = func() {}
	var d hub.DeadLetter
	var ok, active bool
	s.State.View(func(st *hub.State) {
		if d, ok = st.DeadLetter(id); ok {
			_, active = st.Subscription(d.Subscription)
		}
	})
	if !ok || !s.owns(r.Context(), d.Owner) {
		return nil, release, noLetter(hub.DeadLetterID(id))
	}
	size := 4 * int64(d.Size) // the body, its text or base64, and the encoded JSON
	caller := callerAt(w)
	if err := s.budget.take(caller, size); err != nil {
		return nil, release, err
	}
	release = func() { s.budget.give(caller, size) }
	m, err := s.Letters.ReadLetter(r.Context(), &d)
	switch {
	case errors.Is(err, hub.ErrTrimmed):
		return nil, release, noLetter(hub.DeadLetterID(id))
	case err != nil:
		return nil, release, fmt.Errorf("read dead letter %s: %w", hub.DeadLetterID(id), err)
	}
	if m.Body, err = hub.ReadBody(s.Parts, &m); err != nil {
		return nil, release, fmt.Errorf("read dead letter %s: %w", hub.DeadLetterID(id), err)
	}
	if m.Body == nil {
		m.Body = []byte{}
	}
	out = &deadLetterDetail{deadLetterItem: letterItem(&d), Active: active, Tries: []attemptItem{}, BodyBase64: &m.Body,
		Headers: map[string]string{"Content-Type": m.ContentType, "Link": s.links(d.TopicName, &m), messageIDHeader: m.ID()}}
	for i := range d.Tries {
		a := &d.Tries[i]
		out.Tries = append(out.Tries, attemptItem{moment(a.At), a.Status, float64(a.Latency.Microseconds()) / 1000, a.Reason, a.Node})
	}
	return out, release, nil
}

func (s *Server) replayDeadLetter(w http.ResponseWriter, r *http.Request) {
	id, err := letterInPath(r)
	if err == nil {
		err = s.Service.ReplayDeadLetter(r.Context(), id)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusAccepted, struct {
		ID        string `json:"id"`
		Replaying bool   `json:"replaying"`
	}{hub.DeadLetterID(id), true})
}

func (s *Server) dropDeadLetter(w http.ResponseWriter, r *http.Request) {
	id, err := letterInPath(r)
	if err == nil {
		err = s.Service.DropDeadLetter(r.Context(), id)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// letterActionAnswer counts the dead letters of an action.
type letterActionAnswer struct {
	Matched   int  `json:"matched"`
	Ended     int  `json:"ended"`
	Replaying *int `json:"replaying,omitempty"`
	Dropped   *int `json:"dropped,omitempty"`
	DryRun    bool `json:"dry_run"`
}

// replayDeadLetters replays what a filter selects: {"topic": "news", "status": "5xx", "dry_run": true}.
func (s *Server) replayDeadLetters(w http.ResponseWriter, r *http.Request) {
	a, err := s.readLetterAction(w, r)
	var n hub.DeadLetterCount
	if err == nil {
		n, err = s.Service.ReplayDeadLetters(r.Context(), a)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusAccepted, letterActionAnswer{Matched: n.Matched, Ended: n.Ended, Replaying: &n.Done, DryRun: a.DryRun})
}

// dropDeadLetters drops what a filter selects.
func (s *Server) dropDeadLetters(w http.ResponseWriter, r *http.Request) {
	a, err := s.readLetterAction(w, r)
	var n hub.DeadLetterCount
	if err == nil {
		n, err = s.Service.DropDeadLetters(r.Context(), a)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, letterActionAnswer{Matched: n.Matched, Ended: n.Ended, Dropped: &n.Done, DryRun: a.DryRun})
}

// readLetterAction reads a request about many dead letters. Without a filter it requires "all": true, so that an empty body does
// no harm.
func (s *Server) readLetterAction(w http.ResponseWriter, r *http.Request) (a hub.DeadLetterAction, err error) {
	const expected = `expected JSON such as {"topic": "news", "status": "5xx", "dry_run": true}, or {"all": true}`
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		return a, &problem.Details{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Param: "Content-Type",
			Detail: "is " + problem.Quote(r.Header.Get("Content-Type")) + "; expected application/json"}
	}
	var in struct {
		Topic        string `json:"topic"`
		Callback     string `json:"callback"`
		Subscription string `json:"subscription"`
		Status       string `json:"status"`
		Reason       string `json:"reason"`
		Since        string `json:"since"`
		Until        string `json:"until"`
		All          bool   `json:"all"`
		DryRun       bool   `json:"dry_run"`
		Expect       *int   `json:"expect"`
	}
	if err := s.readJSON(w, r, maxShortJSONBytes, &in, expected); err != nil {
		return a, err
	}
	fields := url.Values{"topic": {in.Topic}, "callback": {in.Callback}, "subscription": {in.Subscription}, "status": {in.Status},
		"reason": {in.Reason}, "since": {in.Since}, "until": {in.Until}}
	if a.Filter, err = s.letterFilter(fields.Get); err != nil {
		return a, err
	}
	if none := a.Filter == (hub.DeadLetterFilter{}); none != in.All {
		if none {
			return a, hub.ParamErrorf("body", "selects no dead letters; %s", expected)
		}
		return a, hub.ParamErrorf("all", "is combined with a filter; expected one of the two")
	}
	for _, name := range []string{"topic", "callback", "subscription", "status", "reason", "since", "until"} {
		switch value := fields.Get(name); {
		case name == "callback" && value != "":
			auth.NoteURL(r.Context(), name, value)
		case value != "":
			auth.Note(r.Context(), name, value)
		}
	}
	a.DryRun, a.Expect = in.DryRun, -1
	if in.Expect != nil {
		if a.Expect = *in.Expect; a.Expect < 0 {
			return a, hub.ParamErrorf("expect", "is %d; expected the number of dead letters that the filter selects", a.Expect)
		}
	}
	return a, nil
}

// exportStep bounds the time to send one line of an export.
const exportStep = time.Minute

// exportDeadLetters streams what the filter selects, with content, as one JSON object per line. If it cannot complete the export
// it aborts the response, so that it does not look complete.
func (s *Server) exportDeadLetters(w http.ResponseWriter, r *http.Request) {
	values, err := parseURLQuery(r.URL.RawQuery)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	for name, v := range values {
		if !slices.Contains(letterParams(), name) || len(v) > 1 {
			s.fail(w, r, hub.ParamErrorf(problem.Quote(name), "is unknown or repeated; expected each at most once of %s", strings.Join(letterParams(), ", ")))
			return
		}
	}
	f, err := s.letterFilter(values.Get)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var ids []uint64
	s.State.View(func(st *hub.State) { ids = st.DeadLetterIDs(f.Match) })
	h := w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", `attachment; filename="dead-letters.ndjson"`)
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	for _, id := range ids {
		_ = control.SetWriteDeadline(time.Now().Add(exportStep)) // fails without a connection, as in tests
		switch err := s.exportLetter(w, r, id); {
		case err == nil:
		case r.Context().Err() != nil:
			panic(http.ErrAbortHandler)
		default:
			s.Log.Error("export of dead letters aborted", "error", err, "correlation_id", idOf(w))
			panic(http.ErrAbortHandler)
		}
	}
}

// exportLetter writes one line. It skips a letter that was dropped meanwhile.
func (s *Server) exportLetter(w http.ResponseWriter, r *http.Request, id uint64) error {
	out, release, err := s.letterDetail(w, r, id)
	defer release()
	var p *problem.Details
	if errors.As(err, &p) && p.Status == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	line, err := json.Marshal(out)
	if err == nil {
		_, err = w.Write(append(line, '\n'))
	}
	return err
}
