package bench

import (
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Spread summarises samples of a rate in operations per second.
type Spread struct {
	Median  float64 `json:"median"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
	Samples int     `json:"samples"`
}

// spreadOf returns the zero Spread if there are no samples.
func spreadOf(samples []float64) Spread {
	if len(samples) == 0 {
		return Spread{}
	}
	s := slices.Sorted(slices.Values(samples))
	mid := len(s) / 2
	median := s[mid]
	if len(s)%2 == 0 {
		median = (s[mid-1] + s[mid]) / 2
	}
	return Spread{Median: median, Min: s[0], Max: s[len(s)-1], Samples: len(s)}
}

// Wobble returns the difference between the largest and the smallest sample as a share of the median: 0.1 means ±5 %.
func (s Spread) Wobble() float64 {
	if s.Median == 0 {
		return 0
	}
	return (s.Max - s.Min) / s.Median
}

// ratio returns value over the raw median, or 0 without a raw figure.
func ratio(value float64, raw Spread) float64 {
	if raw.Median == 0 {
		return 0
	}
	return value / raw.Median
}

// Quantiles of a latency, in milliseconds.
type Quantiles struct {
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
	Count int64   `json:"count"`
}

func quantilesOf(h *hdrhistogram.Histogram) *Quantiles {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return &Quantiles{
		P50: ms(h.ValueAtQuantile(50)), P99: ms(h.ValueAtQuantile(99)), P999: ms(h.ValueAtQuantile(99.9)),
		Max: ms(h.Max()), Count: h.TotalCount(),
	}
}

func (q *Quantiles) String() string {
	return fmt.Sprintf("p50 %s  p99 %s  p99.9 %s", millis(q.P50), millis(q.P99), millis(q.P999))
}

func millis(ms float64) string {
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f ms", ms)
	default:
		return fmt.Sprintf("%.0f ms", ms)
	}
}

// The values of Aim.Of.
const (
	ofRatio = "ratio"
	ofValue = "value"
	ofP99   = "p99_ms"
)

// Aim is the figure a measurement should reach.
type Aim struct {
	AtLeast bool    `json:"at_least"` // false means at most
	Value   float64 `json:"value"`
	Of      string  `json:"of"` // the figure to compare: "ratio", "p99_ms", ...
	Unit    string  `json:"unit,omitempty"`
}

// atLeast returns an aim for the ratio to the raw figure.
func atLeast(ratio float64) *Aim { return &Aim{AtLeast: true, Value: ratio, Of: ofRatio} }

// atMost returns an upper limit.
func atMost(value float64, of, unit string) *Aim { return &Aim{false, value, of, unit} }

// Met reports whether the value reaches the aim.
func (a *Aim) Met(value float64) bool {
	if a.AtLeast {
		return value >= a.Value
	}
	return value <= a.Value
}

func (a *Aim) String() string {
	sign := "≤"
	if a.AtLeast {
		sign = "≥"
	}
	return fmt.Sprintf("%s %s%s", sign, plain(a.Value), a.Unit)
}

// plain formats a number with a sensible number of digits.
func plain(v float64) string {
	switch {
	case v >= 1000:
		return thousands(int64(v + 0.5))
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v == float64(int64(v)):
		return fmt.Sprintf("%d", int64(v))
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// perSecond returns a rate, or 0 if no time has passed.
func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// join joins two notes, of which the first may be empty.
func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
