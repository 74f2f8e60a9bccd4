package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/cli/node"
	"quorumhub/configs"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
)

const (
	hubURL       = "https://hub.example"
	stopTimeout  = 15 * time.Second
	handoverTime = 5 * time.Second
)

var errGone = errors.New("the process that sent this is gone")

// Node is one node's place in the cluster: its files and its address outlive its processes.
type Node struct {
	world   *World
	index   int
	id      string
	address *net.TCPAddr
	dir     string
	runs    int
	current atomic.Pointer[process] // nil: down
}

// process is one life of a node: all rooms but web, wired as cli wires them.
type process struct {
	node   *Node
	run    int
	ended  atomic.Bool // it has no effect on anything any more
	doom   chan error  // why it wants to end
	ctx    context.Context
	cancel context.CancelFunc
	opened chan struct{} // closed when open has returned
	err    error         // of open

	store   *store.Store
	raft    *raftlog.Node
	out     *node.Outbound
	service *hub.Service
}

// Start starts the node's next process. It does not wait for it.
func (n *Node) Start() {
	n.world.net.Restore(n.index)
	n.runs++
	p := &process{node: n, run: n.runs, doom: make(chan error, 8), opened: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	n.current.Store(p)
	go func() {
		defer close(p.opened)
		p.err = errors.New("the goroutine that opened the node has ended without a result") // unless the next line returns
		if p.err = p.open(); p.err != nil {
			p.fail(p.err)
		}
	}()
}

func (p *process) fail(err error) {
	select {
	case p.doom <- err:
	default:
	}
}

func (p *process) open() (err error) {
	w, n := p.node.world, p.node
	listener := w.net.Listen(n.index, n.address)
	log := w.logger(n)
	p.store, err = store.Open(store.Options{Dir: filepath.Join(n.dir, node.FSMDir), SegmentBytes: 1 << 20, MaxUnflushedBytes: 8 << 20,
		FlushInterval: w.settings.Flush, Logger: log, Fatal: p.fail, Damaged: p.fail})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	late, err := p.wire(log)
	if err != nil {
		return errors.Join(err, listener.Close(), p.store.Crash())
	}
	p.raft, err = raftlog.Open(p.ctx, raftlog.Options{ID: n.id, Dir: n.dir, Store: p.store, Listener: listener, Peers: w.peers, Shared: "key",
		Secrets: func() [][]byte { return [][]byte{[]byte("secret")} },
		Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
			return w.net.Dial(ctx, n.index, address, func() bool { return !p.ended.Load() })
		},
		SnapshotInterval: w.settings.SnapshotInterval, SnapshotThreshold: w.settings.SnapshotThreshold,
		TrailingBytes: w.settings.TrailingBytes, MinTrailing: w.settings.MinTrailing, Logger: log, Fatal: p.fail})
	if err != nil {
		return errors.Join(err, p.store.Crash())
	}
	late.Set(p.raft)
	p.out.Start(p.ctx)
	return nil
}

// wire builds what acts on the log and what takes requests.
func (p *process) wire(log *slog.Logger) (*node.LateNode, error) {
	n := p.node
	namer, err := hub.NewTopicNamer(hubURL)
	if err != nil {
		return nil, err
	}
	policy, err := egress.NewPolicy(egress.PolicyOptions{})
	if err != nil {
		return nil, err
	}
	config := configs.Default()
	config.HTTP.PublicURL = hubURL
	config.Delivery.Retry.Initial, config.Delivery.Retry.MaxInterval = time.Second, 10*time.Second
	late := node.NewLateNode()
	way := outside{p, policy}
	p.out = node.NewOutbound(node.OutboundOptions{Config: config, Log: log, Node: n.id, Namer: namer, Store: p.store, Raft: late,
		Secrets: box{}, Registry: prometheus.NewRegistry(), Callbacks: way, Topics: way})
	p.store.Observe(p.out.Observer())
	p.store.OnInstall(func() {
		n.world.installs.Add(1)
		p.out.Reload()
	})
	p.service = hub.NewService(hub.Policy{Leases: hub.LeasePolicy{Min: time.Minute, Default: 24 * time.Hour, Max: 240 * time.Hour},
		AutoRegister: true, MaxMessageBytes: 1 << 20, Clock: late}, namer, late, p.store, box{})
	return late, nil
}

// usable tells whether the process takes requests.
func (p *process) usable() bool {
	if p == nil || p.ended.Load() {
		return false
	}
	select {
	case <-p.opened:
		return p.err == nil
	default:
		return false
	}
}

// up is the node's process when it takes requests, else nil.
func (n *Node) up() *process {
	if p := n.current.Load(); p.usable() {
		return p
	}
	return nil
}

// Kill ends the node's process at once; with power its whole machine is gone, so that the others are not told.
func (n *Node) Kill(power bool) {
	p := n.current.Swap(nil)
	if p == nil {
		return
	}
	p.ended.Store(true)
	n.world.net.Drop(n.index, power)
	p.cancel()
	<-p.opened
	if p.err != nil {
		return
	}
	_ = p.raft.Abort() // what it has to say is about work that was cut short
	done, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.out.Close(done)
	_ = p.store.Crash()
}

// Stop ends the node in good order, as SIGTERM does (cli/node).
func (n *Node) Stop() {
	p := n.current.Load()
	if !p.usable() {
		n.Kill(false)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	successors := p.raft.Handover(ctx)
	for end := time.Now().Add(handoverTime); successors && p.raft.HasSuccessors() && p.owned() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := p.out.Close(ctx); err == nil && successors {
		_ = p.raft.HandoverDone(ctx) // or the others find out
	}
	_ = p.raft.Close(ctx)
	_ = p.store.Close()
	p.ended.Store(true)
	p.cancel()
	n.world.net.Drop(n.index, false)
	n.current.Store(nil)
}

// BreakDisk makes all writes of the running process fail from now on.
func (n *Node) BreakDisk() error { return breakDisk(n.dir) }

func (p *process) owned() (units int) {
	p.store.View(func(s *hub.State) { units = s.Owned(p.node.id) })
	return units
}

func (p *process) String() string { return fmt.Sprintf("%s.%d", p.node.id, p.run) }

// outside is the way from a process to subscribers and topics.
type outside struct {
	from   *process
	policy *egress.Policy
}

// Policy implements node.TopicClient.
func (o outside) Policy() *egress.Policy { return o.policy }

// RoundTrip implements http.RoundTripper.
func (o outside) RoundTrip(req *http.Request) (*http.Response, error) {
	if o.from.ended.Load() {
		return nil, errGone
	}
	answer, err := o.from.node.world.subscribers.serve(o.from, req)
	if err == nil && o.from.ended.Load() {
		err = errGone
	}
	return answer, err
}

// box implements hub.SecretBox without encryption.
type box struct{}

// Seal implements hub.SecretBox.
func (box) Seal(secret []byte, bound string) ([]byte, error) {
	return append([]byte(bound+"\x01"), secret...), nil
}

// Open implements hub.SecretBox.
func (box) Open(sealed []byte, bound string) ([]byte, error) {
	secret, ok := bytes.CutPrefix(sealed, []byte(bound+"\x01"))
	if !ok {
		return nil, errors.New("sealed for something else")
	}
	return secret, nil
}

func newNode(w *World, index int) *Node {
	id := fmt.Sprint("node-", index+1)
	return &Node{world: w, index: index, id: id, dir: filepath.Join(w.dir, id),
		address: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7001 + index}}
}

func (w *World) logger(n *Node) *slog.Logger {
	if w.logs == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})).With("n", n.id, "run", n.runs)
}

// memoryDir makes a directory for a run's files, in memory where the machine has a memory file system.
func memoryDir() (string, error) {
	const shm = "/dev/shm"
	if fi, err := os.Stat(shm); err == nil && fi.IsDir() {
		return os.MkdirTemp(shm, "quorumhub-sim-")
	}
	return os.MkdirTemp("", "quorumhub-sim-")
}
