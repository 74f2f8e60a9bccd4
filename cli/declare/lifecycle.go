package declare

import (
	"net/http"
	"strings"
	"time"

	"quorumhub/configs"
)

// topicLifecycle says whether a topic is deprecated or retired. Times are as in the API, empty: none.
type topicLifecycle struct{ status, successor, sunset, since string }

// Keys of a topic's lifecycle.
const (
	keyStatus     = "lifecycle.status"
	keySuccessor  = "lifecycle.successor"
	keySunset     = "lifecycle.sunset_at"
	keyDeprecated = "lifecycle.deprecated_at"
	statusActive  = "active"
)

func lifecycleKeys() []string { return []string{keyStatus, keySuccessor, keySunset, keyDeprecated} }

// yaml encodes the lifecycle in one line.
func (l *topicLifecycle) yaml() string {
	out := "{status: " + configs.QuoteYAML(l.status)
	for _, part := range [][2]string{{"deprecated_at", l.since}, {"sunset_at", l.sunset}, {"successor", l.successor}} {
		if part[1] != "" {
			out += ", " + part[0] + ": " + configs.QuoteYAML(part[1])
		}
	}
	return out + "}"
}

// lifecycle reads the lifecycle of a topic; nil: it is left alone.
func (p *desiredParser) lifecycle(item *configs.Item) *topicLifecycle {
	const expectedStatus, expectedTime = "active, deprecated or retired", "a time such as 2027-06-30T00:00:00Z, or a date"
	given := false
	for _, key := range lifecycleKeys() {
		given = given || item.Has(key)
	}
	if !given {
		return nil
	}
	l := &topicLifecycle{}
	if text, at, ok := p.text(item, KeyTopics, keyStatus, expectedStatus); ok {
		if l.status = strings.TrimSpace(text); l.status != statusActive && l.status != "deprecated" && l.status != "retired" {
			p.fail(at, KeyTopics+"."+keyStatus, "got %q, expected %s", text, expectedStatus)
		}
	}
	if item.Has(keySuccessor) {
		l.successor, _, _ = p.topicName(item, KeyTopics, keySuccessor)
	}
	for _, f := range []struct {
		key string
		to  *string
	}{{keySunset, &l.sunset}, {keyDeprecated, &l.since}} {
		if !item.Has(f.key) {
			continue
		}
		text, at, ok := p.text(item, KeyTopics, f.key, expectedTime)
		if !ok {
			continue
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t, err = time.Parse(time.DateOnly, text)
		}
		if err != nil {
			p.fail(at, KeyTopics+"."+f.key, "got %q, expected %s", text, expectedTime)
		}
		*f.to = t.UTC().Format(time.RFC3339Nano)
	}
	return l
}

// lifecycle plans the change of a topic's lifecycle. What the file leaves out of a mark that stays is not compared.
func (p *planner) lifecycle(t *desiredTopic, has *setTopic) {
	want, now := t.lifecycle, &topicLifecycle{status: statusActive}
	if has != nil && has.lifecycle != nil {
		now = has.lifecycle
	}
	same := want.status == now.status && (want.status == statusActive ||
		want.successor == now.successor && want.sunset == now.sunset && (want.since == "" || want.since == now.since))
	if same {
		return
	}
	body := map[string]any{"status": want.status}
	if want.status != statusActive {
		for name, value := range map[string]string{"successor": want.successor, "sunset_at": want.sunset, "deprecated_at": want.since} {
			if value != "" {
				body[name] = value
			}
		}
	}
	p.add(Change{Op: "~", Kind: "topic", Name: t.name, Detail: "lifecycle " + now.yaml() + " -> " + want.yaml(),
		method: http.MethodPut, path: topicPath(t.name), body: map[string]any{"lifecycle": body}})
}
