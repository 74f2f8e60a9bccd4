package web

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"quorumhub/web/problem"
)

// routeCounts caches a route's counters by status code, so that counting a request is a single addition.
type routeCounts [500]atomic.Pointer[prometheus.Counter]

type metrics struct {
	requests       *prometheus.CounterVec
	hubRequests    *prometheus.CounterVec
	publishes      *prometheus.CounterVec
	accepted       prometheus.Counter
	publishedBytes prometheus.Counter
	publishSeconds prometheus.Histogram
	hubSeconds     *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer, b *budget) (*metrics, error) {
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quorumhub_http_requests_total",
			Help: "HTTP requests answered, by route and status code."}, []string{"route", "code"}),
		hubRequests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quorumhub_hub_requests_total",
			Help: "Requests with a form to the hub endpoint, by hub.mode and result (accepted, refused, unavailable, failed); publish is a thin ping."},
			[]string{"mode", "result"}),
		publishes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quorumhub_publishes_total",
			Help: "Publishes with content, by result (accepted, duplicate, refused, unavailable, failed)."}, []string{"result"}),
		publishedBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "quorumhub_published_bytes_total",
			Help: "Bytes of content accepted by this node."}),
		publishSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "quorumhub_publish_seconds",
			Help: "Time from the request to the durable message, for accepted publishes.", Buckets: buckets}),
		hubSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "quorumhub_hub_request_seconds",
			Help: "Time from the request to the durable event, for accepted forms.", Buckets: buckets}, []string{"mode"}),
	}
	m.accepted = m.publishes.WithLabelValues("accepted")
	inUse := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "quorumhub_http_body_bytes",
		Help: "Bytes of bodies held in memory now."}, func() float64 { return float64(b.inUse()) })
	for _, c := range []prometheus.Collector{m.requests, m.hubRequests, m.publishes, m.publishedBytes, m.publishSeconds, m.hubSeconds, inUse} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("web metrics: %w", err)
		}
	}
	return m, nil
}

// PublishMetrics returns what is counted about accepted publishes: how long they took, and their bytes.
func (s *Server) PublishMetrics() (seconds, bytes prometheus.Metric) {
	return s.metrics.publishSeconds, s.metrics.publishedBytes
}

// request counts a response. Without a route, the path does not exist.
func (m *metrics) request(rt *route, status int) {
	if status == 0 {
		status = http.StatusOK // what net/http sends if a handler writes nothing
	}
	if rt == nil || status < 100 || status >= 600 {
		m.requests.WithLabelValues("none", strconv.Itoa(status)).Inc()
		return
	}
	slot := &rt.counts[status-100]
	c := slot.Load()
	if c == nil {
		fresh := m.requests.WithLabelValues(rt.name, strconv.Itoa(status))
		c = &fresh
		slot.Store(c)
	}
	(*c).Inc()
}

func (m *metrics) published(size int64, duplicate bool, start time.Time) {
	if duplicate {
		m.publishes.WithLabelValues("duplicate").Inc()
		return
	}
	m.accepted.Inc()
	m.publishedBytes.Add(float64(size))
	m.publishSeconds.Observe(time.Since(start).Seconds())
}

// notPublished counts a publish that was not accepted.
func (m *metrics) notPublished(p *problem.Details) {
	m.publishes.WithLabelValues(result(p)).Inc()
}

func (m *metrics) hubRequest(mode string, p *problem.Details, start time.Time) {
	if mode == "" {
		mode = "none"
	}
	m.hubRequests.WithLabelValues(mode, result(p)).Inc()
	if p == nil {
		m.hubSeconds.WithLabelValues(mode).Observe(time.Since(start).Seconds())
	}
}

func result(p *problem.Details) string {
	switch {
	case p == nil:
		return "accepted"
	case p.Status == http.StatusServiceUnavailable:
		return "unavailable"
	case p.Status >= 500:
		return "failed"
	}
	return "refused"
}

func metricsHandler(reg *prometheus.Registry) http.HandlerFunc {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP
}
