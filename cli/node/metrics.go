package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
)

// collector exports figures that are read together, whenever /metrics is read.
type collector[R any] struct {
	read    func() R
	figures []figure[R]
}

type figure[R any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(R) float64
}

func (c *collector[R]) add(kind prometheus.ValueType, name, help string, value func(R) float64) {
	c.figures = append(c.figures, figure[R]{prometheus.NewDesc("quorumhub_"+name, help, nil, nil), kind, value})
}

// Describe implements prometheus.Collector.
func (c *collector[R]) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector[R]) Collect(ch chan<- prometheus.Metric) {
	r := c.read()
	for _, f := range c.figures {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(r))
	}
}

// nodeReading holds the figures of the log, the store and the state.
type nodeReading struct {
	raft   raftlog.Stats
	store  store.Stats
	counts hub.Counts
	gap    uint64
	ending int // encryption keys of subscriptions
	ended  int
	offset time.Duration

	letterBytes uint64
	replays     int
}

func newNodeCollector(n *raftlog.Node, st *store.Store) prometheus.Collector {
	c := &collector[nodeReading]{read: func() nodeReading {
		r := nodeReading{raft: n.Stats(), store: st.Stats(), offset: n.ClockOffset()}
		st.View(func(s *hub.State) {
			r.counts = s.Counts()
			r.gap = s.GapMessages()
			r.ending, r.ended = s.KeyNotices()
			r.letterBytes, r.replays = s.DeadLetterBytes(), len(s.Replays())
		})
		return r
	}}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	c.add(gauge, "raft_is_leader", "1 while this node is the leader.", func(r nodeReading) float64 { return flag(r.raft.IsLeader) })
	c.add(gauge, "raft_term", "Raft term.", func(r nodeReading) float64 { return float64(r.raft.Term) })
	c.add(gauge, "clock_offset_seconds", "How far this machine's clock is ahead of the voters' clocks.", func(r nodeReading) float64 { return r.offset.Seconds() })
	c.add(gauge, "raft_commit_index", "Raft commit index.", func(r nodeReading) float64 { return float64(r.raft.CommitIndex) })
	c.add(gauge, "raft_applied_index", "Last log index applied in memory.", func(r nodeReading) float64 { return float64(r.raft.AppliedIndex) })
	c.add(gauge, "raft_durable_index", "Last log index in the state files.", func(r nodeReading) float64 { return float64(r.raft.DurableIndex) })
	c.add(gauge, "raft_log_file_bytes", "Size of raft.db.", func(r nodeReading) float64 { return float64(r.raft.LogFileBytes) })
	c.add(counter, "raft_log_written_bytes_total", "Bytes of log entries written.", func(r nodeReading) float64 { return float64(r.raft.LogWritten) })
	c.add(counter, "proposals_total", "Proposals written to the log.", func(r nodeReading) float64 { return float64(r.raft.Proposals) })
	c.add(counter, "proposal_batches_total", "Log entries written for proposals.", func(r nodeReading) float64 { return float64(r.raft.Batches) })
	c.add(gauge, "proposals_queued_bytes", "Bytes of proposals waiting and in flight.", func(r nodeReading) float64 { return float64(r.raft.QueuedBytes) })
	c.add(gauge, "disk_free_bytes", "Free space in data_dir, 0 if not measured.", func(r nodeReading) float64 { return float64(r.raft.FreeDiskBytes) })
	c.add(gauge, "store_unflushed_bytes", "Applied data not yet flushed to the files.", func(r nodeReading) float64 { return float64(r.store.UnflushedBytes) })
	c.add(gauge, "store_tail_bytes", "Size of the messages held in memory.", func(r nodeReading) float64 { return float64(r.store.TailBytes) })
	c.add(gauge, "topics", "Topics.", func(r nodeReading) float64 { return float64(r.counts.Topics) })
	c.add(gauge, "subscriptions", "Active subscriptions.", func(r nodeReading) float64 { return float64(r.counts.Subscriptions) })
	c.add(gauge, "subscription_requests_pending", "Requests waiting for verification of intent.", func(r nodeReading) float64 { return float64(r.counts.Requests) })
	c.add(gauge, "sessions", "Sessions of people who have logged in, idle ones among them.", func(r nodeReading) float64 { return float64(r.counts.Sessions) })
	c.add(gauge, "dead_letters", "Dead letters stored.", func(r nodeReading) float64 { return float64(r.counts.DeadLetters) })
	c.add(gauge, "dead_letter_bytes", "Size of the bodies of stored dead letters.", func(r nodeReading) float64 { return float64(r.letterBytes) })
	c.add(gauge, "dead_letter_replays_pending", "Dead letters waiting for replay.", func(r nodeReading) float64 { return float64(r.replays) })
	c.add(gauge, "encryption_keys_ending", "Subscriptions whose encryption key ends within 30 days.", func(r nodeReading) float64 { return float64(r.ending) })
	c.add(gauge, "encryption_keys_ended", "Subscriptions whose encryption key has ended or was revoked: they get nothing.", func(r nodeReading) float64 { return float64(r.ended) })
	c.add(counter, "gap_messages_total", "Messages dropped by retention before a subscription received them.", func(r nodeReading) float64 { return float64(r.gap) })
	return c
}

// attemptMetrics counts the attempts of this node by outcome.
type attemptMetrics struct {
	seconds   [delivery.PushCancelled + 1]prometheus.Observer
	delivered prometheus.Metric // of seconds
	reasons   *prometheus.CounterVec
}

func newAttemptMetrics(reg prometheus.Registerer) *attemptMetrics {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "quorumhub_delivery_seconds",
		Help:    "Time from the start of a delivery attempt to the end of the response, by outcome (delivered, refused, down, gone, cancelled).",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"outcome"})
	m := &attemptMetrics{reasons: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quorumhub_delivery_failures_total",
		Help: "Failed delivery attempts, by outcome and class of failure."}, []string{"outcome", "reason"})}
	for o := delivery.PushDelivered; o <= delivery.PushCancelled; o++ {
		m.seconds[o] = seconds.WithLabelValues(o.String())
	}
	m.delivered, _ = m.seconds[delivery.PushDelivered].(prometheus.Metric) // as every histogram is
	reg.MustRegister(seconds, m.reasons)
	return m
}

// attempted is delivery.DispatcherOptions.Attempted.
func (m *attemptMetrics) attempted(_ hub.TopicID, r delivery.PushResult) {
	if r.Outcome == 0 || int(r.Outcome) >= len(m.seconds) {
		return
	}
	m.seconds[r.Outcome].Observe(r.Latency.Seconds())
	if r.Outcome != delivery.PushDelivered {
		m.reasons.WithLabelValues(r.Outcome.String(), string(r.Reason)).Inc()
	}
}

func newBacklogCollector(d *delivery.Dispatcher, p *delivery.Replayer) prometheus.Collector {
	type reading struct {
		delivery.Backlog
		replays delivery.ReplayStats
	}
	c := &collector[reading]{read: func() reading { return reading{d.Backlog(), p.Stats()} }}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	c.add(gauge, "delivery_lag_messages", "Messages this node has yet to deliver, over all its subscriptions.", func(r reading) float64 { return float64(r.Messages) })
	c.add(gauge, "delivery_subscriptions_behind", "Subscriptions of this node that lag behind their topic.", func(r reading) float64 { return float64(r.Behind) })
	c.add(gauge, "delivery_subscriptions_failing", "Subscriptions of this node whose last attempt failed.", func(r reading) float64 { return float64(r.Failing) })
	c.add(gauge, "delivery_oldest_undelivered_seconds", "Age of the oldest message this node has yet to deliver, 0 if there is none.", func(r reading) float64 {
		if r.Oldest.IsZero() {
			return 0
		}
		return max(time.Since(r.Oldest), 0).Seconds()
	})
	c.add(counter, "dead_letters_replayed_total", "Dead letter replays that were acknowledged.", func(r reading) float64 { return float64(r.replays.Delivered) })
	c.add(counter, "dead_letter_replays_failed_total", "Dead letter replays that failed.", func(r reading) float64 { return float64(r.replays.Failed) })
	return c
}

func newDeliveryCollector(d *delivery.Dispatcher) prometheus.Collector {
	c := &collector[delivery.Stats]{read: d.Stats}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	c.add(counter, "delivery_attempts_total", "Content distribution requests made.", func(s delivery.Stats) float64 { return float64(s.Attempts) })
	c.add(counter, "delivery_delivered_total", "Deliveries that a subscriber acknowledged.", func(s delivery.Stats) float64 { return float64(s.Delivered) })
	c.add(counter, "delivery_failed_total", "Failed delivery attempts.", func(s delivery.Stats) float64 { return float64(s.Failed) })
	c.add(counter, "delivery_dead_lettered_total", "Messages given up for a subscription.", func(s delivery.Stats) float64 { return float64(s.DeadLettered) })
	c.add(counter, "delivery_gone_total", "Subscriptions ended by a 410 response.", func(s delivery.Stats) float64 { return float64(s.Gone) })
	c.add(gauge, "delivery_fast", "Requests in flight to fast endpoints.", func(s delivery.Stats) float64 { return float64(s.Fast) })
	c.add(gauge, "delivery_slow", "Requests in flight to slow or failing endpoints.", func(s delivery.Stats) float64 { return float64(s.Slow) })
	c.add(gauge, "delivery_ready", "Subscriptions waiting for a free delivery slot.", func(s delivery.Stats) float64 { return float64(s.Ready) })
	c.add(gauge, "delivery_waiting", "Subscriptions waiting for their next attempt.", func(s delivery.Stats) float64 { return float64(s.Waiting) })
	c.add(gauge, "delivery_cursors_unsaved", "Cursors not yet saved in the log.", func(s delivery.Stats) float64 { return float64(s.Unsaved) })
	return c
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
