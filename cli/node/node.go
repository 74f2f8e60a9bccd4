package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"quorumhub/auth"
	"quorumhub/configs"
	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
	"quorumhub/web"
)

// stopBound is how long an orderly stop may take before the rest is cut short.
const stopBound = 15 * time.Second

// handoverBound is how long a node that stops waits for deliveries under way, so that others can go on where it
// stopped. What is left then comes to rest by itself.
const handoverBound = 5 * time.Second

// LockFile is in every data directory that was ever used.
const (
	LockFile     = "lock"
	lockPatience = time.Second
)

// Node is one running hub: every room, wired. Open it, run it once.
type Node struct {
	cfg        *configs.Config
	log        *slog.Logger
	lock       *os.File
	listener   net.Listener
	cluster    net.Listener // nil without other nodes; the raft node takes it over
	store      *store.Store
	raft       *raftlog.Node
	clients    *outboundClients
	out        *Outbound
	access     *accessControl // nil: everybody may do everything
	secure     *tls.Config    // nil: plain HTTP
	server     *web.Server
	view       *clusterView
	deliveries *deliveries
	keys       *auth.KeyStore
	keeper     *auth.Keeper
	unfit      chan error // see auth.KeeperOptions
	damaged    chan error // see found
	fatal      chan error // the first failure after which nothing may be acknowledged
}

// Open brings a node up to the point where it can serve: files checked, log replayed, leadership taken.
func Open(ctx context.Context, cfg *configs.Config, log *slog.Logger) (_ *Node, err error) {
	n := &Node{cfg: cfg, log: log, fatal: make(chan error, 2), damaged: make(chan error, 1), unfit: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.abandon(ctx))
		}
	}()
	if n.secure, err = serverTLS(cfg, log); err != nil {
		return nil, err
	}
	if err := n.openFiles(); err != nil {
		return nil, err
	}
	namer, err := hub.NewTopicNamer(cfg.PublicURL(), cfg.HTTP.AliasURLs...)
	if err != nil {
		return nil, err
	}
	if cfg.Hub.Profile != string(web.ProfileNative) {
		namer.TakeBareNames()
	}
	if n.keys, err = n.firstKeys(); err != nil {
		return nil, err
	}
	secrets := n.keys.Keyring()
	id, err := ID(cfg)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	late := NewLateNode()
	own := []string{n.listener.Addr().String(), cfg.Cluster.Addr}
	if n.cluster != nil {
		own = append(own, n.cluster.Addr().String())
	}
	if n.access, err = openAccess(cfg, own); err != nil {
		return nil, err
	}
	if n.clients, err = newOutboundClients(cfg, own, log); err != nil {
		return nil, err
	}
	n.out = NewOutbound(OutboundOptions{Config: cfg, Log: log, Node: id, Namer: namer, Store: n.store, Raft: late,
		Secrets: secrets, Registry: registry, Callbacks: n.clients.callbacks, Topics: n.clients.topics})
	n.store.Observe(n.out.Observer())
	n.store.OnInstall(n.out.Reload)
	feed := web.NewFeed()
	n.store.Observe(feed)
	n.store.OnInstall(func() { feed.Reload(n.store) })
	n.view = &clusterView{id: id, httpAddr: n.listener.Addr().String(), clusterAddr: cfg.Cluster.Addr, weight: cfg.Cluster.Weight, store: n.store}
	n.deliveries = &deliveries{id: id, dispatcher: n.out.dispatcher, store: n.store}
	n.keeper = auth.NewKeeper(auth.KeeperOptions{Node: id, Keys: n.keys, State: n.store, Proposer: late, Cluster: &keyHolders{n}, Flush: n.store.Flush,
		Unfit: func(err error) { n.unfit <- err }, Log: log})
	n.store.Observe(n.keeper)
	n.store.OnInstall(n.keeper.Reload)
	n.raft, err = n.openRaft(ctx, id, secrets)
	if err != nil {
		return nil, err
	}
	n.view.node = n.raft
	n.deliveries.ask = n.raft.Call
	late.Set(n.raft)
	registry.MustRegister(newNodeCollector(n.raft, n.store))

	rules := hub.Policy{
		Leases:          hub.LeasePolicy{Min: cfg.Hub.Lease.Min, Default: cfg.Hub.Lease.Default, Max: cfg.Hub.Lease.Max},
		AutoRegister:    cfg.Topics.AutoRegister || cfg.Hub.Profile == string(web.ProfileMOSIP),
		KeepExtra:       cfg.Hub.Profile != string(web.ProfileNative),
		MaxMessageBytes: int64(cfg.Message.MaxBytes),
		KeyHeaders:      append(hub.KeyHeaders(), cfg.Message.KeyHeaders...),
		SecretGrace:     cfg.Hub.SecretGrace,
		CheckCallback:   n.clients.callbacks.Policy().CheckURL,
		Callbacks:       callbackBounds{n.out.verifier},
		CheckTopic:      n.clients.topics.Policy().CheckURL,
		Clock:           n.raft.Clock(),
	}
	var service *hub.Service
	var guard *auth.Guard
	if n.access != nil {
		guard = n.access.wire(cfg, n.store, func() *hub.Service { return service }, log)
		rules.Authorize = func(ctx context.Context, a hub.Action, topic string) error {
			if topic == hub.EventsTopic && (a == hub.ActionSubscribe || a == hub.ActionRead) {
				// It tells of all topics and callbacks, as the lists of the API do.
				if err := guard.Allow(ctx, auth.ActionView, ""); err != nil {
					return err
				}
			}
			return guard.Allow(ctx, auth.Action(a), topic)
		}
		n.view.issuers = n.access.notReady
	}
	service = hub.NewService(rules, namer, n.raft, n.store, secrets)
	n.server, err = web.New(web.Options{Service: service, State: n.store, Messages: n.store, Letters: n.store, Times: n.store, Feed: feed,
		Node: n.view, Membership: n.view, Reads: n.raft, Deliveries: n.deliveries, Backups: &nodeBackups{n.raft, n.store, secrets},
		Keys:      n.keeper,
		Parts:     n.store,
		StreamMax: cfg.Streams.Max, StreamHeartbeat: cfg.Streams.Heartbeat,
		PublicURL: cfg.PublicURL(), Version: programVersion(), Log: log, Registry: registry, Profiling: cfg.Debug.Pprof,
		Clock: n.raft.Clock(), Warnings: func() []string { return append(n.raft.Warnings(), n.access.warnings()...) },
		TrustedProxies: cfg.HTTP.TrustedProxies, Limits: requestLimits(cfg),
		ClientConnections: cfg.Limits.Connections, ClientStreams: cfg.Limits.Streams,
		Guard: guard, TLS: n.secure, Profile: web.Profile(cfg.Hub.Profile), CompactJSON: cfg.Hub.CompactJSON})
	return n, err
}

// openRaft opens the log. A fresh node with peers waits for them here; whoever calls meanwhile is told so.
func (n *Node) openRaft(ctx context.Context, id string, secrets *auth.Keyring) (*raftlog.Node, error) {
	o := raftlog.Options{ID: id, Dir: n.cfg.DataDir, Address: n.cfg.Cluster.Addr, Store: n.store,
		MinFreeBytes:  int64(n.cfg.Storage.MinFreeBytes),
		SnapshotBytes: int64(n.cfg.Storage.LogBytes), TrailingBytes: int64(n.cfg.Storage.LogBytes), Logger: n.log, Fatal: n.fail}
	if n.cluster == nil {
		return raftlog.Open(ctx, o)
	}
	c := &n.cfg.Cluster
	o.Listener, o.Token, o.Shared, o.Describe = n.cluster, c.Token, secrets.ID(), n.view.describe
	o.Nonvoter, o.ListedOnly = !c.Voter, c.Admission == "listed"
	o.Autopilot = raftlog.Autopilot{Stabilization: c.Autopilot.Stabilization, CleanupDead: c.Autopilot.CleanupDead, MinVoters: c.Autopilot.MinVoters}
	o.HandleCall = (&questions{n.deliveries, n.keeper}).answer
	o.Keys = secrets.IDs
	n.cluster = nil
	for _, p := range n.cfg.Cluster.Peers {
		o.Peers = append(o.Peers, raftlog.Peer{ID: p.ID, Address: p.Addr})
	}
	if t := n.cfg.Cluster.TLS; t.Cert != "" {
		o.TLS = &raftlog.TLSFiles{CA: t.CA, Cert: t.Cert, Key: t.Key}
	}
	w := newWaitingRoom(n.listener, n.secure)
	defer w.close()
	return raftlog.Open(ctx, o)
}

// openFiles takes the address and the data directory, so that two nodes on one of them are told at once.
func (n *Node) openFiles() (err error) {
	if n.listener, err = net.Listen("tcp", n.cfg.HTTP.Addr); err != nil {
		return fmt.Errorf("http.addr: %w", err)
	}
	n.cfg.HTTP.Addr = n.listener.Addr().String()
	if len(n.cfg.Cluster.Peers) > 0 {
		if n.cluster, err = net.Listen("tcp", n.cfg.Cluster.Addr); err != nil {
			return fmt.Errorf("cluster.addr: %w", err)
		}
	}
	if n.lock, err = LockDataDir(n.cfg.DataDir); err != nil {
		return err
	}
	n.store, err = store.Open(store.Options{
		Dir:           filepath.Join(n.cfg.DataDir, "fsm"),
		FlushInterval: n.cfg.Storage.FlushInterval,
		SegmentBytes:  int64(n.cfg.Storage.SegmentBytes),
		TailBytes:     int64(n.cfg.Storage.TailBytes),
		Logger:        n.log,
		Fatal:         n.fail,
		Damaged:       n.found,
	})
	return err
}

// LockDataDir makes the data directory this process's own until the file is closed.
func LockDataDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	// A process that was killed holds its files for a moment longer.
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockPatience / 50) {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			break
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("data_dir %s is in use by another quorumhub; stop it, or choose another data_dir", dir), lock.Close())
		}
	}
	return lock, nil
}

// firstKeys makes the key on the first start only: a new key in place of a lost one would leave every
// subscription with a secret that does not open. The nodes of a cluster share one key, so none of them makes it.
func (n *Node) firstKeys() (*auth.KeyStore, error) {
	shared := len(n.cfg.Cluster.Peers) > 1
	keys, err := OpenKeys(n.cfg, n.store.Applied().Index == 0 && !shared)
	switch {
	case errors.Is(err, os.ErrNotExist) && shared:
		return nil, fmt.Errorf("%w; all nodes of a cluster share one key: make it once (quorumhub keys new > secrets.key; chmod 600 secrets.key) "+
			"and put the same file there on every node", err)
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w; the secrets of this node's subscriptions are sealed with it, so put the file back from where it is kept", err)
	}
	return keys, err
}

// OpenKeys is where the configuration says the keys for secrets at rest are.
func OpenKeys(cfg *configs.Config, create bool) (*auth.KeyStore, error) {
	if cfg.Secrets.Key != "" {
		return auth.FixedKeys(cfg.Secrets.Key)
	}
	return auth.OpenKeyFile(cfg.KeyFile(), create)
}

// ID is the configured id, else the one the data directory belongs to, else a new one.
func ID(cfg *configs.Config) (string, error) {
	if cfg.Cluster.NodeID != "" {
		return cfg.Cluster.NodeID, nil
	}
	if self, ok := cfg.Self(); ok {
		return self.ID, nil
	}
	known, err := raftlog.ReadIdentity(cfg.DataDir)
	if err != nil {
		return "", err
	}
	if known != nil {
		return known.ID, nil
	}
	b := make([]byte, 4)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a node id: %w", err)
	}
	return "node-" + hex.EncodeToString(b), nil
}

// fail is told of failures after which this process must not acknowledge anything more.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default: // the process ends for an earlier one
	}
}

// Run serves until ctx ends or the node fails.
func (n *Node) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	n.out.Start(work)
	n.access.start(work)
	n.keeper.Start(work)
	defer n.keeper.Close()
	n.view.delivering.Store(true)
	leave := n.watchDamage(work)
	defer func() {
		cancel()
		for range leave { //nolint:revive // until it is closed
		}
	}()
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(work, n.listener) }()
	n.log.Info("serving", "url", n.cfg.PublicURL(), "listen", n.listener.Addr().String(), "node", n.raft.ID(), "data_dir", n.cfg.DataDir)

	select {
	case <-ctx.Done():
		n.log.Info("stopping")
		return n.stop(ctx, served)
	case <-n.raft.Removed():
		n.log.Info("stopping: this node was removed from the cluster")
		return n.stop(ctx, served)
	case err := <-leave:
		err = errors.Join(err, store.MarkDamaged(filepath.Join(n.cfg.DataDir, "fsm"), err), n.stop(ctx, served))
		return fmt.Errorf("stopped, for the other nodes hold what is damaged here: %w", err)
	case err := <-n.unfit:
		err = errors.Join(err, n.stop(ctx, served))
		return fmt.Errorf("stopped: %w", err)
	case err := <-n.fatal:
		// Nothing is flushed any more: what the disk holds is what was acknowledged.
		return fmt.Errorf("stopped because data is at stake: %w", err)
	case err := <-served:
		return errors.Join(err, n.stop(ctx, nil))
	}
}

// stop ends the node in the order in which work flows: another node leads, no new requests, what it delivers goes to
// others or comes to rest, cursors written, log and files closed.
func (n *Node) stop(ctx context.Context, served <-chan error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBound)
	defer cancel()
	n.view.stopping.Store(true)
	begin := time.Now()
	successors := n.raft.Handover(ctx)
	var errs []error
	handedOver := make(chan struct{})
	go func() {
		defer close(handedOver)
		if successors {
			n.awaitHandover(ctx)
		}
	}()
	errs = append(errs, n.server.Close(ctx))
	if served != nil {
		errs = append(errs, <-served)
	}
	<-handedOver
	n.access.close()
	n.view.delivering.Store(false)
	err := n.out.Close(ctx)
	n.clients.close()
	switch {
	case n.removed():
		err = nil // its last words reach nobody, and nobody needs them: its subscriptions are others' already
	case err == nil && successors:
		if err := n.raft.HandoverDone(ctx); err != nil {
			n.log.Info("the others find out by themselves that this node delivers no more", "error", err)
		}
	}
	if successors {
		n.log.Info("handed over", "took", time.Since(begin))
	}
	errs = append(errs, err, n.raft.Close(ctx), n.store.Close(), n.lock.Close())
	err = errors.Join(errs...)
	if err == nil {
		n.log.Info("stopped")
	}
	return err
}

func (n *Node) removed() bool {
	select {
	case <-n.raft.Removed():
		return true
	default:
		return false
	}
}

// awaitHandover waits until others deliver what this node delivered, while there are others.
func (n *Node) awaitHandover(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handoverBound)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n.raft.HasSuccessors() {
		left := 0
		n.store.View(func(s *hub.State) { left = s.Owned(n.raft.ID()) })
		if left == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// abandon gives back what a node that did not come up has taken.
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
