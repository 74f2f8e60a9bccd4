package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/configs"
	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
	"quorumhub/web"
	"quorumhub/web/gateway/topics"
	"quorumhub/web/sse"
)

// Options configures a Node. All fields are required.
type Options struct {
	Config *configs.Config
	Log    *slog.Logger
	Lines  *LogWriter // what Log writes to
	// Level is the level of Log. A reload sets it.
	Level *slog.LevelVar
	// Reread reads the configuration again.
	Reread func() (*configs.Config, error)
	// Warnings are further ones, about how the configuration was found.
	Warnings []string
}

// Open brings a node to the point where it can serve: files verified, log replayed, cluster joined. A fresh node with peers waits
// for them. Open releases everything if it fails.
func Open(ctx context.Context, o Options) (_ *Node, err error) {
	given, log := *o.Config, o.Log // its own, because it notes the address that it listens on
	cfg := &given
	n := &Node{cfg: cfg, log: log, fatal: make(chan error, 2), damaged: make(chan error, 1), unfit: make(chan error, 1), systemd: &supervisor{log: log}}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.abandon(ctx))
		}
	}()
	in, err := readInputs(cfg, log)
	if err != nil {
		return nil, err
	}
	for _, w := range append(in.warnings(time.Now()), o.Warnings...) {
		log.Warn(w)
	}
	if n.https, n.rules = in.https, in.rules; n.https != nil {
		if n.secure, err = n.https.Config(); err != nil {
			return nil, err
		}
	}
	if err := n.openFiles(ctx, in); err != nil {
		return nil, err
	}
	namer, err := hub.NewTopicNamer(cfg.PublicURL(), append(n.localURLs(), cfg.HTTP.AliasURLs...)...)
	if err != nil {
		return nil, err
	}
	if cfg.Hub.Profile != string(web.ProfileNative) {
		namer.TakeBareNames()
	}
	id, own := in.id, n.ownAddresses()
	if in.access != nil {
		n.access = newAccessControl(cfg, in.access, own, log)
		if err := n.access.open(); err != nil {
			return nil, err
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newBuildInfo(), o.Lines.metric())
	late := NewLateNode()
	if n.clients, err = newOutboundClients(cfg, own, n.rules); err != nil {
		return nil, err
	}
	namer.RecogniseOwn(leadsHere(n.clients.topics.Policy()))
	n.policies = topics.New(topics.Options{Callers: &topicCallers{n}, MaxBytes: int64(cfg.Message.MaxBytes), Log: log})
	n.out = NewOutbound(OutboundOptions{Config: cfg, Log: log, Node: id, Namer: namer, Store: n.store, Raft: late,
		Secrets: n.keys.Ring(), Registry: registry, Callbacks: n.clients.callbacks, Topics: n.clients.topics, Policies: n.policies, Recipients: n.policies, References: n.referenceKeys})
	members := &memberURLs{id: id, namer: namer, store: n.store}
	n.store.Observe(members)
	n.store.OnInstall(members.load)
	members.load()
	feed := n.observeLog(id, late)
	if n.raft, err = n.openRaft(ctx, in); err != nil {
		return nil, err
	}
	if n.first, err = n.firstRegistry(); err != nil {
		return nil, err
	}
	n.view.node = n.raft
	n.deliveries.ask, n.usage.ask = n.raft.Call, n.raft.Call
	late.Set(n.raft)
	registry.MustRegister(newNodeCollector(n.raft, n.store))
	if n.guard, err = n.newService(namer); err != nil {
		return nil, err
	}
	n.reloads = newReloader(n, &o)
	if n.login, err = n.newLogin(); err != nil {
		return nil, err
	}
	if n.server, err = web.New(n.webOptions(feed, registry)); err != nil {
		return n, err
	}
	n.gateway.server.Store(n.server)
	n.figures.open()
	return n, nil
}

// openFiles binds the addresses and locks the data directory first, so that a second node on any of them fails immediately.
func (n *Node) openFiles(ctx context.Context, in *inputs) error {
	taken, err := takePlaces(ctx, n.cfg)
	n.listener, n.cluster = taken.http, taken.cluster
	if err != nil {
		return err
	}
	n.cfg.HTTP.Addr = addrOf(n.listener)
	if n.lock, err = LockDataDir(n.cfg.DataDir); err != nil {
		return err
	}
	if n.removePID, err = writePID(n.cfg.PIDFile); err != nil {
		return err
	}
	if n.keys = in.keys; n.keys == nil {
		if n.keys, err = OpenKeys(n.cfg, true); err != nil {
			return err
		}
	}
	n.store, err = store.Open(store.Options{
		Dir:           filepath.Join(n.cfg.DataDir, FSMDir),
		FlushInterval: n.cfg.Storage.FlushInterval,
		SegmentBytes:  int64(n.cfg.Storage.SegmentBytes),
		RetainBytes:   int64(n.cfg.Retention.MaxBytes),
		RetainAge:     n.cfg.Retention.MaxAge,
		TailBytes:     int64(n.cfg.Storage.TailBytes),
		Logger:        n.log,
		Fatal:         n.fail,
		Damaged:       n.reportDamage,
	})
	return err
}

// ownAddresses returns the addresses where this node listens, or would listen in a cluster.
func (n *Node) ownAddresses() []string {
	own := []string{n.cfg.Cluster.Addr}
	if _, ok := n.listener.Addr().(*net.TCPAddr); ok {
		own = append(own, n.listener.Addr().String())
	}
	if n.cluster != nil {
		own = append(own, n.cluster.Addr().String())
	}
	return own
}

// observeLog registers everything that observes applied events. It must run before the log is replayed.
func (n *Node) observeLog(id string, late *LateNode) *sse.Feed {
	n.store.Observe(n.out.Observer())
	n.store.OnInstall(n.out.Reload)
	feed := sse.NewFeed()
	n.store.Observe(feed)
	n.store.OnInstall(func() { feed.Reload(n.store) })
	n.view = &clusterView{id: id, httpAddr: n.cfg.HTTP.Addr, clusterAddr: n.cfg.Cluster.Addr, weight: n.cfg.Cluster.Weight, store: n.store}
	n.gateway = newGatewaySource(func() *hub.Service { return n.service }, n.log)
	n.store.Observe(n.gateway)
	n.store.OnInstall(n.gateway.reload)
	n.view.gateway = n.gateway.hash
	n.figures = &nodeFigures{n: n}
	n.usage = &gatewayUsage{id: id, nodes: (&keyHolders{n}).NodeIDs, local: n.gateway.used}
	n.deliveries = &deliveries{id: id, dispatcher: n.out.dispatcher, sender: n.out.sender, store: n.store}
	n.keeper = keyring.NewKeeper(keyring.KeeperOptions{Node: id, Keys: n.keys, State: n.store, Proposer: late, Cluster: &keyHolders{n},
		Flush: n.store.Flush, Unfit: func(err error) { n.unfit <- err }, Log: n.log})
	n.store.Observe(n.keeper)
	n.store.OnInstall(n.keeper.Reload)
	return feed
}

// openRaft opens the log. A fresh node with peers waits here until they form or admit it to a cluster; meanwhile the waiting room
// answers its callers.
func (n *Node) openRaft(ctx context.Context, in *inputs) (*raftlog.Node, error) {
	o := raftlog.Options{ID: in.id, Dir: n.cfg.DataDir, Address: n.cfg.Cluster.Addr, Store: n.store,
		MinFreeBytes:  int64(n.cfg.Storage.MinFreeBytes),
		SnapshotBytes: int64(n.cfg.Storage.LogBytes), TrailingBytes: int64(n.cfg.Storage.LogBytes), Logger: n.log, Fatal: n.fail}
	if n.cluster == nil {
		return raftlog.Open(ctx, o)
	}
	c, secrets := &n.cfg.Cluster, n.keys.Ring()
	o.Listener, o.Token, o.Shared, o.Describe = n.cluster, c.Token, secrets.ID(), n.view.describe
	o.Nonvoter, o.ListedOnly = !c.Voter, c.Admission == "listed"
	o.Autopilot = raftlog.Autopilot{Stabilization: c.Autopilot.Stabilization, CleanupDead: c.Autopilot.CleanupDead, MinVoters: c.Autopilot.MinVoters}
	o.URLs, o.Settings = announcedURLs(n.cfg), sharedSettings(n.cfg)
	o.HandleCall = (&questions{n.deliveries, n.keeper, n.usage, n.figures}).answer
	o.Keys = secrets.IDs
	o.Secrets = func() [][]byte { return secrets.Derived("quorumhub cluster port") }
	n.cluster = nil
	for _, p := range c.Peers {
		o.Peers = append(o.Peers, raftlog.Peer{ID: p.ID, Address: p.Addr})
	}
	o.TLS = clusterTLS(n.cfg)
	w := newWaitingRoom(n.listener, n.secure)
	defer w.close()
	if !in.used() {
		// Whoever starts the nodes one after another must not wait for the first one to serve. From here on the watchdog counts.
		n.systemd.ready("waiting for the other nodes of the cluster")
		waiting, end := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			n.systemd.watch(waiting, func(context.Context) error { return nil })
		}()
		defer func() { end(); <-ended }()
	}
	return raftlog.Open(ctx, o)
}

// maxPendingRequests bounds the requests that wait for verification, over all callers: a flood must not fill the state.
const maxPendingRequests = 100_000

// newService makes the domain with the configured policy, and returns the guard of its callers, which is nil without access control.
func (n *Node) newService(namer *hub.TopicNamer) (guard *auth.Guard, err error) {
	cfg := n.cfg
	policy := hub.Policy{
		Leases:            hub.LeasePolicy{Min: cfg.Hub.Lease.Min, Default: cfg.Hub.Lease.Default, Max: cfg.Hub.Lease.Max},
		MaxPending:        maxPendingRequests,
		AutoRegister:      cfg.Topics.AutoRegister || cfg.Hub.Profile == string(web.ProfileMOSIP),
		KeepExtra:         cfg.Hub.Profile != string(web.ProfileNative),
		MaxMessageBytes:   int64(cfg.Message.MaxBytes),
		KeyHeaders:        append(hub.KeyHeaders(), cfg.Message.KeyHeaders...),
		SubscriberHeaders: cfg.Hub.SubscriberHeaders,
		SecretGrace:       cfg.Hub.SecretGrace,
		Retention:         hub.Retention{MaxAge: &cfg.Retention.MaxAge, MaxBytes: (*int64)(&cfg.Retention.MaxBytes)},

		IdempotencyWindow: cfg.Message.IdempotencyWindow,

		CheckCallback: n.clients.callbacks.Policy().CheckURL,
		Callbacks:     callbackBounds{n.out.verifier},
		CheckTopic:    n.clients.topics.Policy().CheckURL,
		Clock:         n.raft.Clock(),
		Parts:         n.store,
		Topics:        n.policies,
	}
	if n.access != nil {
		n.access.routes = n.stepsOfRoutes
		guard, err = n.access.wire(n.store, func() *hub.Service { return n.service }, n.keys.Ring(), n.raft, n.raft.ID())
		if err != nil {
			return nil, err
		}
		guard.Apply(&policy)
		n.view.issuers = n.access.notReady
	}
	policy.GatewayChecker = &gatewayChecker{guard: guard, state: n.store, namer: namer, autoRegister: policy.AutoRegister, own: leadsHere(n.clients.topics.Policy())}
	n.service = hub.NewService(policy, namer, n.raft, n.store, n.keys.Ring())
	return guard, nil
}

func (n *Node) webOptions(feed *sse.Feed, registry *prometheus.Registry) web.Options {
	cfg := n.cfg
	return web.Options{Service: n.service, State: n.store, Messages: n.store, Letters: n.store, Times: n.store, Feed: feed,
		Node: n.view, Membership: n.view, Reads: n.raft, Deliveries: n.deliveries, Backups: &nodeBackups{n.raft, n.store, n.keys.Ring()},
		Keys:       n.keeper,
		References: n.referenceKeys, Policies: n.policies,
		Gateway:   &gatewayView{n.gateway, n.usage},
		Services:  &web.ServiceOptions{Source: n.gateway, Transports: upstreamTransports(n.ownAddresses()), Loaded: n.policies.Load, TokenKeys: n.keys.Ring()},
		Parts:     n.store,
		Notices:   n.out.notices,
		StreamMax: cfg.Streams.Max, StreamHeartbeat: cfg.Streams.Heartbeat,
		PublicURL: cfg.PublicURL(), Version: programVersion(), Log: n.log, Registry: registry, Profiling: cfg.Debug.Pprof,
		Clock: n.raft.Clock(), Warnings: n.warnings, Figures: n.figures,
		CORSOrigins: cfg.HTTP.CORSOrigins, Tickets: n.keys.Ring(),
		TrustedProxies: cfg.HTTP.TrustedProxies, Limits: requestLimits(cfg),
		ClientConnections: cfg.Limits.Connections, ClientStreams: cfg.Limits.Streams,
		Guard: n.guard, Login: n.login, Sequences: n.explainer(), KeepNotAllowed: cfg.Auth.OnRuleRemoved == "keep", TLS: n.secure, Profile: web.Profile(cfg.Hub.Profile), CompactJSON: cfg.Hub.CompactJSON}
}

// abandon releases what a node has acquired whose Open failed.
func (n *Node) abandon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBound)
	defer cancel()
	var errs []error
	if n.raft != nil {
		errs = append(errs, n.raft.Close(ctx))
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	if n.removePID != nil {
		n.removePID()
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	for _, l := range []net.Listener{n.listener, n.cluster} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}
