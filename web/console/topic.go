package console

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

const (
	// newestShown is how many of its newest messages a topic's page lists.
	newestShown = 20
	// worstShown is how many subscriptions a topic's page names.
	worstShown = 10
	// lagPicture is how many points the picture of a topic's lag has.
	lagPicture = 120
)

// topicView is what the page of one topic shows.
type topicView struct {
	topicRow
	Status      badge
	Retention   string
	MaxAge      string // limits of its own, as forms have them
	MaxBytes    string
	URL         string
	Hosted      bool
	Encrypts    bool
	Reference   bool
	FetchError  string
	Messages    []view.Message
	Unknown     string // why the messages are not known
	Lags        *plot
	Worst       []subscriptionRow
	Behind      int // subscriptions that have not got everything
	Seen        int // subscriptions that the viewer sees
	Operator    bool
	Owner2      bool
	Curl        string
	MaxMessage  int64
	Publishable bool
}

// topicInPath returns the name of the topic that a path names.
func (c *Console) topicInPath(r *http.Request) (string, error) {
	name, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/console/topics/"))
	if err != nil {
		return "", hub.ParamErrorf("topic", "has a %% without two hexadecimal digits")
	}
	return c.Ports.TopicName("topic", name)
}

func noSuchTopic(name string) error {
	return &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "topic", Detail: problem.Quote(name) + " does not exist on this hub"}
}

// Topic shows one topic.
func (c *Console) Topic(w http.ResponseWriter, r *http.Request) {
	name, err := c.topicInPath(r)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.show(w, r, sheet{template: "topic", section: "topics", fragments: []string{"topic-facts", "topic-lag", "topic-messages"}, build: func(ctx context.Context) (*content, error) {
		var t hub.Topic
		ok := false
		c.State.View(func(st *hub.State) { t, ok = st.TopicByName(name) })
		if !ok {
			return nil, noSuchTopic(name)
		}
		return &content{Title: name, Lead: c.topicLead(&t), Crumbs: []crumb{{"/topics", "Topics"}}, Data: c.viewTopic(ctx, &t)}, nil
	}})
}

// topicLead says in a sentence how the topic is doing.
func (c *Console) topicLead(t *hub.Topic) string {
	text := "Nothing has been published to it yet"
	if t.Head > 0 {
		text = count(t.Head) + " messages so far"
		if t.Head == 1 {
			text = "1 message so far"
		}
	}
	switch n := t.Subscribers(); n {
	case 0:
		text += ", and nobody is subscribed."
	case 1:
		text += ", 1 subscription."
	default:
		text += ", " + count(n) + " subscriptions."
	}
	if l := t.Lifecycle; l != nil {
		switch {
		case l.Retired():
			text += " It is retired: nothing more is published or subscribed to."
		case !l.SunsetAt.IsZero():
			text += " It is deprecated, and ends on " + l.SunsetAt.UTC().Format("2 January 2006") + "."
		default:
			text += " It is deprecated."
		}
	}
	return text
}

func (c *Console) viewTopic(ctx context.Context, t *hub.Topic) *topicView {
	viewer := c.viewer(ctx)
	v := &topicView{topicRow: rowOf(t), Status: lifecycleBadge(t.Lifecycle), URL: c.Service.Namer().URL(t.Name), Hosted: c.Service.Namer().Hosted(t.Name),
		Encrypts: t.Content.Encrypts(), Reference: t.Content.References(), FetchError: t.FetchError, Operator: viewer.Operator || c.Ports.May(ctx, auth.ActionTopics),
		MaxMessage: c.Ports.MaxMessageBytes(), Publishable: !hub.Reserved(t.Name) && !t.Lifecycle.Retired()}
	v.Rate = -1
	for _, row := range c.topicRows() {
		if row.ID == t.ID {
			v.Rate = row.Rate
		}
	}
	c.fillRate(&v.topicRow)
	v.Retention, v.MaxAge, v.MaxBytes = retentionWords(t.Retention)
	v.Curl = "curl " + v.URL + " -H 'Content-Type: application/json' -d '{\"hello\": \"world\"}'"
	var err error
	if v.Messages, _, err = c.Ports.Messages(ctx, MessageQuery{Topic: t.Name, Limit: newestShown}); err != nil {
		v.Unknown = problem.OneLine(err.Error())
	}
	c.lagsOf(v, t.ID, viewer)
	return v
}

func retentionWords(r hub.Retention) (words, age, bytes string) {
	if r.IsDefault() {
		return "as the hub's", "", ""
	}
	var parts []string
	if r.MaxAge != nil {
		age = r.MaxAge.String()
		if day := 24 * time.Hour; *r.MaxAge > 0 && *r.MaxAge%day == 0 {
			age = fmt.Sprint(int(*r.MaxAge/day), "d")
		}
		parts = append(parts, "for "+age)
		if *r.MaxAge == 0 {
			age, parts[0] = "0", "of any age"
		}
	}
	if r.MaxBytes != nil {
		bytes = fmt.Sprint(*r.MaxBytes)
		text, _ := bytesText(*r.MaxBytes) // a number
		if *r.MaxBytes == 0 {
			text = "any size"
		}
		parts = append(parts, "up to "+text)
	}
	return strings.Join(parts, ", "), age, bytes
}

// lagsOf adds the lag of the topic's subscriptions that the viewer sees: those that are furthest behind, and all of them as a picture.
func (c *Console) lagsOf(v *topicView, topic hub.TopicID, viewer Viewer) {
	now := c.now()
	lags := make([]uint64, 0, v.Subscriptions)
	var worst []subscriptionRow
	hub.WalkSubscriptionsOf(c.State, topic, func(sub *hub.Subscription, head uint64) bool {
		if !viewer.Operator && (viewer.ID == "" || sub.Owner != viewer.ID) {
			return true
		}
		row := subscriptionRow{ID: sub.ID, Topic: sub.TopicName, Callback: sub.Callback, Lag: sub.Cursor.Remaining(head), Failures: sub.Cursor.Failures,
			FailingSince: sub.Cursor.FailingSince, Paused: sub.Paused, Expired: sub.Expired(now)}
		lags = append(lags, row.Lag)
		if len(worst) < worstShown || row.worse(&worst[len(worst)-1]) {
			at, _ := slices.BinarySearchFunc(worst, &row, func(a subscriptionRow, b *subscriptionRow) int {
				if a.worse(b) {
					return -1
				}
				return 1
			})
			worst = slices.Insert(worst, at, row)
			worst = worst[:min(len(worst), worstShown)]
		}
		return true
	})
	slices.SortFunc(lags, func(a, b uint64) int { return cmp.Compare(b, a) })
	v.Seen, v.Worst = len(lags), worst
	for _, lag := range lags {
		if lag == 0 {
			break
		}
		v.Behind++
	}
	if len(lags) == 0 {
		return
	}
	p := &plot{Label: "Messages that wait, for each subscription", From: "furthest behind", To: "has got the most", Series: []series{{Name: "lag"}}, Unit: func(f float64) string { return count(uint64(f)) }}
	for i := range lagPicture { // each has its step if they are few
		p.Series[0].Values = append(p.Series[0].Values, float64(lags[i*len(lags)/lagPicture]))
	}
	v.Lags = p
}

// worse reports whether a subscription needs more attention than another: it is further behind, or as far and failing longer.
func (r *subscriptionRow) worse(than *subscriptionRow) bool {
	if r.Lag != than.Lag {
		return r.Lag > than.Lag
	}
	return r.Failures > than.Failures
}

// ChangeTopic sets a topic's own limits, or deprecates, retires or reinstates it.
func (c *Console) ChangeTopic(w http.ResponseWriter, r *http.Request) {
	name, err := c.topicInPath(r)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if !c.readForm(w, r) {
		return
	}
	back := c.topicPath(name)
	if r.PostForm.Get("act") == "limits" {
		err := c.Ports.SetTopic(r, name, TopicChange{Limits: true, MaxAge: strings.TrimSpace(r.PostForm.Get("max_age")), MaxBytes: strings.TrimSpace(r.PostForm.Get("max_bytes"))})
		c.finish(w, r, err, back, "Its limits are set.")
		return
	}
	change := TopicChange{Status: r.PostForm.Get("status"), Successor: strings.TrimSpace(r.PostForm.Get("successor"))}
	switch change.Status {
	case "active":
		change.Successor = ""
	case "deprecated":
		if change.Sunset, err = sunset(r.PostForm.Get("sunset")); err != nil {
			c.fail(w, r, err)
			return
		}
	case "retired":
		var n int
		c.State.View(func(st *hub.State) {
			t, _ := st.TopicByName(name)
			n = t.Subscribers()
		})
		if !c.confirmed(w, r, "topics", confirm{Title: "Retire " + name, Name: name, Danger: true, Back: back, Button: "Retire it",
			Lead: fmt.Sprintf("Nothing more can be published or subscribed to. What is stored is still delivered to its %s subscriptions, which end then.", count(n))}) {
			return
		}
	default:
		c.fail(w, r, hub.ParamErrorf("status", "is %s; expected active, deprecated or retired", problem.Quote(change.Status)))
		return
	}
	c.finish(w, r, c.Ports.SetTopic(r, name, change), back, "It is "+change.Status+" now.")
}

// sunset reads a date, or a time.
func sunset(text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC().Format(time.RFC3339), nil
		}
	}
	return "", hub.ParamErrorf("sunset", "is %s; expected a date such as 2026-12-31", problem.Quote(text))
}

// DeregisterTopic removes a topic.
func (c *Console) DeregisterTopic(w http.ResponseWriter, r *http.Request) {
	if !c.readForm(w, r) {
		return
	}
	name, err := c.Ports.TopicName("topic", r.PostForm.Get("topic"))
	var t hub.Topic
	known := false
	if err == nil {
		c.State.View(func(st *hub.State) { t, known = st.TopicByName(name) })
	}
	if err == nil && (!known || !c.Ports.MayDeregister(r.Context(), name)) {
		err = noSuchTopic(name)
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	row := rowOf(&t)
	ask := confirm{Title: "Remove " + name, Name: name, Danger: true, Back: c.topicPath(name), Button: "Remove it",
		Lead: fmt.Sprintf("%s messages are deleted, and %s subscriptions end; their callbacks are told (hub.mode=denied).", count(row.Kept()), count(t.Subscribers()))}
	if !c.confirmed(w, r, "topics", ask) {
		return
	}
	auth.Note(r.Context(), "topic", name)
	c.finish(w, r, c.Service.Deregister(r.Context(), name), "/topics", name+" is removed.")
}

// PublishMessage publishes what a form has: text, or a file.
func (c *Console) PublishMessage(w http.ResponseWriter, r *http.Request) {
	body, release, err := c.Ports.ReadBody(w, r, c.Ports.MaxMessageBytes()+maxFormBytes)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	defer release()
	form, err := publication(r.Header.Get("Content-Type"), body)
	name := ""
	if err == nil {
		name, err = c.Ports.TopicName("topic", form.topic)
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	id, duplicate, err := c.Ports.Publish(w, r, name, form.contentType, form.key, form.body)
	text := "Published as message " + id + "."
	if duplicate {
		text = "It was published before, under the same key, as message " + id + "; nothing was published now."
	}
	c.finish(w, r, err, c.topicPath(name), text)
}

// publicationForm is a form that publishes.
type publicationForm struct {
	topic, contentType, key string
	body                    []byte
}

// publication reads a form that publishes. A file comes with its own type.
func publication(contentType string, body []byte) (f publicationForm, err error) {
	kind, params, _ := mime.ParseMediaType(contentType)
	if kind != "multipart/form-data" {
		values, err := parseForm(contentType, body)
		f.topic, f.contentType, f.key, f.body = values.Get("topic"), values.Get("content_type"), values.Get("key"), []byte(values.Get("body"))
		return f.typed(""), err
	}
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	fileType := ""
	for range 20 {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, errBadForm
		}
		value, err := io.ReadAll(p) // in memory already
		if err != nil {
			return f, errBadForm
		}
		switch p.FormName() {
		case "topic":
			f.topic = string(value)
		case "content_type":
			f.contentType = string(value)
		case "key":
			f.key = string(value)
		case "body":
			if f.body == nil {
				f.body = bytes.ReplaceAll(value, []byte("\r\n"), []byte("\n")) // as it was typed
			}
		case "file":
			if p.FileName() != "" {
				f.body, fileType = value, p.Header.Get("Content-Type")
			}
		}
	}
	return f.typed(fileType), nil
}

// typed fills in the content type: what was chosen, the file's own, or what the content looks like.
func (f publicationForm) typed(file string) publicationForm {
	f.contentType = strings.TrimSpace(f.contentType)
	if f.contentType == "" || f.contentType == "auto" {
		f.contentType = cmp.Or(file, "text/plain; charset=utf-8")
		if text := bytes.TrimSpace(f.body); file == "" && len(text) > 0 && (text[0] == '{' || text[0] == '[') {
			f.contentType = "application/json"
		}
	}
	return f
}
