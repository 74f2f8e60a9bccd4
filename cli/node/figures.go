package node

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"quorumhub/delivery"
	"quorumhub/figures"
	"quorumhub/raftlog"
)

// nodeFigures records what this node measures, and shows what all nodes do. It implements view.Figures. The recorder exists once the
// node is open; before that, other nodes' questions are refused.
type nodeFigures struct {
	n        *Node
	started  time.Time
	recorder atomic.Pointer[figures.Recorder]
	cluster  *figures.Cluster

	mu      sync.Mutex // guards what follows
	endings []figures.Ending
	looked  time.Time // when the certificates were looked at
}

var errNoFigures = errors.New("this node is starting")

// open makes what needs the parts of an open node.
func (f *nodeFigures) open() {
	seconds, _ := f.n.server.PublishMetrics()
	var b figures.Bounds
	b.Publish, _, _ = histogramOf(seconds)
	b.Delivery, _, _ = histogramOf(f.n.out.attempts.delivered)
	now := f.n.raft.Clock().Now
	f.started = now()
	f.recorder.Store(figures.NewRecorder(figures.Source{Node: f.n.raft.ID(), Bounds: b, Totals: f.totals, Levels: f.levels, Status: f.status, Now: now}))
	f.cluster = figures.NewCluster(figures.ClusterOptions{ID: f.n.raft.ID(), Nodes: (&keyHolders{f.n}).NodeIDs, Local: f.recorder.Load().Report,
		Ask: f.n.raft.Call, Now: now})
}

// Picture implements view.Figures.
func (f *nodeFigures) Picture(ctx context.Context) *figures.Picture { return f.cluster.Picture(ctx) }

// answer answers another node's question.
func (f *nodeFigures) answer(question []byte) ([]byte, error) {
	r := f.recorder.Load()
	if r == nil {
		return nil, errNoFigures
	}
	return figures.Answer(r.Report, question)
}

func (f *nodeFigures) totals() figures.Totals {
	d := f.n.out.dispatcher.Stats()
	t := figures.Totals{Delivered: d.Delivered, Failed: d.Failed, DeadLettered: d.DeadLettered}
	seconds, bytes := f.n.server.PublishMetrics()
	_, t.PublishTimes, t.Published = histogramOf(seconds)
	_, t.DeliveryTimes, _ = histogramOf(f.n.out.attempts.delivered)
	var m dto.Metric
	if bytes.Write(&m) == nil {
		t.PublishedBytes = uint64(m.GetCounter().GetValue())
	}
	return t
}

// histogramOf reads a histogram: the upper bounds of its buckets, how many were counted in each and beyond, and in all.
func histogramOf(h prometheus.Metric) (bounds []float64, counts []uint64, total uint64) {
	var m dto.Metric
	if h.Write(&m) != nil {
		return nil, nil, 0
	}
	below := uint64(0)
	for _, b := range m.GetHistogram().GetBucket() {
		bounds, counts = append(bounds, b.GetUpperBound()), append(counts, b.GetCumulativeCount()-below)
		below = b.GetCumulativeCount()
	}
	total = m.GetHistogram().GetSampleCount()
	return bounds, append(counts, total-below), total
}

func (f *nodeFigures) levels() figures.Levels {
	b := f.n.out.dispatcher.Backlog()
	l := figures.Levels{Lag: b.Messages, Behind: b.Behind, Failing: b.Failing, Streams: f.n.server.OpenStreams()}
	if !b.Oldest.IsZero() {
		l.Oldest = max(f.n.raft.Clock().Now().Sub(b.Oldest), 0)
	}
	for i := range b.Worst {
		l.Worst = append(l.Worst, failing(&b.Worst[i]))
	}
	return l
}

func failing(w *delivery.Failing) figures.Failing {
	return figures.Failing{Subscription: w.Subscription.String(), Topic: w.Topic, Since: w.Since.UTC(), Failures: w.Failures, Status: w.Status,
		Reason: string(w.Reason), Lag: w.Lag}
}

func (f *nodeFigures) status() figures.Status {
	r, st := f.n.raft.Stats(), f.n.store.Stats()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	s := figures.Status{Version: programVersion(), Started: f.started.UTC(), State: r.State,
		Term: r.Term, LastIndex: r.LastIndex, CommitIndex: r.CommitIndex, AppliedIndex: r.AppliedIndex, DurableIndex: r.DurableIndex,
		LogBytes: r.LogFileBytes, StateBytes: st.StateBytes, SegmentBytes: st.SegmentBytes, UnflushedBytes: st.UnflushedBytes, TailBytes: st.TailBytes,
		QueuedBytes: r.QueuedBytes, FreeDiskBytes: r.FreeDiskBytes, MinFreeBytes: int64(f.n.cfg.Storage.MinFreeBytes), DiskFull: r.DiskFull,
		HeapBytes: heap[0].Value.Uint64(), Goroutines: runtime.NumGoroutine(),
		NotReady: f.n.view.NotReady(), Warnings: f.n.warnings(), Endings: f.ends(time.Now())}
	s.CommitP50, s.CommitP99 = commitTimes(&r.CommitLatency)
	for _, m := range f.n.raft.Members() {
		if m.ID != f.n.raft.ID() {
			s.Hears = append(s.Hears, figures.Heard{Node: m.ID, Alive: m.Alive, Silent: m.Silent.Milliseconds()})
		}
	}
	return s
}

// commitTimes returns how long half, and all but a hundredth, of the batches took at most to be committed.
func commitTimes(h *raftlog.Histogram) (p50, p99 figures.Value) {
	var bounds []float64
	var counts []uint64
	below := uint64(0)
	for _, b := range h.Buckets {
		bounds, counts = append(bounds, b.Le.Seconds()), append(counts, b.Count-below)
		below = b.Count
	}
	counts = append(counts, h.Count-below)
	return figures.Quantile(.5, bounds, counts), figures.Quantile(.99, bounds, counts)
}

// certificatesEvery is how often the files of certificates are looked at.
const certificatesEvery = time.Minute

// ends returns when the certificates of this node end.
func (f *nodeFigures) ends(now time.Time) []figures.Ending {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.looked) < certificatesEvery {
		return f.endings
	}
	f.looked, f.endings = now, nil
	add := func(what string, c *x509.Certificate) {
		f.endings = append(f.endings, figures.Ending{What: what, Begins: c.NotBefore.UTC(), Ends: c.NotAfter.UTC()})
	}
	if f.n.https != nil {
		add("the certificate for HTTPS", f.n.https.Leaf())
	}
	if files := clusterTLS(f.n.cfg); files != nil {
		if c, err := readCertificate(files.Cert); err == nil { // otherwise raftlog warns
			add("the certificate for other nodes", c)
		}
	}
	for _, c := range f.n.rules.Certificates(now) {
		add(fmt.Sprintf("the client certificate of rule %s for callbacks", c.Rule), c.Leaf)
	}
	return f.endings
}

// readCertificate reads the first certificate of a PEM file.
func readCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: no certificate", path)
	}
	return x509.ParseCertificate(block.Bytes)
}

// warnings lists what an operator should attend to although this node works.
func (n *Node) warnings() []string { return append(n.raft.Warnings(), n.access.warnings()...) }
