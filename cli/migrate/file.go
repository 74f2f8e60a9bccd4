// Package migrate reads the topics and subscriptions of other hubs from their files and imports them into a hub. It may import
// client, exit and terminal.
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

// The kinds of hub to import from.
const (
	fromBallerina = "ballerina"
	fromMOSIP     = "mosip"
)

const (
	kindTopic        = "topic"
	kindSubscription = "subscription"

	outcomeSkipped = "skipped"
	outcomeRefused = "refused"
	outcomeNotSent = "not sent"
)

// Record is a topic or subscription of another hub and the outcome of its import. Its secret is never printed.
type Record struct {
	Kind       string `json:"kind"`
	Where      string `json:"record"` // file and position
	Topic      string `json:"topic"`
	Callback   string `json:"callback,omitempty"`
	Outcome    string `json:"outcome"` // empty until known
	ID         string `json:"id,omitempty"`
	Stale      bool   `json:"stale,omitempty"`
	FreshLease bool   `json:"fresh_lease,omitempty"`
	Field      string `json:"field,omitempty"`
	Reason     string `json:"reason,omitempty"`

	payload *payload
}

// payload is a subscription as POST /v1/import expects it.
type payload struct {
	Topic         string            `json:"topic"`
	Callback      string            `json:"callback"`
	Secret        string            `json:"secret,omitempty"`
	LeaseSeconds  string            `json:"lease_seconds,omitempty"`
	ConsumerGroup string            `json:"consumer_group,omitempty"`
	Since         *time.Time        `json:"since,omitempty"`
	Fields        map[string]string `json:"fields,omitempty"`
}

// size estimates the bytes the record takes in a request.
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

// Read reads one file. An error means that the file as a whole is invalid or that its secrets cannot be decrypted; problems with
// single records are noted in the records.
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

// rawRecord is a record before it is parsed.
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

// splitSnapshot finds the records in a consolidator's state snapshot.
func splitSnapshot(name string, data []byte) ([]rawRecord, error) {
	const expected = `expected a state snapshot, {"topics": [...], "subscriptions": [...]}`
	var doc struct {
		Topics        *[]json.RawMessage `json:"topics"`
		Subscriptions *[]json.RawMessage `json:"subscriptions"`
	}
	if first := bytes.TrimLeft(data, " \t\r\n")[0]; first == '[' {
		return nil, fmt.Errorf("%s starts with a list; %s (use --from mosip for the consolidated topics of MOSIP)", name, expected)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil {
		return nil, badJSON(name, data, err, expected)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s continues after the snapshot, in line %d; %s", name, lineOf(data, dec.InputOffset()), expected)
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

// splitConsolidated reads records of the Kafka topics consolidated-websub-topics or consolidated-websub-subscribers, as a console
// consumer prints them. Each record holds a complete list, so the last one of its kind counts.
func splitConsolidated(name string, data []byte) ([]rawRecord, error) {
	const expected = "expected a sequence of lists, the records of consolidated-websub-topics or consolidated-websub-subscribers"
	type list struct {
		record int
		items  []json.RawMessage
	}
	last := map[string]list{} // by kind; "" for empty lists
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
				return nil, fmt.Errorf("%s: record %d is an object; %s (use --from ballerina for a state snapshot)", name, n+1, expected)
			}
			return nil, badJSON(fmt.Sprintf("%s: record %d", name, n+1), data, err, expected)
		}
		kind := ""
		for i, item := range items {
			k := kindOf(item)
			if k == "" || kind != "" && k != kind {
				return nil, fmt.Errorf("%s: record %d[%d] is neither a topic (topic) nor a subscription (hubTopic, hubCallback), "+
					"or mixes the two; %s", name, n+1, i, expected)
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
		return nil, fmt.Errorf("%s: record %d is empty, and the file has records of both kinds; expected one file for each Kafka topic", name, empty.record)
	case anyEmpty && empty.record > topics.record && empty.record > subs.record:
		return nil, nil // the latest list is empty
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

// kindOf returns the kind of an item of a consolidated topic, or "".
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

// badJSON describes where a file is invalid.
func badJSON(name string, data []byte, err error, expected string) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s ends unexpectedly in line %d; is the file truncated?", name, lineOf(data, int64(len(data))))
	case errors.As(err, &syntax):
		return fmt.Errorf("%s is not valid JSON in line %d (%w); %s", name, lineOf(data, syntax.Offset), err, expected)
	case errors.As(err, &kind):
		return fmt.Errorf("%s: %s is a %s; %s", name, terminal.OrDash(kind.Field), kind.Value, expected)
	}
	return fmt.Errorf("%s cannot be read (%w); %s", name, err, expected)
}

func lineOf(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}

// readFields decodes an object and keeps its numbers as written.
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

// text reads a string field; if it is absent or null, the string is empty.
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

// ofTheHub reports whether a field is set by the hub itself or read separately here.
func ofTheHub(name string) bool {
	switch name {
	case "hub", "hubMode", "hubTopic", "hubCallback", "hubSecret", "hubLeaseSeconds", "verificationSuccess", "SERVER_ID", "serverId", "status":
		return true
	}
	return false
}

// readSubscription reads a verified subscription. An error concerns the key of secrets, and so all records.
func (r *Record) readSubscription(from string, fields map[string]any, key *SecretKey) error {
	p := &payload{Topic: r.text(fields, "hubTopic"), Callback: r.text(fields, "hubCallback")}
	r.Topic, r.Callback = p.Topic, p.Callback
	mode, status, secret := r.text(fields, "hubMode"), r.text(fields, "status"), r.text(fields, "hubSecret")
	switch {
	case r.Outcome != "":
	case p.Topic == "":
		r.refuse("hubTopic", "is missing or empty; expected the topic's name")
	case p.Callback == "":
		r.refuse("hubCallback", "is missing or empty; expected the callback's URL")
	case mode != "" && mode != "subscribe":
		r.refuse("hubMode", "is %q; expected subscribe", clipped(mode))
	case fields["verificationSuccess"] != nil && fields["verificationSuccess"] != true:
		r.refuse("verificationSuccess", "is not true; expected a verified subscription")
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
	// Where a subscriber names no group, its hub invents one, which is ignored. MOSIP's hub always invents it.
	if g := p.Fields["consumerGroup"]; from == fromBallerina &&
		!strings.HasPrefix(g, p.Topic+":::"+p.Callback) && !strings.HasPrefix(g, p.Topic+"___"+p.Callback) {
		p.ConsumerGroup = g
	}
	var err error
	if p.Secret, err = key.open(secret); err != nil {
		var damaged *damagedSecretError
		if !errors.As(err, &damaged) {
			return fmt.Errorf("hubSecret: %w", err)
		}
		r.refuse("hubSecret", "%v", err)
		return nil
	}
	r.payload = p
	return nil
}

// dateOf parses a timestamp: a date, or seconds or milliseconds since 1970. Some hubs write the time since their machine booted
// instead, which is useless here and yields nil.
func dateOf(v any) *time.Time {
	var text string
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

// fieldText formats a further field as a form parameter.
func fieldText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // cannot happen: v was decoded from JSON
	}
	return string(text)
}

// Settle marks redundant records as skipped. Call it once, with the records of all files.
func Settle(from string, records []*Record) {
	settleDuplicates(records)
	if from == fromMOSIP {
		settleAliases(records)
	}
}

// settleDuplicates keeps the last of several records of the same topic or subscription, as the original hubs do.
func settleDuplicates(records []*Record) {
	last := map[[3]string]*Record{}
	for _, r := range records {
		if r.Outcome != "" {
			continue
		}
		key := [3]string{r.Kind, r.Topic, r.Callback}
		if before := last[key]; before != nil {
			before.Outcome, before.Reason = outcomeSkipped, "is superseded by "+r.Where
		}
		last[key] = r
	}
}

// kafkaName returns the name that MOSIP's hub gives a topic in Kafka.
func kafkaName(topic string) string {
	return strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			return c
		}
		return '_'
	}, topic)
}

// settleAliases skips topics that are also listed under their real name: MOSIP's hub registers unknown topics under their Kafka name.
func settleAliases(records []*Record) {
	names := map[string]string{} // by Kafka name
	for _, r := range records {
		if alias := kafkaName(r.Topic); r.Outcome == "" && alias != r.Topic {
			names[alias] = r.Topic
		}
	}
	for _, r := range records {
		if own := names[r.Topic]; own != "" && r.Kind == kindTopic && r.Outcome == "" {
			r.Outcome, r.Reason = outcomeSkipped, fmt.Sprintf("is the Kafka name of topic %s", own)
		}
	}
}

// clipped shortens a value for a message.
func clipped(s string) string {
	if len(s) > 60 {
		return s[:57] + "..."
	}
	return s
}
