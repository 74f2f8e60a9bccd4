package hub

import (
	"math"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub/hubpb"
)

// DeliveryMode is the order in which a subscription gets its messages.
type DeliveryMode = hubpb.DeliveryMode

// Modes of delivery.
const (
	DeliveryOrdered  = hubpb.DeliveryMode_DELIVERY_ORDERED  // one at a time, in log order
	DeliveryParallel = hubpb.DeliveryMode_DELIVERY_PARALLEL // up to a window at once, in any order
	DeliveryKeyed    = hubpb.DeliveryMode_DELIVERY_KEYED    // messages with the same key in order, different keys in parallel
)

func deliveryModes() []string { return []string{"ordered", "parallel", "keyed"} }

// DeliveryModeName returns the mode as requests and lists spell it.
func DeliveryModeName(m DeliveryMode) string {
	if names := deliveryModes(); m >= 0 && int(m) < len(names) {
		return names[m]
	}
	return m.String()
}

// Defaults and bounds of a subscriber's options.
const (
	DefaultWindow      = 16
	MaxWindow          = 1024
	MaxRate            = 100_000
	MinRate            = 0.001
	MaxGroupBytes      = 128
	maxKeyBytes        = 256
	maxRetryAttempts   = 10_000
	maxRetryAge        = 30 * 24 * time.Hour
	maxRetryInterval   = 24 * time.Hour
	maxRetryWaits      = 16
	contentTypeHeader  = "Content-Type"
	headerKeyPrefix    = "header:"
	pointerKeyPrefix   = "json:"
	consumerGroupParam = "consumerGroup"
)

// Options are a subscriber's delivery options beyond WebSub. In each field, zero means the hub's default. They are
// immutable once a subscription has them.
type Options struct {
	Mode   DeliveryMode
	Window int    // parallel and keyed: messages in flight at once
	Key    string // keyed: header:<Name> or json:<JSON pointer> (RFC 6901)
	Group  string // consumer group, empty: none

	Rate            float64 // messages per second, 0: no limit
	MaxAttempts     int     // per message, 0: the hub's; likewise below
	RefusedAttempts int
	MaxAge          time.Duration
	MaxInterval     time.Duration
	// Schedule lists the waits before retries in whole seconds, separated by commas (5,300,1800); empty: the hub's.
	// It is a string so that options compare with ==; Waits parses it. It excludes MaxInterval.
	Schedule string
	// Reference: messages come as references to their content, see TopicContent.
	Reference bool
}

// Waits returns the retry schedule, or nil for the hub's.
func (o *Options) Waits() []time.Duration {
	var waits []time.Duration
	for _, n := range o.scheduleSeconds() {
		waits = append(waits, time.Duration(n)*time.Second)
	}
	return waits
}

func (o *Options) scheduleSeconds() []uint32 {
	if o.Schedule == "" {
		return nil
	}
	var out []uint32
	for text := range strings.SplitSeq(o.Schedule, ",") {
		n, _ := strconv.ParseUint(text, 10, 32) // written by scheduleText
		out = append(out, uint32(n))
	}
	return out
}

func scheduleText(seconds []uint32) string {
	var b []byte
	for i, n := range seconds {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	return string(b)
}

// SameOrder reports whether two subscriptions can share a cursor, since everything that affects their order is equal.
func (o *Options) SameOrder(p *Options) bool {
	return o.Mode == p.Mode && o.Window == p.Window && o.Key == p.Key
}

func (o *Options) order() Options { return Options{Mode: o.Mode, Window: o.Window, Key: o.Key} }

// pb returns nil if everything is the hub's default, so that most rows store nothing.
func (o *Options) pb(start string) *hubpb.SubscriptionOptions {
	if *o == (Options{}) && start == "" {
		return nil
	}
	return &hubpb.SubscriptionOptions{Start: start, Mode: o.Mode, Window: uint32(o.Window), Key: o.Key, Group: o.Group,
		Rate: o.Rate, MaxAttempts: uint32(o.MaxAttempts), RefusedAttempts: uint32(o.RefusedAttempts),
		MaxAgeSeconds: uint32(o.MaxAge / time.Second), MaxIntervalSeconds: uint32(o.MaxInterval / time.Second),
		RetryScheduleSeconds: o.scheduleSeconds(), ContentByReference: o.Reference}
}

func optionsFromPB(p *hubpb.SubscriptionOptions) Options {
	return Options{Mode: p.GetMode(), Window: int(p.GetWindow()), Key: p.GetKey(), Group: p.GetGroup(), Rate: p.GetRate(),
		MaxAttempts: int(p.GetMaxAttempts()), RefusedAttempts: int(p.GetRefusedAttempts()),
		MaxAge:      time.Duration(p.GetMaxAgeSeconds()) * time.Second,
		MaxInterval: time.Duration(p.GetMaxIntervalSeconds()) * time.Second, Schedule: scheduleText(p.GetRetryScheduleSeconds()),
		Reference: p.GetContentByReference()}
}

// shared returns nil for the defaults, which then take no memory.
func (o Options) shared() *Options {
	if o == (Options{}) {
		return nil
	}
	return &o
}

// parseOptions parses the delivery options beyond WebSub.
func (r *SubscribeRequest) parseOptions(form url.Values) error {
	if err := r.parseStart(form); err != nil {
		return err
	}
	if err := r.parseMode(form); err != nil {
		return err
	}
	if err := r.parseGroup(form); err != nil {
		return err
	}
	if err := r.parseContent(form); err != nil {
		return err
	}
	o := &r.Options
	var err error
	if text, given, err := optional(form, "hub.rate"); err != nil {
		return err
	} else if given {
		o.Rate, err = strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(o.Rate) || o.Rate < MinRate || o.Rate > MaxRate {
			return ParamErrorf("hub.rate", "is %s; expected messages per second, from %v to %d", quote(text), MinRate, MaxRate)
		}
	}
	if o.MaxAttempts, err = wholeNumber(form, "hub.retry.max_attempts", maxRetryAttempts, "attempts"); err != nil {
		return err
	}
	if o.RefusedAttempts, err = wholeNumber(form, "hub.retry.refused_attempts", maxRetryAttempts, "attempts"); err != nil {
		return err
	}
	age, err := wholeNumber(form, "hub.retry.max_age", int(maxRetryAge/time.Second), "seconds")
	if err != nil {
		return err
	}
	const intervalParam = "hub.retry.max_interval"
	interval, err := wholeNumber(form, intervalParam, int(maxRetryInterval/time.Second), "seconds")
	if err != nil {
		return err
	}
	o.MaxAge, o.MaxInterval = time.Duration(age)*time.Second, time.Duration(interval)*time.Second
	if o.Schedule, err = parseSchedule(form); err == nil && o.Schedule != "" && interval > 0 {
		return ParamErrorf(scheduleParam, "excludes %s; expected only one of them", intervalParam)
	}
	return err
}

const scheduleParam = "hub.retry.schedule"

// parseSchedule parses the waits before retries; it returns "" if none are given.
func parseSchedule(form url.Values) (string, error) {
	text, given, err := optional(form, scheduleParam)
	if err != nil || !given {
		return "", err
	}
	var seconds []uint32
	for item := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(item), 10, 32)
		if err != nil || n < 1 || n > uint64(maxRetryInterval/time.Second) || len(seconds) == maxRetryWaits {
			return "", ParamErrorf(scheduleParam, "is %s; expected up to %d waits in seconds from 1 to %d, separated by commas, such as 5,300,1800",
				quote(text), maxRetryWaits, maxRetryInterval/time.Second)
		}
		seconds = append(seconds, uint32(n))
	}
	return scheduleText(seconds), nil
}

func (r *SubscribeRequest) parseStart(form url.Values) error {
	const start = "hub.start"
	text, given, err := optional(form, start)
	if err != nil || !given {
		return err
	}
	p, err := ParsePosition(start, text)
	r.Start = &p
	return err
}

// parseMode parses mode, window and key. A key alone means keyed, a window alone parallel.
func (r *SubscribeRequest) parseMode(form url.Values) error {
	const modeParam, windowParam, keyParam = "hub.delivery_mode", "hub.delivery_window", "hub.delivery_key"
	o := &r.Options
	name, named, err := optional(form, modeParam)
	if err != nil {
		return err
	}
	window, err := wholeNumber(form, windowParam, MaxWindow, "messages")
	if err != nil {
		return err
	}
	key, keyGiven, err := optional(form, keyParam)
	if err != nil {
		return err
	}
	switch {
	case named:
		i := slices.Index(deliveryModes(), name)
		if i < 0 {
			return ParamErrorf(modeParam, "is %s; expected ordered, parallel or keyed", quote(name))
		}
		o.Mode = DeliveryMode(i)
	case keyGiven:
		o.Mode = DeliveryKeyed
	case window > 1:
		o.Mode = DeliveryParallel
	}
	switch {
	case o.Mode == DeliveryOrdered && window > 1:
		return ParamErrorf(windowParam, "is %d with %s=ordered, which has one message in flight at a time; expected 1, or %s=parallel or keyed", window, modeParam, modeParam)
	case o.Mode != DeliveryKeyed && keyGiven:
		return ParamErrorf(keyParam, "requires %s=keyed, not %s", modeParam, name)
	case o.Mode == DeliveryKeyed && !keyGiven:
		return ParamErrorf(keyParam, "is missing; %s=keyed requires header:<Name> or json:<JSON pointer>", modeParam)
	case o.Mode == DeliveryOrdered:
		return nil
	}
	if o.Window = window; window == 0 {
		o.Window = DefaultWindow
	}
	if keyGiven {
		o.Key, err = parseKey(keyParam, key)
	}
	return err
}

// parseKey validates a delivery key and puts a header name into canonical form.
func parseKey(param, text string) (string, error) {
	if len(text) > maxKeyBytes {
		return "", ParamErrorf(param, "is %d bytes long; at most %d are accepted", len(text), maxKeyBytes)
	}
	if name, ok := strings.CutPrefix(text, headerKeyPrefix); ok && name != "" {
		return headerKeyPrefix + textproto.CanonicalMIMEHeaderKey(name), nil
	}
	if pointer, ok := strings.CutPrefix(text, pointerKeyPrefix); ok && validPointer(pointer) {
		return text, nil
	}
	return "", ParamErrorf(param, "is %s; expected header:<Name> such as header:X-Hub-Key, or json:<JSON pointer> such as json:/order/id", quote(text))
}

// validPointer reports whether p is a valid JSON pointer (RFC 6901 section 3).
func validPointer(p string) bool {
	if p != "" && p[0] != '/' {
		return false
	}
	for i := range len(p) {
		if p[i] == '~' && (i+1 == len(p) || p[i+1] != '0' && p[i+1] != '1') {
			return false
		}
	}
	return true
}

// KeyHeaders returns the publishers' headers that are kept with a message regardless of configuration: the hub's own,
// and those by which CloudEvents correlates events. A delivery key may also name Content-Type.
func KeyHeaders() []string { return []string{"X-Hub-Key", "Ce-Subject", "Ce-Partitionkey"} }

// KeyHeader returns the header that a delivery key names; ok is false if it names none.
func KeyHeader(key string) (name string, ok bool) { return strings.CutPrefix(key, headerKeyPrefix) }

// KeyPointer returns the JSON pointer in a delivery key; ok is false if it has none.
func KeyPointer(key string) (pointer string, ok bool) {
	return strings.CutPrefix(key, pointerKeyPrefix)
}

// parseGroup parses the consumer group, also under the parameter name that Kafka-based hubs use.
func (r *SubscribeRequest) parseGroup(form url.Values) error {
	const param = "hub.consumer_group"
	name, given, err := optional(form, param)
	if err != nil {
		return err
	}
	plain, plainGiven, err := optional(form, consumerGroupParam)
	if err != nil {
		return err
	}
	switch {
	case given && plainGiven && name != plain:
		return ParamErrorf(param, "is %s and %s is %s; expected one group", quote(name), consumerGroupParam, quote(plain))
	case plainGiven && plain == "": // in Kafka-based hubs an empty field means none
		return nil
	case plainGiven:
		name = plain
	case !given:
		return nil
	}
	if name == "" || len(name) > MaxGroupBytes || strings.IndexFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f }) >= 0 {
		return ParamErrorf(param, "is %s; expected a name of 1 to %d bytes without spaces", quote(name), MaxGroupBytes)
	}
	r.Options.Group = name
	return nil
}

func optional(form url.Values, param string) (text string, given bool, err error) {
	text, err = single(form, param)
	return text, form.Has(param), err
}

// wholeNumber parses an optional number; it returns 0 if it is not given.
func wholeNumber(form url.Values, param string, most int, unit string) (int, error) {
	text, given, err := optional(form, param)
	if err != nil || !given {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most || text[0] == '+' {
		return 0, ParamErrorf(param, "is %s; expected %s from 1 to %d", quote(text), unit, most)
	}
	return n, nil
}

// maxHeaderBytes is the longest value of a header kept with a message.
const maxHeaderBytes = 255

// keptHeaders converts a publisher's headers for an event.
func keptHeaders(in []Header) ([]*hubpb.Header, error) {
	var out []*hubpb.Header
	for _, h := range in {
		if len(h.Value) > maxHeaderBytes {
			return nil, ParamErrorf(h.Name, "is %d bytes long; at most %d are kept with a message", len(h.Value), maxHeaderBytes)
		}
		out = append(out, &hubpb.Header{Name: h.Name, Value: strings.ToValidUTF8(h.Value, "\uFFFD"), Carried: h.Carried})
	}
	return out, nil
}

func headersFrom(in []*hubpb.Header) []Header {
	var out []Header
	for _, h := range in {
		out = append(out, Header{h.Name, h.Value, h.Carried})
	}
	return out
}
