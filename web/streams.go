package web

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/web/sse"
)

// streams is shared by all event streams of a node.
type streams struct {
	frames  *sse.Frames
	open    atomic.Int64
	readers clientCounts
	// principals counts the streams of each.
	principals counts[string]
	list       openStreams
	stopping   context.Context // done when streams must end
	stop       context.CancelFunc

	sent    prometheus.Counter
	gaps    prometheus.Counter
	refused prometheus.Counter
	ends    *prometheus.CounterVec
}

func (s *Server) newStreams() error {
	st := &s.streams
	st.stopping, st.stop = context.WithCancel(context.Background())
	st.frames = sse.NewFrames(largestEvent, s.encodeMessage)
	st.sent = prometheus.NewCounter(prometheus.CounterOpts{Name: "quorumhub_stream_events_total", Help: "Messages sent over event streams."})
	st.gaps = prometheus.NewCounter(prometheus.CounterOpts{Name: "quorumhub_stream_gaps_total",
		Help: "Gap events: messages dropped before a reader got them, or an unknown position."})
	st.refused = prometheus.NewCounter(prometheus.CounterOpts{Name: "quorumhub_streams_refused_total", Help: "Streams refused because of streams.max."})
	st.ends = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quorumhub_streams_ended_total",
		Help: "Streams that ended, by reason (client, slow, stopping, out_of_touch, topic_removed, forbidden, ended, failed)."}, []string{"reason"})
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "quorumhub_streams", Help: "Open event streams."},
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

func (st *streams) ended(reason string) { st.ends.WithLabelValues(reason).Inc() }

// OpenStreams returns how many event streams are open at this node, those of console pages included.
func (s *Server) OpenStreams() int { return int(s.streams.open.Load()) }
