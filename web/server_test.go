package web_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
	"quorumhub/web/view"
)

var errWithPath = errors.New("write /var/lib/hub/raft.db: input/output error")

const publicURL = "https://hub.example.net"

// node is a view.Cluster with settable answers.
type node struct {
	mu       sync.Mutex
	notReady []string
	alive    error
	nodes    []view.Node
	leader   string
}

func (n *node) ID() string                      { return "node-1" }
func (n *node) LeaderID() string                { return n.leader }
func (n *node) FeatureLevel() uint32            { return 1 }
func (n *node) Nodes() []view.Node              { return n.nodes }
func (n *node) Owner(hub.SubscriptionID) string { return "node-1" }
func (n *node) InTouch() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leader != ""
}
func (n *node) NotReady() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notReady
}
func (n *node) Alive() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.alive
}

// fixture is a server on an in-memory ledger.
type fixture struct {
	*web.Server
	ledger *ledger
	clock  *clock
	node   *node
	logged *strings.Builder
}

func newFixture(tb testing.TB, change ...func(*hub.Policy, *web.Options)) *fixture {
	tb.Helper()
	return newFixtureAt(tb, publicURL, change...)
}

// newFixtureAt makes a fixture with another public URL.
func newFixtureAt(tb testing.TB, at string, change ...func(*hub.Policy, *web.Options)) *fixture {
	tb.Helper()
	f := &fixture{clock: newClock(), logged: &strings.Builder{}}
	f.ledger = newLedger(f.clock)
	f.node = &node{leader: "node-1", nodes: []view.Node{{ID: "node-1", HTTPAddr: "127.0.0.1:8080", ClusterAddr: "127.0.0.1:8180",
		Role: view.RoleLeader, AppliedIndex: 7, StateHash: 0xabc, Subscriptions: 3, Voter: true, Healthy: true, LastContact: -1, Weight: 2}}}
	rules := hub.Policy{Leases: hub.LeasePolicy{Min: time.Minute, Default: 240 * time.Hour, Max: 720 * time.Hour},
		AutoRegister: true, MaxMessageBytes: 4096,
		CheckCallback: func(u *url.URL) error {
			if u.Hostname() == "forbidden.example" {
				return errors.New("the address is not allowed")
			}
			return nil
		}}
	o := web.Options{State: f.ledger, Messages: f.ledger, Letters: f.ledger, Parts: f.ledger, Times: f.ledger, Feed: f.ledger.feed, Node: f.node, PublicURL: at, Version: "test", Tickets: secrets{}, Clock: f.clock,
		Log: slog.New(slog.NewTextHandler(f.logged, nil))}
	for _, c := range change {
		c(&rules, &o)
	}
	namer, err := hub.NewTopicNamer(at, "http://127.0.0.1:8080")
	if err != nil {
		tb.Fatal(err)
	}
	if o.Profile != "" && o.Profile != web.ProfileNative {
		namer.TakeBareNames()
	}
	o.Service = hub.NewService(rules, namer, f.ledger, f.ledger, secrets{})
	if f.Server, err = web.New(o); err != nil {
		tb.Fatal(err)
	}
	if o.Guard != nil { // as a cluster is founded
		level := &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}
		if _, err := f.ledger.Propose(context.Background(), &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: level}}); err != nil {
			tb.Fatal(err)
		}
	}
	return f
}

// send makes one request; header holds names and values in turn.
func (f *fixture) send(method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if r.Host == "example.com" { // as httptest has it for a path
		r.Host = "hub.example.net"
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

const formType = "application/x-www-form-urlencoded"

func (f *fixture) form(params ...string) *httptest.ResponseRecorder {
	return f.send(http.MethodPost, "/hub", encode(params...), "Content-Type", formType)
}

func encode(params ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		v.Add(params[i], params[i+1])
	}
	return v.Encode()
}

func publishURL(topic string) string {
	return "/hub?hub.mode=publish&hub.topic=" + url.QueryEscape(topic)
}

// want fails unless the answer has the status, and returns its body.
func want(tb testing.TB, w *httptest.ResponseRecorder, status int) string {
	tb.Helper()
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		tb.Fatal(err)
	}
	if w.Code != status {
		tb.Fatalf("got status %d with %q, want %d", w.Code, body, status)
	}
	return string(body)
}
