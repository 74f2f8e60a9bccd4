package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

const (
	nodeCount       = 3
	topicCount      = 3
	subscriberCount = 10
	publisherCount  = 5
	// calm is how long nothing must happen for cursors to be durable.
	calm = 1500 * time.Millisecond
	// patience is how long everything may take to come right once nothing is wrong any more.
	patience = 2 * time.Minute
)

// World is one run: a cluster, its network, its subscribers, and the account of what happened. It lives in a bubble.
type World struct {
	settings    Settings
	rng         *rand.Rand // of the one goroutine that drives the run
	dir         string
	logs        io.Writer // nil: the nodes' logs are dropped
	net         *Network
	nodes       []*Node
	peers       []raftlog.Peer
	ledger      *Ledger
	subscribers *Subscribers
	installs    atomic.Int64
}

// NewWorld makes a world whose nodes keep their files below dir. Nothing runs yet.
func NewWorld(s Settings, dir string, logs io.Writer) *World {
	w := &World{settings: s, rng: rand.New(rand.NewPCG(s.Seed, 1)), dir: dir, logs: logs, net: NewNetwork(s.Seed, nodeCount), ledger: newLedger()}
	w.subscribers = &Subscribers{world: w}
	for i := range nodeCount {
		n := newNode(w, i)
		w.nodes = append(w.nodes, n)
		w.peers = append(w.peers, raftlog.Peer{ID: n.id, Address: n.address.String()})
	}
	for i := range subscriberCount {
		w.ledger.subs = append(w.ledger.subs, &subscription{name: fmt.Sprint("sub", i), topic: topicName(i % topicCount),
			callback: fmt.Sprintf("http://sub%d.test/%d", i, i), inFlight: map[*process]int{}})
	}
	return w
}

func topicName(i int) string { return fmt.Sprint("t", i) }

// Found starts all nodes and makes the subscriptions.
func (w *World) Found() error {
	for _, n := range w.nodes {
		if err := os.MkdirAll(n.dir, 0o700); err != nil {
			return err
		}
		n.Start()
	}
	if err := w.until("all nodes are up", func() error { return w.each(func(*process) error { return nil }) }); err != nil {
		return err
	}
	for _, s := range w.ledger.subs {
		if err := w.subscribe(s); err != nil {
			return err
		}
	}
	return w.until("all subscriptions are active", func() error {
		return w.each(func(p *process) error {
			active := 0
			p.store.View(func(s *hub.State) { active = len(s.Subscriptions(0, 0, nil)) })
			if active != subscriberCount {
				return fmt.Errorf("%v has %d", p, active)
			}
			return nil
		})
	})
}

func (w *World) subscribe(s *subscription) (err error) {
	form := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {hubURL + "/topics/" + s.topic}, "hub.callback": {s.callback}}
	for range 20 {
		if p := w.nodes[w.rng.IntN(nodeCount)].up(); p != nil {
			if _, err = p.service.Subscribe(context.Background(), form); err == nil {
				return nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("subscribe %s: %w", s.name, err)
}

// End kills whatever runs.
func (w *World) End() {
	w.subscribers.hold.Store(false)
	for _, n := range w.nodes {
		n.Kill(false)
	}
}

// each calls f for every node's process, all of which must be up.
func (w *World) each(f func(*process) error) error {
	for _, n := range w.nodes {
		p := n.up()
		if p == nil {
			return fmt.Errorf("%s is down", n.id)
		}
		if err := f(p); err != nil {
			return err
		}
	}
	return nil
}

// until waits for f to be satisfied. A node that ends by itself meanwhile is an error.
func (w *World) until(what string, f func() error) (err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		synctest.Wait()
		if err = f(); err == nil {
			return nil
		}
		for _, n := range w.nodes {
			p := n.current.Load()
			if p == nil {
				continue
			}
			select {
			case why := <-p.doom:
				return fmt.Errorf("%v ended by itself: %w", p, why)
			default:
			}
		}
	}
	return fmt.Errorf("not after %v: %s: %w", patience, what, err)
}

// Leader waits for a leader.
func (w *World) Leader() (*Node, error) {
	var lead *Node
	err := w.until("there is a leader", func() error {
		for _, n := range w.nodes {
			if p := n.up(); p != nil && p.raft.IsLeader() {
				lead = n
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return lead, err
}

// others are the nodes but n.
func (w *World) others(n *Node) (out []*Node) {
	for _, o := range w.nodes {
		if o != n {
			out = append(out, o)
		}
	}
	return out
}

// load is what happens during a round: publishers on all nodes, and consistent reads.
func (w *World) load(round, messages int, within time.Duration) *sync.WaitGroup {
	work := new(sync.WaitGroup)
	for i := range publisherCount {
		rng := rand.New(rand.NewPCG(w.settings.Seed, uint64(round)<<16+uint64(i)))
		work.Go(func() { w.publish(rng, fmt.Sprintf("m%d.%d", round, i), messages, within) })
	}
	rng := rand.New(rand.NewPCG(w.settings.Seed, uint64(round)<<16+1000))
	work.Go(func() { w.read(rng, messages, within) })
	return work
}

// publish publishes messages with their own idempotency keys, each until it is acknowledged or has been tried often.
func (w *World) publish(rng *rand.Rand, name string, messages int, within time.Duration) {
	for i := range messages {
		time.Sleep(time.Duration(rng.Int64N(2 * int64(within) / int64(messages))))
		topic, body, first := topicName(rng.IntN(topicCount)), fmt.Sprintf("%s.%d", name, i), rng.IntN(nodeCount)
		m := hub.Publication{Topic: topic, ContentType: "text/plain", Body: []byte(body + " " + strings.Repeat("x", rng.IntN(300))), IdempotencyKey: body}
		known := false
		for try := 0; try < 8 && !known; try++ {
			p := w.nodes[(first+try)%nodeCount].up()
			if p == nil {
				continue
			}
			if known = w.publishOnce(p, m, body); !known {
				time.Sleep(time.Duration(rng.Int64N(int64(300 * time.Millisecond))))
			}
		}
		w.ledger.mu.Lock()
		w.ledger.counts.Published++
		if !known {
			w.ledger.counts.Unknown++
		}
		w.ledger.mu.Unlock()
	}
}

func (w *World) publishOnce(p *process, m hub.Publication, body string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := p.service.Publish(ctx, m)
	if err != nil || p.ended.Load() {
		return false
	}
	w.ledger.acknowledged(p, m.Topic, body, place{r.Topic, r.Offset})
	return true
}

func (w *World) read(rng *rand.Rand, reads int, within time.Duration) {
	for range reads {
		time.Sleep(time.Duration(rng.Int64N(2 * int64(within) / int64(reads))))
		p, topic := w.nodes[rng.IntN(nodeCount)].up(), topicName(rng.IntN(topicCount))
		if p == nil {
			continue
		}
		w.ledger.mu.Lock()
		before := w.ledger.acked[topic]
		w.ledger.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err := p.raft.Consistent(ctx)
		cancel()
		var head uint64
		p.store.View(func(s *hub.State) {
			t, _ := s.TopicByName(topic)
			head = t.Head
		})
		if p.ended.Load() {
			err = errGone
		}
		w.ledger.read(p, topic, head, before, err)
	}
}

// Settle waits, with nothing wrong any more, until all nodes hold the same and everything is delivered, and audits it.
func (w *World) Settle() error {
	if err := w.until("every node has everything, and everything is delivered", w.settled); err != nil {
		return err
	}
	time.Sleep(calm)
	synctest.Wait()
	w.ledger.settle()
	leaders := 0
	for _, n := range w.nodes {
		p := n.up()
		if p == nil {
			continue
		}
		if p.raft.IsLeader() {
			leaders++
		}
		w.ledger.audit(p)
	}
	if leaders > 1 {
		w.ledger.fault("leaders", "%d nodes lead", leaders)
	}
	return nil
}

func (w *World) settled() error {
	var index, hash uint64
	return w.each(func(p *process) error {
		var lacks error
		var its uint64
		p.store.View(func(s *hub.State) { lacks, its = w.ledger.behind(s), s.Hash() })
		at := p.store.Applied().Index
		switch {
		case lacks != nil:
			return lacks
		case index == 0:
			index, hash = at, its
		case index != at:
			return fmt.Errorf("%v is at entry %d, another node at %d", p, at, index)
		case hash != its:
			w.ledger.fault("state", "at entry %d %v has hash %x, another node %x", index, p, its, hash)
		}
		return nil
	})
}
