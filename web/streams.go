package web

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/web/sse"
)

// streams is what all event streams of a node share.
type streams struct {
	frames   *sse.Frames
	open     atomic.Int64
	readers  readers
	stopping context.Context // done when streams are to end
	stop     context.CancelFunc

	sent    prometheus.Counter
	gaps    prometheus.Counter
	refused prometheus.Counter
	ends    *prometheus.CounterVec
}

func (s *Server) newStreams() error {
	st := &s.streams
	st.stopping, st.stop = context.WithCancel(context.Background())
	st.readers.by = map[netip.Addr]int{}
	st.frames = sse.NewFrames(s.encodeMessage)
	st.sent = prometheus.NewCounter(prometheus.CounterOpts{Name: "quorumhub_stream_events_total", Help: "Messages sent over event streams."})
	st.gaps = prometheus.NewCounter(prometheus.CounterOpts{Name: "quorumhub_stream_gaps_total",
		Help: "Gap events: messages that a reader wanted and that are not there any more, or a position that is not known."})
	st.refused = prometheus.NewCounter(prometheus.CounterOpts{Name: "quorumhub_streams_refused_total", Help: "Streams refused because of streams.max."})
	st.ends = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quorumhub_streams_ended_total",
		Help: "Streams that ended, by reason (client, slow, stopping, out_of_touch, topic_removed, forbidden, failed)."}, []string{"reason"})
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "quorumhub_streams", Help: "Event streams open now."},
		func() float64 { return float64(st.open.Load()) })
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "quorumhub_stream_bytes", Help: "Bytes of events held in memory for all streams."},
		func() float64 { return float64(st.frames.Held()) })
	for _, c := range []prometheus.Collector{st.sent, st.gaps, st.refused, st.ends, open, held} {
		if err := s.Registry.Register(c); err != nil {
			return fmt.Errorf("stream metrics: %w", err)
		}
	}
	return nil
}

// readers counts the streams of each client.
type readers struct {
	mu sync.Mutex
	by map[netip.Addr]int
}

// enter counts a stream for its client, unless it has as many as it may; most 0 is no limit.
func (r *readers) enter(client netip.Addr, most int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if most > 0 && r.by[client] >= most {
		return false
	}
	r.by[client]++
	return true
}

func (r *readers) leave(client netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by[client]--; r.by[client] == 0 {
		delete(r.by, client)
	}
}

func (st *streams) ended(reason string) { st.ends.WithLabelValues(reason).Inc() }
