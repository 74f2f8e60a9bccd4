package figures

import (
	"cmp"
	"slices"
	"time"
)

// Picture is how a cluster is doing, and how it did in the last hour.
type Picture struct {
	At      time.Time     `json:"at"`
	Nodes   []NodeFigures `json:"nodes"`   // that answer, by ID
	Missing []string      `json:"missing"` // members that did not answer lately
	Now     Rates         `json:"now"`
	// Failing are the subscriptions that have been failing for longest.
	Failing []Failing `json:"failing"`
	// Series has one point for each Step of the last hour, the oldest first.
	Series []Point `json:"series"`
}

// Rates are figures of some seconds up to now, and gauges.
type Rates struct {
	Published      float64 `json:"published"` // per second
	PublishedBytes float64 `json:"published_bytes"`
	Delivered      float64 `json:"delivered"`
	Failed         float64 `json:"failed"`
	DeadLettered   float64 `json:"dead_lettered"`
	PublishP50     Value   `json:"publish_p50"` // seconds; null: nothing was published
	PublishP99     Value   `json:"publish_p99"`
	DeliveryP50    Value   `json:"delivery_p50"`
	DeliveryP99    Value   `json:"delivery_p99"`
	Lag            uint64  `json:"lag"`
	Behind         int     `json:"behind"`
	FailingNow     int     `json:"failing"`
	Oldest         float64 `json:"oldest_undelivered"` // seconds; 0: none
	Streams        int     `json:"streams"`
}

// NodeFigures are those of one node.
type NodeFigures struct {
	Node string `json:"node"`
	Rates
	Status Status `json:"status"`

	levels Levels
	bounds Bounds
	recent Sample
}

// Point is what happened in one step on all nodes of which that is known.
type Point struct {
	At           time.Time `json:"at"` // its end
	Published    Value     `json:"published"`
	Delivered    Value     `json:"delivered"` // per second
	Failed       Value     `json:"failed"`
	DeadLettered Value     `json:"dead_lettered"`
	PublishP50   Value     `json:"publish_p50"`
	PublishP99   Value     `json:"publish_p99"`
	DeliveryP50  Value     `json:"delivery_p50"`
	DeliveryP99  Value     `json:"delivery_p99"`
	Lag          Value     `json:"lag"`
	Failing      Value     `json:"failing"`
}

// maxFailing bounds Picture.Failing.
const maxFailing = 8

func nodeFigures(k *known) NodeFigures {
	r := &k.report
	n := NodeFigures{Node: r.Node, Status: r.Status, levels: r.Levels, bounds: r.Bounds, recent: r.Recent}
	var sum tally
	sum.add(&r.Recent, &r.Bounds)
	n.Rates = sum.rates()
	n.level(&r.Levels)
	return n
}

func (r *Rates) level(l *Levels) {
	r.Lag += l.Lag
	r.Behind += l.Behind
	r.FailingNow += l.Failing
	r.Streams += l.Streams
	r.Oldest = max(r.Oldest, l.Oldest.Seconds())
}

// sum adds up the nodes.
func (p *Picture) sum() {
	var sum tally
	for i := range p.Nodes {
		sum.add(&p.Nodes[i].recent, &p.Nodes[i].bounds)
	}
	p.Now = sum.rates()
	p.Failing = []Failing{}
	for i := range p.Nodes {
		p.Now.level(&p.Nodes[i].levels)
		p.Failing = append(p.Failing, p.Nodes[i].levels.Worst...)
	}
	slices.SortFunc(p.Failing, func(a, b Failing) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Subscription, b.Subscription))
	})
	p.Failing = p.Failing[:min(len(p.Failing), maxFailing)]
}

// tally adds up samples of several nodes.
type tally struct {
	published, bytes, delivered, failed, dead float64 // per second
	publish, delivery                         times
	samples                                   int
	lag                                       uint64
	failing                                   int
}

// times counts by duration. What was counted in other places than the first is left out.
type times struct {
	bounds []float64
	counts []uint64
}

func (t *times) add(counts []uint32, bounds []float64) {
	if counts == nil || len(counts) != len(bounds)+1 {
		return
	}
	if t.bounds == nil {
		t.bounds, t.counts = bounds, make([]uint64, len(counts))
	}
	if !slices.Equal(t.bounds, bounds) {
		return
	}
	for i, n := range counts {
		t.counts[i] += uint64(n)
	}
}

func (t *times) at(share float64) Value { return Quantile(share, t.bounds, t.counts) }

func (t *tally) add(s *Sample, b *Bounds) {
	per := func(n uint64) float64 { return float64(n) / s.Seconds }
	t.samples++
	t.published += per(s.Published)
	t.bytes += per(s.PublishedBytes)
	t.delivered += per(s.Delivered)
	t.failed += per(s.Failed)
	t.dead += per(s.DeadLettered)
	t.lag += s.Lag
	t.failing += s.Failing
	t.publish.add(s.PublishTimes, b.Publish)
	t.delivery.add(s.DeliveryTimes, b.Delivery)
}

func (t *tally) rates() Rates {
	return Rates{Published: t.published, PublishedBytes: t.bytes, Delivered: t.delivered, Failed: t.failed, DeadLettered: t.dead,
		PublishP50: t.publish.at(.5), PublishP99: t.publish.at(.99), DeliveryP50: t.delivery.at(.5), DeliveryP99: t.delivery.at(.99)}
}

// series adds up the samples of all nodes, step by step. Steps of which nothing is known have unknown figures, and so has the newest
// one until all nodes that answer have told of it.
func series(all []*known, now time.Time) []Point {
	last := now.UnixNano() / int64(Step)
	tallies := make([]tally, Kept)
	answering := 0
	for _, k := range all {
		if !k.missing {
			answering++
		}
		for i := range k.samples {
			s := &k.samples[i]
			if at := s.Slot - last + Kept - 1; at >= 0 && at < Kept && s.Seconds > 0 {
				tallies[at].add(s, &k.report.Bounds)
			}
		}
	}
	out := make([]Point, Kept)
	for i := range out {
		t, p := &tallies[i], &out[i]
		p.At = time.Unix(0, (last-Kept+1+int64(i))*int64(Step)).UTC()
		if t.samples == 0 || i == Kept-1 && t.samples < answering {
			n := Unknown()
			*p = Point{p.At, n, n, n, n, n, n, n, n, n, n}
			continue
		}
		*p = Point{p.At, Value(t.published), Value(t.delivered), Value(t.failed), Value(t.dead),
			t.publish.at(.5), t.publish.at(.99), t.delivery.at(.5), t.delivery.at(.99), Value(t.lag), Value(t.failing)}
	}
	return out
}
