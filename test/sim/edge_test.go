package sim

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/cli/node"
	"quorumhub/configs"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
)

// local is a subscriber on the hub's own machine that can be away.
type local struct {
	policy *egress.Policy
	away   atomic.Bool
	mu     sync.Mutex
	got    []string
}

// Policy implements node.TopicClient.
func (l *local) Policy() *egress.Policy { return l.policy }

// RoundTrip implements http.RoundTripper.
func (l *local) RoundTrip(req *http.Request) (*http.Response, error) {
	if l.away.Load() {
		return nil, fmt.Errorf("dial %s: connection refused", req.URL.Host)
	}
	if req.Method == http.MethodGet {
		return response(req, http.StatusOK, []byte(req.URL.Query().Get("hub.challenge"))), nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, string(body))
	return response(req, http.StatusOK, nil), nil
}

// edgeSite is a hub with the sample's configuration: all rooms but web.
type edgeSite struct {
	store   *store.Store
	raft    *raftlog.Node
	out     *node.Outbound
	service *hub.Service
}

func openEdgeSite(ctx context.Context, dir string, l *local) (*edgeSite, error) {
	cfg, err := configs.Load(configs.Source{File: "../../configs/edge-site.yaml"})
	if err != nil {
		return nil, err
	}
	e := cfg.Delivery.Egress
	if l.policy, err = egress.NewPolicy(egress.PolicyOptions{Mode: egress.Mode(e.Mode), AllowCIDRs: e.AllowCIDRs}); err != nil {
		return nil, err
	}
	failed := func(err error) { panic(err) }
	s := &edgeSite{}
	if s.store, err = store.Open(store.Options{Dir: filepath.Join(dir, node.FSMDir), FlushInterval: cfg.Storage.FlushInterval,
		SegmentBytes: int64(cfg.Storage.SegmentBytes), RetainBytes: int64(cfg.Retention.MaxBytes), RetainAge: cfg.Retention.MaxAge,
		TailBytes: int64(cfg.Storage.TailBytes), Fatal: failed, Damaged: failed}); err != nil {
		return nil, err
	}
	namer, err := hub.NewTopicNamer(cfg.PublicURL())
	if err != nil {
		return nil, err
	}
	log, late := slog.New(slog.DiscardHandler), node.NewLateNode()
	s.out = node.NewOutbound(node.OutboundOptions{Config: cfg, Log: log, Node: "edge", Namer: namer, Store: s.store, Raft: late,
		Secrets: box{}, Registry: prometheus.NewRegistry(), Callbacks: l, Topics: l})
	s.store.Observe(s.out.Observer())
	if s.raft, err = raftlog.Open(ctx, raftlog.Options{ID: "edge", Dir: dir, Store: s.store, Logger: log, Fatal: failed}); err != nil {
		return nil, err
	}
	late.Set(s.raft)
	s.out.Start(ctx)
	lease := cfg.Hub.Lease
	s.service = hub.NewService(hub.Policy{Leases: hub.LeasePolicy{Min: lease.Min, Default: lease.Default, Max: lease.Max},
		AutoRegister: cfg.Topics.AutoRegister, MaxMessageBytes: int64(cfg.Message.MaxBytes), CheckCallback: l.policy.CheckURL, Clock: late}, namer, late, s.store, box{})
	return s, nil
}

// At the sample's edge site a subscriber on the same machine is away for two days and misses nothing.
func TestEdgeSiteMissesNothingInTwoDays(t *testing.T) {
	Bubble(t, func(t *testing.T, dir string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := &local{}
		site, err := openEdgeSite(ctx, dir, l)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.policy.CheckAddr(netip.MustParseAddrPort("127.0.0.1:9000"), "127.0.0.1"); err != nil {
			t.Fatalf("a callback on the same machine: %v", err)
		}
		form := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {"http://127.0.0.1:8080/topics/readings"}, "hub.callback": {"http://127.0.0.1:9000/readings"}}
		if _, err := site.service.Subscribe(ctx, form); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		var want []string
		publish := func() {
			body := fmt.Sprint(len(want))
			if _, err := site.service.Publish(ctx, hub.Publication{Topic: "readings", ContentType: "text/plain", Body: []byte(body)}); err != nil {
				t.Fatal(err)
			}
			want = append(want, body)
		}
		publish()
		time.Sleep(time.Second)
		l.away.Store(true)
		for range 48 {
			publish()
			time.Sleep(time.Hour)
		}
		l.away.Store(false)
		time.Sleep(time.Hour)
		l.mu.Lock()
		got := slices.Clone(l.got)
		l.mu.Unlock()
		if !slices.Equal(got, want) {
			t.Errorf("it got %d messages %v, want %d in order", len(got), got, len(want))
		}
		site.store.View(func(s *hub.State) {
			for _, sub := range s.Subscriptions(0, 0, nil) {
				if c := sub.Cursor; c.Gap != 0 || c.DeadLetters != 0 {
					t.Errorf("%d messages were dropped and %d given up", c.Gap, c.DeadLetters)
				}
			}
		})
		cancel()
		done, end := context.WithTimeout(context.Background(), time.Minute)
		defer end()
		_ = site.out.Close(done)
		_ = site.raft.Close(done)
		_ = site.store.Close()
	})
}
