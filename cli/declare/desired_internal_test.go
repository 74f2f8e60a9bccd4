package declare

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quorumhub/auth"
	"quorumhub/cli/exit"
	"quorumhub/configs"
	"quorumhub/hub"
)

const wholeFile = `
topics:
  - name: orders
    retention: {max_age: 7d, max_bytes: 1GiB}
  - name: 50% off/ünï
  - name: HTTP://Example.org/feed?a=b
rules:
  - name: reader
    may: [read, subscribe]
    topics: ["orders/**"]
    who:
      - scope: orders.read
        method: token
subscriptions:
  - {topic: orders, callback: "http://127.0.0.1:9/cb", paused: true}
`

func parseText(text string) (*Desired, error) {
	return Parse([]File{{"hub.yaml", []byte(text)}})
}

func TestDesiredIsRead(t *testing.T) {
	d, err := parseText(wholeFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Topics) != 3 || d.Topics[0].limits.age() != "7d" || d.Topics[0].limits.size() != "1GiB" || d.Topics[1].name != "50% off/ünï" ||
		d.Topics[2].name != "http://example.org/feed?a=b" || d.Topics[1].limits != (topicLimits{}) {
		t.Errorf("topics %+v", d.Topics)
	}
	if len(d.Rules) != 1 || !reflect.DeepEqual(d.Rules[0].Rule, auth.Rule{Name: "reader", May: []string{"read", "subscribe"}, Topics: []string{"orders/**"},
		Who: []auth.Who{{Scope: "orders.read", Method: "token"}}}) {
		t.Errorf("rules %+v", d.Rules)
	}
	if len(d.Subscriptions) != 1 || !d.Subscriptions[0].paused {
		t.Errorf("subscriptions %+v", d.Subscriptions)
	}
	if d, err := parseText("topics:\nrules: []\n"); err != nil || d.Topics != nil || d.Rules == nil {
		t.Errorf("an empty list: %+v, %v", d, err)
	}
}

func TestWhatIsWrongWithAFileIsNamed(t *testing.T) {
	rule := func(part string) string {
		return "rules:\n  - name: r\n    may: [read]\n    topics: [x]\n    who:\n      - scope: s\n" + part
	}
	for text, want := range map[string]string{
		"topcis: []":           `hub.yaml:1: topcis: unknown key; did you mean topics?`,
		"topics:\n  - nome: x": `hub.yaml:2: topics.nome: unknown key; did you mean name?`,
		"topics:\n  - name: x\n    retention: {max_agee: 1d}":                       `hub.yaml:3: topics.retention.max_agee: unknown key; did you mean retention.max_age?`,
		"topics:\n  - name: x\n    retention:\n      max_age: soon":                 `hub.yaml:4: topics.retention.max_age: got "soon", expected a duration`,
		"topics:\n  - name: x\n    retention:\n      max_age: 1ms":                  `of at least 1s`,
		"topics:\n  - name: x\n    retention:\n      max_bytes: -1":                 `hub.yaml:4: topics.retention.max_bytes: got "-1", expected a size`,
		"topics:\n  - name: x\n\n  - name: x":                                       `hub.yaml:4: topics: topic "x" is listed twice, first at hub.yaml:2`,
		"topics:\n  - name: http://a.example\n  - name: HTTP://A.example/":          `is listed twice, first at hub.yaml:2`,
		"topics:\n  - name: [x]":                                                    `hub.yaml:2: topics.name: got a list, expected the name of a hosted topic`,
		"topics:\n  - retention: {max_age: 1d}":                                     `hub.yaml:2: topics.name: is missing`,
		"topics:\n  - name: /x":                                                     `hub.yaml:2: topics.name: the topic's name must not begin or end with /`,
		"topics:\n  - orders":                                                       `hub.yaml:2: topics: expected an item with the keys name`,
		"topics: orders":                                                            `hub.yaml:1: topics: expected a list`,
		"topics:\n  - name: &a x":                                                   `expected a plain value`,
		"topics: [":                                                                 `not valid YAML`,
		"topics: []\ntopics: []":                                                    `hub.yaml:2:`,
		rule("        scoop: t"):                                                    `hub.yaml:7: rules.who.scoop: unknown key; did you mean scope?`,
		rule("        anonymous: yes"):                                              `hub.yaml:7: rules.who.anonymous: got "yes", expected true or false`,
		strings.Replace(rule(""), "[read]", "[raed]", 1):                            `hub.yaml:3: rules.may: "raed"; expected *, admin.*, topic.register`,
		strings.Replace(rule(""), "[read]", "read", 1):                              `hub.yaml:3: rules.may: got a single value, expected a list`,
		strings.Replace(rule(""), "[x]", "[\"a/**/b\"]", 1):                         `hub.yaml:4: rules.topics:`,
		rule("  - name: r\n    may: [read]\n    topics: [x]\n    who: [{role: s}]"): `hub.yaml:7: rules: rule "r" is listed twice, first at hub.yaml:2`,
		"subscriptions:\n  - topic: x\n    callback: ftp://y\n    paused: maybe":    `hub.yaml:3: subscriptions.callback: got "ftp://y", expected an http(s) URL`,
		"subscriptions:\n  - {topic: x, callback: http://y}":                        `hub.yaml:2: subscriptions.paused: is missing, expected true or false`,
	} {
		if _, err := parseText(text); err == nil || !strings.Contains(err.Error(), want) || exit.CodeOf(err) != exit.Usage {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
	_, err := Parse([]File{{"a.yaml", []byte("topics: [{name: x}]")}, {"b.yaml", []byte("topics: [{name: x}]")}})
	if err == nil || !strings.Contains(err.Error(), "b.yaml:1: topics: topic \"x\" is listed twice, first at a.yaml:1") {
		t.Errorf("two files: %v", err)
	}
}

// lines returns the changes as apply prints them.
func lines(changes []Change) string {
	var b strings.Builder
	for i := range changes {
		b.WriteString(changes[i].String() + "\n")
	}
	return b.String()
}

func TestPlan(t *testing.T) {
	week, size := 7*24*time.Hour, configs.Bytes(1<<20)
	have := &Settings{
		topics: []setTopic{{name: "orders", limits: topicLimits{maxAge: &week}}, {name: "cleared", limits: topicLimits{maxBytes: &size}},
			{name: "unused"}, {name: "used", subscriptions: 1}, {name: "hub.events"}},
		rules: []setRule{
			{Rule: auth.Rule{Name: "reader", May: []string{"read"}, Topics: []string{"**"}, Who: []auth.Who{{Scope: "a"}}}},
			{Rule: auth.Rule{Name: "other", May: []string{"read"}, Topics: []string{"**"}, Who: []auth.Who{{Scope: "a"}}}},
			{Rule: auth.Rule{Name: "root", May: []string{"*"}, Topics: []string{"**"}, Who: []auth.Who{{Role: "operator"}}}, fromFile: true}},
		subscriptions: []setSubscription{{"s-1", "orders", "http://A.example/cb", "active"}, {"s-2", "orders", "http://b.example/cb", "expired"}},
	}
	want, err := parseText(`
topics: [{name: orders, retention: {max_age: 3d}}, {name: cleared}, {name: new, retention: {max_bytes: 1MiB}}]
rules: [{name: reader, may: [read], topics: ["**"], who: [{scope: b}]}, {name: made, may: [read], topics: ["**"], who: [{role: x}]}]
subscriptions:
  - {topic: orders, callback: "http://a.example/cb", paused: true}
  - {topic: orders, callback: "http://b.example/cb", paused: true}
`)
	if err != nil {
		t.Fatal(err)
	}
	keep := "~ topic orders retention max_age 7d -> 3d\n~ topic cleared retention max_bytes 1MiB -> the hub's\n+ topic new\n" +
		"~ topic new retention max_bytes the hub's -> 1MiB\n~ rule reader who scope a -> scope b\n+ rule made\n" +
		"~ subscription s-1 of http://A.example/cb to orders active -> paused\n"
	for prune, more := range map[Prune]string{{}: "", {Rules: true}: "- rule other\n", {Rules: true, Topics: true}: "- rule other\n- topic unused\n"} {
		changes, notes, err := Plan(have, want, prune)
		if err != nil || lines(changes) != keep+more {
			t.Errorf("%+v: %v\n%s", prune, err, lines(changes))
		}
		if len(notes) != 1 || !strings.Contains(notes[0], "http://b.example/cb has no subscription to orders") {
			t.Errorf("notes %q", notes)
		}
	}
	// A list that is absent from the file is not pruned.
	if changes, _, err := Plan(have, &Desired{}, Prune{true, true}); err != nil || len(changes) > 0 {
		t.Errorf("%v, %s", err, lines(changes))
	}
	clash, err := parseText("rules: [{name: root, may: [read], topics: ['**'], who: [{role: x}]}]")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Plan(have, clash, Prune{}); err == nil || !strings.Contains(err.Error(), `hub.yaml:1: rules: rule "root" is defined differently in the hub's auth.file`) {
		t.Errorf("a rule of auth.file: %v", err)
	}
}

// TestDumpThenApplyChangesNothing checks that all settings survive a dump and a parse.
func TestDumpThenApplyChangesNothing(t *testing.T) {
	namer, err := hub.NewTopicNamer("http://hub.invalid")
	if err != nil {
		t.Fatal(err)
	}
	tricky := rapid.OneOf(rapid.String(), rapid.StringMatching(`[-a-zA-Z0-9%#:.,'"\[\]{}&*!|>?@~ \\/]{1,12}`), rapid.StringMatching(`https?://[a-z]{1,5}\.example/[a-z%#?=& ]{0,8}`),
		rapid.SampledFrom([]string{"null", "Null", "~", "true", "010", "1e3", ".inf", "...", "---", "- a", "a: b", "a #b", " a ", "0x1F", "<<", "=", "é\u00a0\u2028\ufeff", "😀"}))
	word := rapid.StringMatching(`[a-zA-Z0-9%#:.'"{}\[\]éß -]{0,8}[a-z]`).Filter(func(s string) bool { return !strings.ContainsAny(s, "{}") })
	rapid.Check(t, func(rt *rapid.T) {
		have := &Settings{}
		names := map[string]bool{}
		for _, raw := range rapid.SliceOfN(tricky, 0, 6).Draw(rt, "topics") {
			name, err := namer.HostedName("name", raw)
			if err != nil || names[name] {
				continue
			}
			names[name] = true
			topic := setTopic{name: name}
			if rapid.Bool().Draw(rt, "has age") {
				age := time.Duration(rapid.Int64Range(int64(time.Second), 1<<60).Draw(rt, "age"))
				topic.limits.maxAge = &age
			}
			if rapid.Bool().Draw(rt, "has size") {
				size := configs.Bytes(rapid.Int64Range(0, 1<<62).Draw(rt, "size"))
				topic.limits.maxBytes = &size
			}
			have.topics = append(have.topics, topic)
			have.subscriptions = append(have.subscriptions, setSubscription{"s-1", name, "http://cb.example/?q=%20", rapid.SampledFrom([]string{"active", "paused"}).Draw(rt, "state")})
		}
		for i, text := range rapid.SliceOfN(word, 0, 3).Draw(rt, "rules") {
			have.rules = append(have.rules, setRule{Rule: auth.Rule{Name: string(rune('a' + i)), May: []string{"read", "*"}, Topics: []string{"**"},
				Who: []auth.Who{{Scope: text, User: text}, {Anonymous: true}}}})
		}
		have.sort()
		text := have.YAML(true)
		want, err := Parse([]File{{"dump", text}})
		if err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
		changes, notes, err := Plan(have, want, Prune{true, true})
		if err != nil || len(changes)+len(notes) > 0 {
			rt.Fatalf("%v\n%s%v\n%s", err, lines(changes), notes, text)
		}
	})
}

// FuzzDesired checks that parsing never panics, errors have a message, and valid input can be planned for an empty hub.
func FuzzDesired(f *testing.F) {
	f.Add([]byte(wholeFile))
	f.Add([]byte("topics: [{name: a, retention: {max_age: 1d}}, *x]\nrules: [{who: [{}]}]\n"))
	f.Add([]byte("? [a]\n: b\n---\ntopics: &x [*x]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse([]File{{"f", text}})
		if err != nil {
			if err.Error() == "" {
				t.Error("an empty error message")
			}
			return
		}
		changes, _, err := Plan(&Settings{}, d, Prune{true, true})
		if err != nil || len(changes) < len(d.Topics)+len(d.Rules) {
			t.Errorf("%v, %d changes", err, len(changes))
		}
	})
}
