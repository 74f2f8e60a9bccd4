package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// Sources of an import.
const (
	fromBallerina = "ballerina"
	fromMOSIP     = "mosip"
)

const (
	kindTopic        = "topic"
	kindSubscription = "subscription"

	outcomeSkipped = "skipped"
	outcomeRefused = "refused"
)

// Record is a topic or subscription of another hub and what became of it. Its secret is never shown.
type Record struct {
	Kind       string `json:"kind"`
	Where      string `json:"record"` // file and place
	Topic      string `json:"topic"`
	Callback   string `json:"callback,omitempty"`
	Outcome    string `json:"outcome"` // empty: not settled yet
	ID         string `json:"id,omitempty"`
	Stale      bool   `json:"stale,omitempty"`
	FreshLease bool   `json:"fresh_lease,omitempty"`
	Field      string `json:"field,omitempty"`
	Reason     string `json:"reason,omitempty"`

	payload *payload
}

// payload is a subscription as POST /v1/import takes it.
type payload struct {
	Topic         string            `json:"topic"`
	Callback      string            `json:"callback"`
	Secret        string            `json:"secret,omitempty"`
	LeaseSeconds  string            `json:"lease_seconds,omitempty"`
	ConsumerGroup string            `json:"consumer_group,omitempty"`
	Since         *time.Time        `json:"since,omitempty"`
	Fields        map[string]string `json:"fields,omitempty"`
}

// size is about how many bytes the record takes in a request.
func (r *Record) size() int {
	n := len(r.Topic) + 64
	if p := r.payload; p != nil {
		n += len(p.Topic) + len(p.Callback) + len(p.Secret) + len(p.ConsumerGroup) + 128
		for name, value := range p.Fields {
			n += len(name) + len(value) + 8
		}
	}
	return n
}

func (r *Record) refuse(field, format string, args ...any) {
	r.Outcome, r.Field, r.Reason = outcomeRefused, field, fmt.Sprintf(format, args...)
}

// Read reads one file. An error means that the file as a whole cannot be trusted, or that secrets do not open; what is wrong
// with single records is in them.
func Read(from, name string, data []byte, key *SecretKey) ([]*Record, error) {
	records, err := splitImport(from, name, data)
	if err != nil {
		return nil, exit.With(exit.Usage, err)
	}
	var out []*Record
	for _, raw := range records {
		rec := &Record{Kind: raw.kind, Where: raw.where}
		out = append(out, rec)
		fields, err := readFields(raw.text)
		if err != nil {
			rec.refuse("", "is %v; expected an object", err)
			continue
		}
		if raw.kind == kindTopic {
			rec.readTopic(fields)
		} else if err := rec.readSubscription(from, fields, key); err != nil {
			return nil, exit.With(exit.Usage, fmt.Errorf("%s: %w", raw.where, err))
		}
	}
	return out, nil
}

// rawRecord is a record that was found and not looked at.
type rawRecord struct {
	kind, where string
	text        json.RawMessage
}

// splitImport finds the records of a file.
func splitImport(from, name string, data []byte) ([]rawRecord, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("%s is empty", name)
	}
	if from == fromMOSIP {
		return splitConsolidated(name, data)
	}
	return splitSnapshot(name, data)
}

// splitSnapshot takes a consolidator's state snapshot apart.
func splitSnapshot(name string, data []byte) ([]rawRecord, error) {
	const expected = `expected a state snapshot, {"topics": [...], "subscriptions": [...]}`
	var doc struct {
		Topics        *[]json.RawMessage `json:"topics"`
		Subscriptions *[]json.RawMessage `json:"subscriptions"`
	}
	if first := bytes.TrimLeft(data, " \t\r\n")[0]; first == '[' {
		return nil, fmt.Errorf("%s begins with a list; %s (for the consolidated topics of MOSIP: --from mosip)", name, expected)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil {
		return nil, badJSON(name, data, err, expected)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s goes on behind the snapshot, in line %d; %s", name, lineOf(data, dec.InputOffset()), expected)
	}
	if doc.Topics == nil || doc.Subscriptions == nil {
		return nil, fmt.Errorf("%s lacks topics or subscriptions; %s", name, expected)
	}
	var out []rawRecord
	for i, t := range *doc.Topics {
		out = append(out, rawRecord{kindTopic, fmt.Sprintf("%s: topics[%d]", name, i), t})
	}
	for i, s := range *doc.Subscriptions {
		out = append(out, rawRecord{kindSubscription, fmt.Sprintf("%s: subscriptions[%d]", name, i), s})
	}
	return out, nil
}

// splitConsolidated takes records of the topics consolidated-websub-topics or consolidated-websub-subscribers, as a console consumer
// prints them. Each holds the whole list, so that the last one of its kind counts.
func splitConsolidated(name string, data []byte) ([]rawRecord, error) {
	const expected = "expected lists, one record of consolidated-websub-topics or consolidated-websub-subscribers after the other"
	type list struct {
		record int
		items  []json.RawMessage
	}
	last := map[string]list{} // by kind; "" for lists that hold nothing
	dec := json.NewDecoder(bytes.NewReader(data))
	n := 0
	for ; ; n++ {
		var items []json.RawMessage
		before := dec.InputOffset()
		err := dec.Decode(&items)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if rest := bytes.TrimLeft(data[min(before, int64(len(data))):], " \t\r\n"); len(rest) > 0 && rest[0] == '{' {
				return nil, fmt.Errorf("%s: record %d is an object; %s (for a state snapshot: --from ballerina)", name, n+1, expected)
			}
			return nil, badJSON(fmt.Sprintf("%s: record %d", name, n+1), data, err, expected)
		}
		kind := ""
		for i, item := range items {
			k := kindOf(item)
			if k == "" || kind != "" && k != kind {
				return nil, fmt.Errorf("%s: record %d[%d] is neither a topic (topic) nor a subscription (hubTopic, hubCallback), "+
					"or not of the kind before it; %s", name, n+1, i, expected)
			}
			kind = k
		}
		last[kind] = list{n + 1, items}
	}
	empty, anyEmpty := last[""]
	topics, anyTopics := last[kindTopic]
	subs, anySubs := last[kindSubscription]
	switch {
	case anyEmpty && anyTopics && anySubs:
		return nil, fmt.Errorf("%s: record %d is empty, and the file has records of both kinds; give a file for each Kafka topic", name, empty.record)
	case anyEmpty && empty.record > topics.record && empty.record > subs.record:
		return nil, nil // the last word is that there is nothing
	}
	var out []rawRecord
	for _, k := range []struct {
		kind string
		list list
	}{{kindTopic, topics}, {kindSubscription, subs}} {
		for i, item := range k.list.items {
			out = append(out, rawRecord{k.kind, fmt.Sprintf("%s: record %d[%d]", name, k.list.record, i), item})
		}
	}
	return out, nil
}

// kindOf tells what a record of a consolidated topic is.
func kindOf(item json.RawMessage) string {
	var keys map[string]json.RawMessage
	if json.Unmarshal(item, &keys) != nil {
		return ""
	}
	_, topic := keys["topic"]
	_, hubTopic := keys["hubTopic"]
	_, hubCallback := keys["hubCallback"]
	switch {
	case hubTopic || hubCallback:
		return kindSubscription
	case topic:
		return kindTopic
	}
	return ""
}

// badJSON says where a file stops being what it should be.
func badJSON(name string, data []byte, err error, expected string) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s ends in the middle, in line %d; was the file cut off?", name, lineOf(data, int64(len(data))))
	case errors.As(err, &syntax):
		return fmt.Errorf("%s is no JSON from line %d on (%w); %s", name, lineOf(data, syntax.Offset), err, expected)
	case errors.As(err, &kind):
		return fmt.Errorf("%s: %s is a %s; %s", name, terminal.OrDash(kind.Field), kind.Value, expected)
	}
	return fmt.Errorf("%s cannot be read (%w); %s", name, err, expected)
}

func lineOf(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}

// readFields decodes an object. Its numbers stay as they are written.
func readFields(text json.RawMessage) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if m, ok := v.(map[string]any); ok {
		return m, nil
	}
	return nil, errors.New(typeName(v))
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	}
	return "an object"
}

// text is a field that must be a string; what is absent or null is empty.
func (r *Record) text(fields map[string]any, name string) string {
	switch v := fields[name].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		if r.Outcome == "" {
			r.refuse(name, "is %s; expected a string", typeName(v))
		}
		return ""
	}
}

func (r *Record) readTopic(fields map[string]any) {
	r.Topic = r.text(fields, "topic")
	mode := r.text(fields, "hubMode")
	switch {
	case r.Outcome != "":
	case r.Topic == "":
		r.refuse("topic", "is missing or empty; expected the topic's name")
	case mode != "" && mode != "register":
		r.refuse("hubMode", "is %q; expected register", clipped(mode))
	}
}

// ofTheHub tells whether a field is one that a hub sets itself, or has a place of its own here.
func ofTheHub(name string) bool {
	switch name {
	case "hub", "hubMode", "hubTopic", "hubCallback", "hubSecret", "hubLeaseSeconds", "verificationSuccess", "SERVER_ID", "serverId", "status":
		return true
	}
	return false
}

// readSubscription reads a verified subscription. An error is about the key of secrets, and so about all of them.
func (r *Record) readSubscription(from string, fields map[string]any, key *SecretKey) error {
	p := &payload{Topic: r.text(fields, "hubTopic"), Callback: r.text(fields, "hubCallback")}
	r.Topic, r.Callback = p.Topic, p.Callback
	mode, status, secret := r.text(fields, "hubMode"), r.text(fields, "status"), r.text(fields, "hubSecret")
	switch {
	case r.Outcome != "":
	case p.Topic == "":
		r.refuse("hubTopic", "is missing or empty; expected the topic's name")
	case p.Callback == "":
		r.refuse("hubCallback", "is missing or empty; expected the URL that is called")
	case mode != "" && mode != "subscribe":
		r.refuse("hubMode", "is %q; expected subscribe", clipped(mode))
	case fields["verificationSuccess"] != nil && fields["verificationSuccess"] != true:
		r.refuse("verificationSuccess", "is not true; expected a subscription that was verified")
	case status != "" && status != "active" && status != "stale":
		r.refuse("status", "is %q; expected active or stale", clipped(status))
	}
	if r.Outcome != "" {
		return nil
	}
	r.Stale = status == "stale"
	switch v := fields["hubLeaseSeconds"].(type) {
	case nil:
	case string:
		p.LeaseSeconds = strings.TrimSpace(v)
	case json.Number:
		p.LeaseSeconds = v.String()
	default:
		r.refuse("hubLeaseSeconds", "is %s; expected seconds, as a number or a string", typeName(v))
		return nil
	}
	p.Since = dateOf(fields["timestamp"])
	for name, v := range fields {
		if !ofTheHub(name) && v != nil {
			if p.Fields == nil {
				p.Fields = map[string]string{}
			}
			p.Fields[name] = fieldText(v)
		}
	}
	// What a hub makes up where a subscriber names no group is no group: MOSIP's always does.
	if g := p.Fields["consumerGroup"]; from == fromBallerina &&
		!strings.HasPrefix(g, p.Topic+":::"+p.Callback) && !strings.HasPrefix(g, p.Topic+"___"+p.Callback) {
		p.ConsumerGroup = g
	}
	var err error
	if p.Secret, err = key.open(secret); err != nil {
		var damaged *damagedSecret
		if !errors.As(err, &damaged) {
			return fmt.Errorf("hubSecret: %w", err)
		}
		r.refuse("hubSecret", "%v", err)
		return nil
	}
	r.payload = p
	return nil
}

// dateOf is a timestamp that names a moment: a date, or seconds or milliseconds since 1970. Some of those hubs write the time
// since their machine's start, which tells nothing here.
func dateOf(v any) *time.Time {
	text := ""
	switch v := v.(type) {
	case string:
		text = strings.TrimSpace(v)
	case json.Number:
		text = v.String()
	default:
		return nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return &t
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || len(text) != 10 && len(text) != 13 {
		return nil
	}
	t := time.Unix(n, 0)
	if len(text) == 13 {
		t = time.UnixMilli(n)
	}
	t = t.UTC()
	return &t
}

// fieldText is a further field as a form would have brought it.
func fieldText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	return string(text)
}

// Settle skips records that another record stands for. Call it once, with the records of all files.
func Settle(from string, records []*Record) {
	settleDuplicates(records)
	if from == fromMOSIP {
		settleAliases(records)
	}
}

// settleDuplicates leaves the last of several records of one thing, as the hubs do that they come from.
func settleDuplicates(records []*Record) {
	last := map[[3]string]*Record{}
	for _, r := range records {
		if r.Outcome != "" {
			continue
		}
		key := [3]string{r.Kind, r.Topic, r.Callback}
		if before := last[key]; before != nil {
			before.Outcome, before.Reason = outcomeSkipped, "is there again as "+r.Where+", which counts"
		}
		last[key] = r
	}
}

// kafkaName is the name that MOSIP's hub gives a topic in Kafka.
func kafkaName(topic string) string {
	return strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			return c
		}
		return '_'
	}, topic)
}

// settleAliases leaves out topics that are there under their own name too: MOSIP's hub registers a topic that it was not told of by
// the name that it has in Kafka.
func settleAliases(records []*Record) {
	names := map[string]string{} // by the name in Kafka
	for _, r := range records {
		if alias := kafkaName(r.Topic); r.Outcome == "" && alias != r.Topic {
			names[alias] = r.Topic
		}
	}
	for _, r := range records {
		if own := names[r.Topic]; own != "" && r.Kind == kindTopic && r.Outcome == "" {
			r.Outcome, r.Reason = outcomeSkipped, fmt.Sprintf("is the name in Kafka of the topic %s", own)
		}
	}
}

// clipped keeps what a file holds short in a message.
func clipped(s string) string {
	if len(s) > 60 {
		return s[:57] + "..."
	}
	return s
}
