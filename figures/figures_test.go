package figures_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"quorumhub/figures"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// meter is a node whose counters the test moves.
type meter struct {
	name string
	mu   sync.Mutex
	sum  figures.Totals
	lag  uint64
	gone bool
	slow time.Duration // to read the gauges
	read int
	rec  *figures.Recorder
}

var bounds = figures.Bounds{Publish: []float64{.001, .01, .1}, Delivery: []float64{.01, 1}}

func newMeter(name string) *meter {
	m := &meter{name: name, sum: figures.Totals{PublishTimes: make([]uint64, 4), DeliveryTimes: make([]uint64, 3)}}
	m.rec = figures.NewRecorder(figures.Source{Node: name, Bounds: bounds, Now: time.Now,
		Totals: func() figures.Totals {
			m.mu.Lock()
			defer m.mu.Unlock()
			t := m.sum
			t.PublishTimes, t.DeliveryTimes = slices.Clone(t.PublishTimes), slices.Clone(t.DeliveryTimes)
			return t
		},
		Levels: func() figures.Levels {
			m.mu.Lock()
			defer m.mu.Unlock()
			time.Sleep(m.slow)
			m.read++
			l := figures.Levels{Lag: m.lag}
			if m.lag > 0 {
				l.Behind, l.Failing = 1, 1
				l.Worst = []figures.Failing{{Subscription: "s-" + name, Since: time.Unix(int64(m.lag), 0)}}
			}
			return l
		},
		Status: func() figures.Status { return figures.Status{AppliedIndex: 7} }})
	return m
}

// publish counts n messages that took as long as a place says, and as many deliveries.
func (m *meter) publish(n uint64, place int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sum.Published += n
	m.sum.Delivered += 2 * n
	m.sum.PublishTimes[place] += n
	m.sum.DeliveryTimes[0] += 2 * n
}

func (m *meter) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// cluster is the view of the first of some nodes on all of them.
func cluster(t *testing.T, meters ...*meter) (*figures.Cluster, *atomic.Int64) {
	asked := new(atomic.Int64)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, m := range meters {
		running.Go(func() { m.rec.Run(ctx) })
	}
	c := figures.NewCluster(figures.ClusterOptions{ID: meters[0].name, Now: time.Now, Local: meters[0].rec.Report,
		Nodes: func() (out []string) {
			for _, m := range meters {
				out = append(out, m.name)
			}
			return out
		},
		Ask: func(ctx context.Context, node string, question []byte) ([]byte, error) {
			asked.Add(1)
			for _, m := range meters {
				m.mu.Lock()
				gone := m.gone
				m.mu.Unlock()
				switch {
				case m.name == node && !gone:
					return figures.Answer(m.rec.Report, question)
				case m.name == node:
					<-ctx.Done()
					return nil, ctx.Err()
				}
			}
			return nil, errors.New("no such node")
		}})
	t.Cleanup(func() { c.Close(); cancel(); running.Wait() })
	return c, asked
}

func close2(a, b float64) bool { return math.Abs(a-b) <= .02*math.Abs(b)+1e-9 }

// Any node shows the whole cluster: rates add up, and quantiles are those of all nodes together, not means of theirs.
func TestFiguresOfAllNodesAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMeter("a"), newMeter("b")
		c, _ := cluster(t, a, b)
		time.Sleep(figures.Step / 2) // publish within steps, not at their ends
		for range 30 {               // five minutes
			time.Sleep(figures.Step)
			a.publish(100, 0)
			b.publish(300, 2)
		}
		b.set(func() { b.lag = 5 })
		a.set(func() { a.lag = 9 })
		time.Sleep(figures.Step)
		p := c.Picture(t.Context())
		if p.Now.Lag != 14 || p.Now.FailingNow != 2 || len(p.Failing) != 2 || p.Failing[0].Subscription != "s-b" || p.Failing[0].Node != "b" {
			t.Errorf("now: %+v, failing: %+v", p.Now, p.Failing)
		}
		if len(p.Nodes) != 2 || p.Nodes[1].Node != "b" || p.Nodes[1].Status.AppliedIndex != 7 || len(p.Missing) != 0 {
			t.Errorf("nodes: %+v, missing %v", p.Nodes, p.Missing)
		}
		if len(p.Series) != figures.Kept {
			t.Fatalf("%d points", len(p.Series))
		}
		known := 0
		for _, point := range p.Series {
			if !point.Published.Known() {
				continue
			}
			known++
			if !close2(float64(point.Published), 40) && point.Published != 0 || !close2(float64(point.Delivered), 80) && point.Delivered != 0 {
				t.Errorf("%+v", point)
			}
			// Three of four take 10 to 100 ms.
			if point.Published > 0 && (point.PublishP50 < .01 || point.PublishP50 > .1 || point.PublishP99 < .09 || point.DeliveryP99 > .01) {
				t.Errorf("quantiles of %+v", point)
			}
		}
		if known < 29 || known > 32 {
			t.Errorf("%d points are known, want those of five minutes", known)
		}
		if first := p.Series[0]; first.Published.Known() {
			t.Errorf("something is known of before the start: %+v", first)
		}
	})
}

// Recent rates do not wait for a step to end.
func TestRecentRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newMeter("a")
		c, _ := cluster(t, a)
		a.publish(50, 0)
		time.Sleep(5 * time.Second)
		if p := c.Picture(t.Context()); !close2(p.Now.Published, 10) || !p.Now.PublishP50.Known() {
			t.Errorf("%+v, want 10/s", p.Now)
		}
		time.Sleep(5 * time.Minute)
		if p := c.Picture(t.Context()); p.Now.Published != 0 || p.Now.PublishP50.Known() {
			t.Errorf("%+v, want nothing", p.Now)
		}
	})
}

// However many look, the nodes are asked once in a while, and for what is new only; nobody waits for a node that hangs, and it is
// named. Its past stays in the picture.
func TestLookingIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMeter("a"), newMeter("b")
		c, asked := cluster(t, a, b)
		time.Sleep(time.Second)
		b.publish(100, 0)
		time.Sleep(figures.Step + time.Second)
		for range 100 {
			if p := c.Picture(t.Context()); len(p.Missing) != 0 {
				t.Fatalf("missing %v", p.Missing)
			}
			time.Sleep(time.Millisecond)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("the other node was asked %d times", n)
		}
		b.set(func() { b.gone = true })
		time.Sleep(4 * time.Second)
		begin := time.Now()
		c.Picture(t.Context())
		if took := time.Since(begin); took != 0 {
			t.Errorf("a look took %v although there are figures of a moment ago", took)
		}
		time.Sleep(time.Hour / 2)
		begin = time.Now()
		c.Picture(t.Context())
		if took := time.Since(begin); took == 0 || took > time.Second {
			t.Errorf("the first look after a while took %v", took)
		}
		time.Sleep(5 * time.Second)
		p := c.Picture(t.Context())
		if !slices.Equal(p.Missing, []string{"b"}) || len(p.Nodes) != 1 {
			t.Errorf("missing %v of %d", p.Missing, len(p.Nodes))
		}
		if !slices.ContainsFunc(p.Series, func(p figures.Point) bool { return p.Published > 9 }) {
			t.Error("what the node has told before is forgotten")
		}
	})
}

// Memory is bounded by the hour, and samples beyond it are gone.
func TestOneHourIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMeter("a"), newMeter("b")
		c, _ := cluster(t, a, b)
		b.publish(1_000_000, 0)
		for range 3 {
			time.Sleep(50 * time.Minute)
			c.Picture(t.Context())
		}
		if n := len(b.rec.Report(0).Samples); n != figures.Kept {
			t.Errorf("%d samples are kept", n)
		}
		time.Sleep(time.Minute)
		for _, p := range c.Picture(t.Context()).Series {
			if p.Published > 0 {
				t.Errorf("%+v is from before", p)
			}
		}
		last := b.rec.Report(0).Samples
		if got := b.rec.Report(last[figures.Kept-3].Slot).Samples; len(got) != 2 {
			t.Errorf("%d samples after the last but two", len(got))
		}
	})
}

// Reading the gauges looks at all subscriptions, so it takes a small share of the time at most.
func TestGaugesAreReadSeldomIfThatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newMeter("a")
		a.slow = 20 * time.Millisecond
		c, _ := cluster(t, a)
		begin := time.Now()
		for time.Since(begin) < time.Minute {
			c.Picture(t.Context())
			time.Sleep(100 * time.Millisecond)
		}
		if a.read > 16 {
			t.Errorf("read %d times within a minute, %v each", a.read, a.slow)
		}
	})
}

func TestUnknownIsNull(t *testing.T) {
	text, err := json.Marshal([]figures.Value{figures.Unknown(), 1.5, figures.Value(math.Inf(1))})
	if err != nil || string(text) != "[null,1.5,null]" {
		t.Errorf("%s, %v", text, err)
	}
	var back []figures.Value
	if err := json.Unmarshal(text, &back); err != nil || back[0].Known() || back[1] != 1.5 {
		t.Errorf("%v, %v", back, err)
	}
}

func TestAnswersOnlyQuestionsAboutFigures(t *testing.T) {
	for _, q := range []string{"", "{}", `{"gateway":"usage"}`, "nonsense"} {
		if _, err := figures.Answer(func(int64) figures.Report { panic("asked") }, []byte(q)); err == nil {
			t.Errorf("%q was answered", q)
		}
	}
}
