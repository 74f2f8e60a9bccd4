package cli

import (
	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
)

// nodeCollector shows the figures of log and store; they are read when /metrics is.
type nodeCollector struct {
	raft    *raftlog.Node
	store   *store.Store
	figures []figure
}

type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*reading) float64
}

type reading struct {
	raft    raftlog.Stats
	store   store.Stats
	counts  hub.Counts
	gap     uint64
}

func newNodeCollector(r *raftlog.Node, s *store.Store) *nodeCollector {
	c := &nodeCollector{raft: r, store: s}
	add := func(kind prometheus.ValueType, name, help string, value func(*reading) float64) {
		c.figures = append(c.figures, figure{prometheus.NewDesc("quorumhub_"+name, help, nil, nil), kind, value})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "raft_is_leader", "1 while this node leads.", func(r *reading) float64 { return flag(r.raft.IsLeader) })
	add(gauge, "raft_term", "Raft term.", func(r *reading) float64 { return float64(r.raft.Term) })
	add(gauge, "raft_commit_index", "Raft commit index.", func(r *reading) float64 { return float64(r.raft.CommitIndex) })
	add(gauge, "raft_applied_index", "Index applied in memory.", func(r *reading) float64 { return float64(r.raft.AppliedIndex) })
	add(gauge, "raft_durable_index", "Index that the state files hold.", func(r *reading) float64 { return float64(r.raft.DurableIndex) })
	add(gauge, "raft_log_file_bytes", "Size of raft.db.", func(r *reading) float64 { return float64(r.raft.LogFileBytes) })
	add(counter, "raft_log_written_bytes_total", "Bytes of log entries written.", func(r *reading) float64 { return float64(r.raft.LogWritten) })
	add(counter, "proposals_total", "Proposals brought into the log.", func(r *reading) float64 { return float64(r.raft.Proposals) })
	add(counter, "proposal_batches_total", "Log entries they were put into.", func(r *reading) float64 { return float64(r.raft.Batches) })
	add(gauge, "proposals_queued_bytes", "Bytes of proposals waiting and in flight.", func(r *reading) float64 { return float64(r.raft.QueuedBytes) })
	add(gauge, "disk_free_bytes", "Free space in data_dir, 0 when not measured.", func(r *reading) float64 { return float64(r.raft.FreeDiskBytes) })
	add(gauge, "store_unflushed_bytes", "Applied data that the files do not hold yet.", func(r *reading) float64 { return float64(r.store.UnflushedBytes) })
	add(gauge, "store_tail_bytes", "Messages kept in memory.", func(r *reading) float64 { return float64(r.store.TailBytes) })
	add(gauge, "topics", "Topics.", func(r *reading) float64 { return float64(r.counts.Topics) })
	add(gauge, "subscriptions", "Active subscriptions.", func(r *reading) float64 { return float64(r.counts.Subscriptions) })
	add(gauge, "subscription_requests_pending", "Requests that wait for verification of intent.", func(r *reading) float64 { return float64(r.counts.Requests) })
	add(gauge, "dead_letters", "Dead letters kept.", func(r *reading) float64 { return float64(r.counts.DeadLetters) })
	add(counter, "gap_messages_total", "Messages dropped by retention before a subscription had got them.", func(r *reading) float64 { return float64(r.gap) })
	return c
}

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	r := &reading{raft: c.raft.Stats(), store: c.store.Stats()}
	c.store.View(func(s *hub.State) {
		r.counts = s.Counts()
		r.gap = s.GapMessages()
	})
	for _, f := range c.figures {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(r))
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
