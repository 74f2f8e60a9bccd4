package figures

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// fresh is how old figures may be without asking the nodes again.
	fresh = 2 * time.Second
	// stale is how old they may be while the nodes are asked.
	stale = 10 * time.Second
	// patience is how long somebody who looks first waits for all nodes, and answerTime how long a node may take.
	patience   = 300 * time.Millisecond
	answerTime = 3 * time.Second
)

// ClusterOptions configures a Cluster. All fields are required.
type ClusterOptions struct {
	ID    string
	Nodes func() []string // all members
	// Local reports what this node has measured, and Ask asks another one the question, which Answer answers there.
	Local func(after int64) Report
	Ask   func(ctx context.Context, node string, question []byte) ([]byte, error)
	Now   func() time.Time
}

// Cluster adds up what all nodes have measured. Close it at the end. Safe for concurrent use.
type Cluster struct {
	o       ClusterOptions
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	nodes   map[string]*known
	picture *Picture      // nil: none yet
	asked   time.Time     // when the nodes were asked last
	asking  chan struct{} // closed when all have answered that are being asked; nil: none is
}

// known is what is known of a node.
type known struct {
	report  Report // without samples
	at      time.Time
	samples []Sample
	missing bool // it did not answer lately
}

// Question is what a node asks another one.
type Question struct {
	Figures *struct {
		After int64 `json:"after"` // slot
	} `json:"figures"`
}

// NewCluster returns a Cluster that knows nothing yet.
func NewCluster(o ClusterOptions) *Cluster {
	c := &Cluster{o: o, nodes: map[string]*known{}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// Close ends the questions that are being asked, and waits for them.
func (c *Cluster) Close() {
	c.mu.Lock()
	c.stop()
	c.mu.Unlock()
	c.running.Wait()
}

// Answer answers another node's question.
func Answer(local func(after int64) Report, question []byte) ([]byte, error) {
	var q Question
	if err := json.Unmarshal(question, &q); err != nil || q.Figures == nil {
		return nil, fmt.Errorf("question: %w", cmp.Or(err, errNoQuestion))
	}
	return json.Marshal(local(q.Figures.After))
}

var errNoQuestion = fmt.Errorf("it is not about figures")

// Picture returns the figures, which are at most some seconds old. The result is shared: treat it as immutable. It does not wait for
// nodes that do not answer, but for a moment when nobody has looked for a while.
func (c *Cluster) Picture(ctx context.Context) *Picture {
	c.mu.Lock()
	now := c.o.Now()
	age := now.Sub(c.asked)
	if c.picture != nil && age >= 0 && age < fresh {
		defer c.mu.Unlock()
		return c.picture
	}
	if c.asking == nil && c.ctx.Err() == nil {
		c.asked = now
		c.askAllLocked()
	}
	asking := c.asking
	if c.picture != nil && now.Sub(c.picture.At).Abs() < stale || asking == nil {
		defer c.mu.Unlock()
		if c.picture == nil {
			c.drawLocked()
		}
		return c.picture
	}
	c.mu.Unlock()
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-asking:
	case <-wait.C:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drawLocked()
	return c.picture
}

// askAllLocked asks all nodes at once. The picture is drawn again when all have answered, or failed to.
func (c *Cluster) askAllLocked() {
	members := c.o.Nodes()
	maps.DeleteFunc(c.nodes, func(id string, _ *known) bool { return !slices.Contains(members, id) })
	asking := make(chan struct{})
	c.asking = asking
	var all sync.WaitGroup
	for _, id := range members {
		k := c.nodes[id]
		if k == nil {
			k = &known{missing: true}
			c.nodes[id] = k
		}
		after := int64(0)
		if n := len(k.samples); n > 0 {
			after = k.samples[n-1].Slot
		}
		all.Add(1)
		c.running.Go(func() {
			defer all.Done()
			r, err := c.ask(id, after)
			c.mu.Lock()
			defer c.mu.Unlock()
			if k.missing = err != nil; !k.missing {
				k.take(r, c.o.Now())
			}
		})
	}
	c.running.Go(func() {
		all.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.drawLocked()
		c.asking = nil
		close(asking)
	})
}

func (c *Cluster) ask(node string, after int64) (r Report, err error) {
	if node == c.o.ID {
		return c.o.Local(after), nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, answerTime)
	defer cancel()
	var q Question
	q.Figures = &struct {
		After int64 `json:"after"`
	}{after}
	question, err := json.Marshal(q)
	if err != nil {
		return r, err
	}
	answer, err := c.o.Ask(ctx, node, question)
	if err == nil {
		err = json.Unmarshal(answer, &r)
	}
	if err == nil && r.Node != node {
		err = fmt.Errorf("%s answers as %q", node, r.Node)
	}
	return r, err
}

// take adds a report to what is known.
func (k *known) take(r Report, now time.Time) {
	last := int64(0)
	if n := len(k.samples); n > 0 {
		last = k.samples[n-1].Slot
	}
	if k.report.Node != "" && !slices.Equal(k.report.Bounds.Publish, r.Bounds.Publish) {
		k.samples, last = nil, 0 // another program counts in other places
	}
	for _, s := range r.Samples {
		if s.Slot > last {
			k.samples = append(k.samples, s)
			last = s.Slot
		}
	}
	if n := len(k.samples) - Kept; n > 0 {
		k.samples = slices.Clone(k.samples[n:])
	}
	r.Samples = nil
	k.report, k.at = r, now
}

// drawLocked makes the picture from what is known.
func (c *Cluster) drawLocked() {
	p := &Picture{At: c.o.Now(), Nodes: []NodeFigures{}, Missing: []string{}}
	var all []*known
	for _, id := range slices.Sorted(maps.Keys(c.nodes)) {
		k := c.nodes[id]
		if k.missing {
			p.Missing = append(p.Missing, id)
		}
		if k.report.Node == "" {
			continue
		}
		all = append(all, k)
		if !k.missing {
			p.Nodes = append(p.Nodes, nodeFigures(k))
		}
	}
	p.sum()
	p.Series = series(all, p.At)
	c.picture = p
}
