package ticket_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/ticket"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

var start = time.Unix(1_800_000_000, 0)

// desk issues tickets and checks them.
type desk struct {
	ticket.Verifier
	*fake.Engine
	now    time.Time
	fallen bool // sessions do not go on although the log knows them
}

// Written implements ticket.Reads.
func (*desk) Written() uint64 { return 7 }

// AwaitIndex implements ticket.Reads.
func (*desk) AwaitIndex(context.Context, uint64) error { return nil }

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{Engine: fake.NewEngine(t), now: start}
	d.Verifier = ticket.Verifier{Sealer: ticket.Sealer{Box: binding{}, Now: func() time.Time { return d.now }}, State: d.Engine, Reads: d, Alive: func([32]byte) (time.Time, bool) { return time.Time{}, !d.fallen }}
	return d
}

// binding seals by naming what it is bound to, so that a test sees what is.
type binding struct{}

func (binding) Seal(secret []byte, bound string) ([]byte, error) {
	return append([]byte(bound+"|"), secret...), nil
}

func (binding) Open(sealed []byte, bound string) ([]byte, error) {
	if rest, ok := strings.CutPrefix(string(sealed), bound+"|"); ok {
		return []byte(rest), nil
	}
	return nil, errors.New("sealed for something else")
}

func full() *ticket.Ticket {
	return &ticket.Ticket{Grant: hub.GrantID{1, 2}, Generation: 3, Client: ticket.Terminal, Expires: start.Add(time.Minute),
		Holder: ticket.Holder{ID: "issuer:idp/alice", Name: "Alice", Authority: "idp", Subject: "alice", User: "al", Client: "c", Scopes: []string{"s"}, Roles: []string{"r"}},
		Scopes: []string{"openid"}, Claims: map[string]any{"groups": []any{"a"}}, AuthTime: start, AMR: []string{"pwd"}, Written: 7,
		Session: hub.SessionID{9}, Ends: start.Add(time.Hour), Redirect: "https://app.example/", Challenge: "c", Nonce: "n"}
}

// A ticket says on any node what it was sealed with, and only as what it was made for.
func TestTicketsKeepWhatTheySay(t *testing.T) {
	d := newDesk(t)
	kinds := []ticket.Kind{ticket.Code, ticket.Access, ticket.Refresh}
	for _, k := range kinds {
		text, _, err := d.Seal(k, full())
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Open(k, text)
		if err != nil || !reflect.DeepEqual(got, full()) {
			t.Errorf("%s: got %+v, %v", k, got, err)
		}
		for _, other := range kinds {
			if _, err := d.Open(other, text); k != other && !errors.Is(err, ticket.ErrInvalid) {
				t.Errorf("%s is taken for %s", k, other)
			}
			if _, err := d.Open(other, string(other)+strings.TrimPrefix(text, string(k))); k != other && !errors.Is(err, ticket.ErrInvalid) {
				t.Errorf("%s that calls itself %s is taken for it", k, other)
			}
		}
		for _, bad := range []string{"", string(k), text + "=", text[:len(text)-3], text + "!", " " + text, text + strings.Repeat("A", ticket.MaxBytes)} {
			if _, err := d.Open(k, bad); !errors.Is(err, ticket.ErrInvalid) {
				t.Errorf("%.40q: %v", bad, err)
			}
		}
		d.now = start.Add(time.Minute)
		if _, err := d.Open(k, text); !errors.Is(err, ticket.ErrInvalid) || !strings.Contains(err.Error(), "expired") {
			t.Errorf("%s after its time: %v", k, err)
		}
		d.now = start
	}
	large := full()
	large.Claims["groups"] = slices.Repeat([]string{"a group with a long name"}, 400)
	if _, _, err := d.Seal(ticket.Code, large); err == nil || !strings.Contains(err.Error(), "fewer claims") {
		t.Errorf("too large for a URL: %v", err)
	}
}

// Only the hub's own access tokens are somebody at the API, and only while their grant lives.
func TestAccessTokensAtTheAPI(t *testing.T) {
	d := newDesk(t)
	full := full()
	id, now := full.Session, time.Now()
	d.now, full.Expires, full.Ends = now, now.Add(time.Minute), now.Add(time.Hour).Truncate(time.Second)
	d.Do(&hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}},
		&hubpb.Event{Kind: &hubpb.Event_SessionStarted{SessionStarted: &hubpb.SessionStarted{Id: id[:], Principal: "issuer:idp/alice", Ends: full.Ends.UnixNano(),
			Passed: []*hubpb.PassedStep{{Authenticator: "idp", At: now.UnixNano()}}}}},
		&hubpb.Event{Kind: &hubpb.Event_GrantAdvanced{GrantAdvanced: &hubpb.GrantAdvanced{Grant: full.Grant[:], Session: id[:], Client: ticket.Terminal, Until: full.Ends.UnixNano()}}},
		&hubpb.Event{Kind: &hubpb.Event_GrantAdvanced{GrantAdvanced: &hubpb.GrantAdvanced{Grant: slices.Repeat([]byte{8}, 16), Session: id[:], Client: "shop", Until: full.Ends.UnixNano()}}})
	text := func(change func(*ticket.Ticket)) string {
		one := *full
		change(&one)
		text, _, err := d.Seal(ticket.Access, &one)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := text(func(*ticket.Ticket) {})
	at := auth.NewTickets(d)
	ask := func(lines ...string) (*auth.Principal, error) {
		return at.Authenticate(t.Context(), &auth.Request{HTTP: &http.Request{Header: http.Header{"Authorization": lines}}})
	}
	p, err := ask("Bearer " + good)
	if err != nil || p.ID != "issuer:idp/alice" || p.Method != auth.MethodSession || p.Authority != "idp" || !p.HasRole("r") || len(p.Passed) != 1 || p.Passed[0].Authenticator != "idp" || !p.Until.Equal(full.Ends) {
		t.Fatalf("got %+v, %v", p, err)
	}
	var refusal *auth.RefusalError
	for name, header := range map[string][]string{
		"an application's":   {"Bearer " + text(func(o *ticket.Ticket) { o.Client, o.Grant = "shop", hub.GrantID(slices.Repeat([]byte{8}, 16)) })},
		"of another's grant": {"Bearer " + text(func(o *ticket.Ticket) { o.Grant = hub.GrantID(slices.Repeat([]byte{8}, 16)) })},
		"of another grant":   {"Bearer " + text(func(o *ticket.Ticket) { o.Grant = hub.GrantID{9} })},
		"expired":            {"Bearer " + text(func(o *ticket.Ticket) { o.Expires = now.Add(-time.Second) })},
		"nobody's":           {"Bearer " + text(func(o *ticket.Ticket) { o.Holder.Subject = "" })},
		"forged":             {"Bearer qht_AAAA"},
		"with another":       {"Bearer " + good, "Bearer x"},
	} {
		if p, err := ask(header...); !errors.As(err, &refusal) {
			t.Errorf("%s: got %+v, %v", name, p, err)
		}
	}
	for _, header := range []string{"Bearer qhk_0123456789ab_x", "Basic qht_x", "Bearer eyJ.e.e"} {
		if _, err := ask(header); !errors.Is(err, auth.ErrNotMine) {
			t.Errorf("%s: %v", header, err)
		}
	}
	d.now = now.Add(2 * time.Minute) // the token has expired, and what it began goes on
	if _, err := p.Again(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
	d.fallen = true
	if _, err := p.Again(t.Context()); !errors.As(err, &refusal) || d.Renewable(full) {
		t.Errorf("again although its identity provider is gone from auth.file: %v", err)
	}
	d.fallen = false
	d.Do(&hubpb.Event{Kind: &hubpb.Event_SessionsEnded{SessionsEnded: &hubpb.SessionsEnded{Ids: [][]byte{id[:]}}}})
	if _, err := p.Again(t.Context()); !errors.As(err, &refusal) {
		t.Errorf("again after the session has ended: %v", err)
	}
}
