package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/configs"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
	"quorumhub/web"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/gateway/topics"
	"quorumhub/web/login"
)

// stopBound limits a graceful stop; what is unfinished then is cut short.
const stopBound = 15 * time.Second

// handoverBound limits how long a stopping node waits for deliveries in flight, so that other nodes can continue where it
// stopped. Deliveries still in flight after that end with the node.
const handoverBound = 5 * time.Second

// Node is one running hub. Open it, then run it once.
type Node struct {
	cfg        *configs.Config
	log        *slog.Logger
	lock       *os.File
	removePID  func() // see writePID
	listener   net.Listener
	cluster    net.Listener // nil without peers; the raft node takes it over
	store      *store.Store
	raft       *raftlog.Node
	clients    *outboundClients
	out        *Outbound
	access     *accessControl  // nil: everybody may do everything
	https      *auth.ServerTLS // nil: plain HTTP
	secure     *tls.Config     // of https
	rules      *egress.TLSRules
	service    *hub.Service
	gateway    *gatewaySource
	usage      *gatewayUsage
	policies   *topics.Policies
	guard      *auth.Guard        // nil: everybody may do everything
	first      *registry.Document // to begin with; nil: none
	login      *login.Handler     // nil: nobody can log in
	server     *web.Server
	view       *clusterView
	deliveries *deliveries
	keys       *keyring.Store
	keeper     *keyring.Keeper
	figures    *nodeFigures
	unfit      chan error // see keyring.KeeperOptions
	damaged    chan error // see reportDamage
	fatal      chan error // the first failure after which nothing may be acknowledged
	reloads    *reloader
	systemd    *supervisor
}

// fail reports a failure after which this process must not acknowledge anything.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default: // the process is already stopping because of an earlier failure
	}
}

// Run serves until ctx ends, which is a graceful stop (nil), the node is removed from its cluster, or it fails. It closes the node. For
// each value from reload it reads its configuration and files again.
func (n *Node) Run(ctx context.Context, reload <-chan os.Signal) error {
	defer n.removePID()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	n.gateway.start(work, n.first)
	defer n.gateway.close()
	n.server.StartServices(work) // first, because what is delivered depends on the policies of the registry
	n.out.Start(work)
	n.access.start(work, n.watchRules)
	n.keeper.Start(work)
	defer n.keeper.Close()
	n.view.delivering.Store(true)
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		n.figures.recorder.Load().Run(work)
	}()
	leave := n.watchDamage(work)
	providers := n.reloads.watchProviders(work)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		n.systemd.watch(work, n.raft.Alive)
	}()
	defer func() {
		cancel()
		<-watched
		<-recorded
		n.figures.cluster.Close()
		for range leave { //nolint:revive // wait until it is closed
		}
		for range providers { //nolint:revive // the same
		}
	}()
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(work, n.listener) }()
	n.systemd.ready("serving " + n.cfg.PublicURL())
	n.log.Info("serving", "url", n.cfg.PublicURL(), "listen", n.cfg.HTTP.Addr, "node", n.raft.ID(), "data_dir", n.cfg.DataDir)

	for {
		select {
		case <-reload:
			n.systemd.reloading()
			n.reloads.reload(ctx)
			n.systemd.ready("serving " + n.cfg.PublicURL())
			continue
		case <-providers:
			n.reloads.providers(ctx)
			continue
		case <-ctx.Done():
			n.log.Info("stopping")
			return n.stop(ctx, served)
		case <-n.raft.Removed():
			n.log.Info("stopping: this node was removed from the cluster")
			return n.stop(ctx, served)
		case err := <-leave:
			err = errors.Join(err, store.MarkDamaged(filepath.Join(n.cfg.DataDir, FSMDir), err), n.stop(ctx, served))
			return fmt.Errorf("stopped because of damaged files; the other nodes hold the data: %w", err)
		case err := <-n.unfit:
			err = errors.Join(err, n.stop(ctx, served))
			return fmt.Errorf("stopped: %w", err)
		case err := <-n.fatal:
			// Flush nothing more: the disk must hold exactly what was acknowledged.
			return fmt.Errorf("stopped to protect the data: %w", err)
		case err := <-served:
			return errors.Join(err, n.stop(ctx, nil))
		}
	}
}

// stop ends the node in the order in which work flows: hand over leadership, refuse new requests, hand over or finish deliveries,
// save cursors, close the log and the files.
func (n *Node) stop(ctx context.Context, served <-chan error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBound)
	defer cancel()
	n.systemd.stopping("handing over and saving")
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
		err = nil // a removed node cannot propose, and its subscriptions already belong to others
	case err == nil && successors:
		if err := n.raft.HandoverDone(ctx); err != nil {
			n.log.Info("could not report the end of the handover; the other nodes will detect it", "error", err)
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

// awaitHandover waits until this node owns no subscription, as long as there are nodes that could take over.
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
