package gateway

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxNamedServices is how many services have a label of their own; the rest is one.
const maxNamedServices = 200

const (
	serviceNone  = "none" // no such route
	serviceOther = "other"
)

// classes are the labels of a response by the first digit of its status; the last is a client that did not wait.
var classes = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx", "gone"}

type metrics struct {
	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
	waited   prometheus.Histogram
	none     counters
}

// counters are those of one service.
type counters [len(classes)]prometheus.Counter

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quorumhub_gateway_requests_total",
			Help: "Requests to services behind the gateway, by service (the first 200 of the registry, else other; none without a route) and class of status."},
			[]string{"service", "class"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "quorumhub_gateway_seconds",
			Help: "Time from a request to the end of its response.", Buckets: buckets}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "quorumhub_gateway_upstream_seconds",
			Help: "Time that the target took to begin its answer.", Buckets: buckets}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.waited} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("gateway metrics: %w", err)
		}
	}
	m.none = m.of(serviceNone)
	return m, nil
}

func (m *metrics) of(service string) (c counters) {
	for i, class := range classes {
		c[i] = m.requests.WithLabelValues(service, class)
	}
	return c
}

// keep forgets the services that a new registry does not name.
func (m *metrics) keep(named map[string]bool, before map[string]bool) {
	for service := range before {
		if !named[service] {
			m.requests.DeletePartialMatch(prometheus.Labels{"service": service})
		}
	}
}

func (m *metrics) count(x *exchange, took time.Duration) {
	of := &m.none
	if x.version != nil {
		of = &x.version.service.counters
	}
	class := x.status/100 - 1
	if x.status == statusGone {
		class = len(classes) - 1
	}
	if class >= 0 && class < len(classes) && of[class] != nil {
		of[class].Inc()
	}
	m.seconds.Observe(took.Seconds())
	if x.waited > 0 {
		m.waited.Observe(x.waited.Seconds())
	}
}
