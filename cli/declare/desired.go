// Package declare compares what YAML files want of a hub with what operators have set on it, and makes the difference. apply and dump
// use it. It may import auth, configs, hub, client, exit and terminal.
package declare

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/configs"
	"quorumhub/hub"
)

// Desired is the content of the files. A nil list is absent from the files and exempt from pruning.
type Desired struct {
	Topics        []desiredTopic
	Rules         []desiredRule
	Subscriptions []desiredSubscription
}

type desiredTopic struct {
	lifecycle *topicLifecycle // nil: it is left alone
	name      string
	limits    topicLimits
	origin    string
}

// topicLimits holds a topic's own limits; nil means the hub's.
type topicLimits struct {
	maxAge   *time.Duration
	maxBytes *configs.Bytes
}

func (l topicLimits) age() string {
	if l.maxAge == nil {
		return hubsLimit
	}
	return configs.FormatDuration(*l.maxAge)
}

func (l topicLimits) size() string {
	if l.maxBytes == nil {
		return hubsLimit
	}
	return l.maxBytes.String()
}

// hubsLimit is shown for a limit that the topic does not have.
const hubsLimit = "the hub's"

type desiredRule struct {
	auth.Rule
	origin string
}

type desiredSubscription struct {
	topic, callback string
	paused          bool
	origin          string
}

const (
	KeyTopics        = "topics"
	KeyRules         = "rules"
	KeySubscriptions = "subscriptions"
	keyMaxAge        = "retention.max_age"
	keyMaxBytes      = "retention.max_bytes"
)

func desiredKinds() []configs.ItemKind {
	return []configs.ItemKind{
		{Name: KeyTopics, Keys: append([]string{"name", keyMaxAge, keyMaxBytes}, lifecycleKeys()...)},
		{Name: KeyRules, Keys: []string{"name", "may", "topics", "resources"}, Lists: []configs.ItemKind{
			{Name: "who", Keys: []string{"anonymous", "method", "issuer", "subject", "client", "user", "scope", "role"}}}},
		{Name: KeySubscriptions, Keys: []string{"topic", "callback", "paused"}},
	}
}

// File is a file's text and its name in errors.
type File struct {
	Name string
	Text []byte
}

// Parse reads and merges the files. Its error is a *configs.InvalidError that lists every problem.
func Parse(files []File) (*Desired, error) {
	p := desiredParser{seen: map[string]string{}}
	// The address does not matter: only names are checked here. ResolveTopics asks the hub which URLs are its own.
	namer, err := hub.NewTopicNamer("http://hub.invalid")
	if err != nil {
		return nil, err
	}
	p.namer = namer
	for _, f := range files {
		lists, problems := configs.ReadItems(f.Name, f.Text, desiredKinds()...)
		p.problems = append(p.problems, problems...)
		p.read(lists)
	}
	if len(p.problems) > 0 {
		return nil, &configs.InvalidError{Problems: p.problems}
	}
	return &p.out, nil
}

type desiredParser struct {
	namer    *hub.TopicNamer
	out      Desired
	seen     map[string]string // where each item was first named
	problems []configs.Problem
}

func (p *desiredParser) fail(origin, key, format string, args ...any) {
	p.problems = append(p.problems, configs.Problem{Origin: origin, Key: key, Message: fmt.Sprintf(format, args...)})
}

// once reports an item that was named before.
func (p *desiredParser) once(kind, id, says, origin string) {
	if first, ok := p.seen[kind+" "+id]; ok {
		p.fail(origin, kind, "%s is listed twice, first at %s", says, first)
		return
	}
	p.seen[kind+" "+id] = origin
}

func (p *desiredParser) read(lists map[string][]configs.Item) {
	if items, ok := lists[KeyTopics]; ok {
		if p.out.Topics == nil {
			p.out.Topics = []desiredTopic{}
		}
		for i := range items {
			p.topic(&items[i])
		}
	}
	if items, ok := lists[KeyRules]; ok {
		if p.out.Rules == nil {
			p.out.Rules = []desiredRule{}
		}
		for i := range items {
			p.rule(&items[i])
		}
	}
	for i := range lists[KeySubscriptions] {
		p.subscription(&lists[KeySubscriptions][i])
	}
}

// text reads a required value.
func (p *desiredParser) text(item *configs.Item, kind, key, expected string) (text, origin string, ok bool) {
	text, origin, ok = item.Text(key)
	switch {
	case ok && text != "":
		return text, origin, true
	case ok:
		p.fail(origin, kind+"."+key, "is empty, expected %s", expected)
	case item.Has(key):
		p.fail(origin, kind+"."+key, "got a list, expected %s", expected)
	default:
		p.fail(origin, kind+"."+key, "is missing, expected %s", expected)
	}
	return "", origin, false
}

const expectedTopic = "the name of a hosted topic or the URL of a foreign topic"

// topicName reads and normalises the name of a topic.
func (p *desiredParser) topicName(item *configs.Item, kind, key string) (name, origin string, ok bool) {
	text, origin, ok := p.text(item, kind, key, expectedTopic)
	if !ok {
		return "", origin, false
	}
	name, err := p.namer.HostedName(key, text)
	if err != nil {
		message := err.Error()
		if e := (*hub.Error)(nil); errors.As(err, &e) {
			message = e.Message
		}
		p.fail(origin, kind+"."+key, "%s; expected %s", message, expectedTopic)
		return "", origin, false
	}
	return name, origin, true
}

func (p *desiredParser) topic(item *configs.Item) {
	const expectedAge, expectedSize = "a duration such as 12h or 7d, or 0 for no limit", "a size such as 100MiB, or 0 for no limit"
	t := desiredTopic{}
	var named bool
	t.name, t.origin, named = p.topicName(item, KeyTopics, "name")
	if item.Has(keyMaxAge) {
		if text, at, ok := p.text(item, KeyTopics, keyMaxAge, expectedAge); ok {
			d, err := configs.ParseDuration(strings.TrimSpace(text))
			if err != nil || d < 0 || d != 0 && d < hub.MinRetention {
				p.fail(at, KeyTopics+"."+keyMaxAge, "got %q, expected %s, of at least %s", text, expectedAge, configs.FormatDuration(hub.MinRetention))
			}
			t.limits.maxAge = &d
		}
	}
	if item.Has(keyMaxBytes) {
		if text, at, ok := p.text(item, KeyTopics, keyMaxBytes, expectedSize); ok {
			n, err := configs.ParseBytes(strings.TrimSpace(text))
			if err != nil {
				p.fail(at, KeyTopics+"."+keyMaxBytes, "got %q, expected %s", text, expectedSize)
			}
			t.limits.maxBytes = &n
		}
	}
	t.lifecycle = p.lifecycle(item)
	if named {
		p.once(KeyTopics, t.name, fmt.Sprintf("topic %q", t.name), t.origin)
		p.out.Topics = append(p.out.Topics, t)
	}
}

// texts reads a list of plain values.
func (p *desiredParser) texts(item *configs.Item, key string) []string {
	texts, ok := item.Texts(key)
	if !ok {
		p.fail(item.Where(key), KeyRules+"."+key, "got a single value, expected a list")
	}
	return texts
}

func (p *desiredParser) rule(item *configs.Item) {
	before := len(p.problems)
	r := desiredRule{}
	r.Name, r.origin, _ = p.text(item, KeyRules, "name", "at most 64 letters, digits, dots, dashes and underscores")
	r.May, r.Topics, r.Resources = p.texts(item, "may"), p.texts(item, "topics"), p.texts(item, "resources")
	for i := range item.Items("who") {
		r.Who = append(r.Who, p.who(&item.Items("who")[i]))
	}
	if len(p.problems) > before {
		return
	}
	if err := r.Check(); err != nil {
		message := strings.TrimPrefix(err.Error(), r.Name+": ")
		key, rest, ok := strings.Cut(message, ": ")
		part, _, _ := strings.Cut(key, "[")
		if !ok {
			key, rest = "", message
		}
		p.fail(item.Where(part), strings.TrimSuffix(KeyRules+"."+key, "."), "%s", rest)
		return
	}
	p.once(KeyRules, r.Name, fmt.Sprintf("rule %q", r.Name), r.origin)
	p.out.Rules = append(p.out.Rules, r)
}

func (p *desiredParser) who(item *configs.Item) (w auth.Who) {
	method := ""
	for key, into := range map[string]*string{"method": &method, "issuer": &w.Issuer, "subject": &w.Subject, "client": &w.Client, "user": &w.User,
		"scope": &w.Scope, "role": &w.Role} {
		if item.Has(key) {
			*into, _, _ = p.text(item, "rules.who", key, "a text")
		}
	}
	w.Method = auth.Method(method)
	if item.Has("anonymous") {
		w.Anonymous = p.truth(item, "rules.who", "anonymous")
	}
	return w
}

func (p *desiredParser) truth(item *configs.Item, kind, key string) bool {
	text, origin, ok := p.text(item, kind, key, "true or false")
	if ok && text != "true" && text != "false" {
		p.fail(origin, kind+"."+key, "got %q, expected true or false", text)
	}
	return text == "true"
}

func (p *desiredParser) subscription(item *configs.Item) {
	before := len(p.problems)
	s := desiredSubscription{}
	s.topic, s.origin, _ = p.topicName(item, KeySubscriptions, "topic")
	callback, at, ok := p.text(item, KeySubscriptions, "callback", "the URL of its callback")
	if ok {
		if _, err := hub.ParseURL("callback", callback); err != nil {
			p.fail(at, KeySubscriptions+".callback", "got %q, expected an http(s) URL", callback)
		}
		s.callback = hub.NormalizeURL(callback)
	}
	s.paused = p.truth(item, KeySubscriptions, "paused")
	if len(p.problems) == before {
		p.once(KeySubscriptions, s.topic+" "+s.callback, fmt.Sprintf("the subscription of %q to topic %q", s.callback, s.topic), s.origin)
		p.out.Subscriptions = append(p.out.Subscriptions, s)
	}
}
