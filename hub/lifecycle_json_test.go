package hub_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"quorumhub/hub"
)

// samples are lifecycle messages whose bytes are pinned: with every field, with as few as possible, and with all that
// an encoder may choose how to write.
func samples() map[string]hub.Lifecycle {
	var full hub.Lifecycle
	v := reflect.ValueOf(&full).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString(strings.ToLower(v.Type().Field(i).Name))
		case reflect.Int32:
			f.SetInt(int64(-i))
		default:
			f.SetUint(uint64(100 + i))
		}
	}
	full.Successor, full.DeprecatedAt, full.SunsetAt, full.Owner, full.KeyEndsAt = "", "", "", "", "" // later ones
	full.Session, full.Sessions = "", 0
	var ascii strings.Builder
	for c := range rune(128) {
		ascii.WriteRune(c)
	}
	few := hub.Lifecycle{ID: "1-1", Type: hub.LifecycleVerified, Time: "2026-11-01T12:00:00Z", Subscription: "s-1"}
	return map[string]hub.Lifecycle{
		"full":           full,
		"few":            few,
		"request":        {ID: "1-2", Type: hub.LifecycleUnverified, Request: "r-1", Mode: "subscribe", Reason: "timeout", Attempts: 3},
		"owned":          {ID: "1-4", Type: hub.LifecyclePaused, Subscription: "s-1", Reason: "owner_ended", Owner: "issuer:idp/a<b>"},
		"ascii":          {Subscription: "s-1", Topic: ascii.String()},
		"html":           {Subscription: "s-1", Callback: `https://h/cb?a=1&b=<script>"\'`},
		"unicode":        {Subscription: "s-1", Topic: "grüße/日本/🚀\u2028\u2029\ufffd\u00a0\ufeff"},
		"not utf-8":      {Subscription: "s-1", Topic: "a\xffb\xc3\x28c\xed\xa0\x80d\xe2\x80"},
		"greatest":       {Subscription: "s-1", Cursor: 1<<64 - 1, Status: -1 << 31, Attempts: 1<<32 - 1},
		"nothing at all": {},
		"key":            {ID: "1-5", Type: hub.LifecycleKeyEnding, Subscription: "s-1", KeyEndsAt: "2026-12-31T00:00:00Z", Reason: "month"},
		"session":        {ID: "1-6", Type: hub.LifecycleSessionEnded, Time: "2026-11-01T12:00:00Z", Session: "0123456789ab", Sessions: 1, Reason: "logout", Owner: "issuer:idp/1"},
		"topic": {ID: "1-3", Type: hub.LifecycleTopicDeprecated, Time: "2026-11-01T12:00:00Z", Topic: "orders", Successor: "orders/v2",
			DeprecatedAt: "2026-11-01T12:00:00Z", SunsetAt: "2027-06-30T00:00:00Z"},
	}
}

// The bytes of a message that the fold writes depend on nothing but this program: two nodes built with different
// versions of Go write the same. The files were written by encoding/json of Go 1.26, as releases before did.
func TestGoldenLifecycle(t *testing.T) {
	for name, e := range samples() {
		file := filepath.Join("testdata", "golden", "lifecycle", strings.ReplaceAll(name, " ", "-")+".json")
		want, err := os.ReadFile(file)
		if os.IsNotExist(err) && *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, append(e.JSON(), '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := append(e.JSON(), '\n'); !bytes.Equal(got, want) {
			t.Errorf("%s is written as\n%swant\n%s", name, got, want)
		}
	}
}

// FuzzLifecycleJSON: whatever a topic or callback contains, the message is JSON that says it.
func FuzzLifecycleJSON(f *testing.F) {
	for _, e := range samples() {
		f.Add(e.Topic, e.Callback, e.Reason, e.Cursor, e.Status)
	}
	f.Fuzz(func(t *testing.T, topic, callback, reason string, cursor uint64, status int32) {
		in := hub.Lifecycle{ID: "1-1", Subscription: "s-1", Topic: topic, Callback: callback, Reason: reason, Cursor: cursor, Status: status}
		var out hub.Lifecycle
		if err := json.Unmarshal(in.JSON(), &out); err != nil {
			t.Fatalf("%s: %v", in.JSON(), err)
		}
		if runes(out.Topic) != runes(topic) || runes(out.Callback) != runes(callback) || runes(out.Reason) != runes(reason) || out.Cursor != cursor || out.Status != status {
			t.Errorf("%+v was written as %s", in, in.JSON())
		}
	})
}

// runes returns s with every byte that is not UTF-8 replaced.
func runes(s string) string { return string([]rune(s)) }
