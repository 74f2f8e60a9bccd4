package bench

import (
	"math"
	"slices"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		samples          []float64
		median, min, max float64
	}{
		{nil, 0, 0, 0},
		{[]float64{5}, 5, 5, 5},
		{[]float64{3, 1, 2}, 2, 1, 3},
		{[]float64{40, 10, 30, 20}, 25, 10, 40},
	} {
		s := spreadOf(c.samples)
		if s.Median != c.median || s.Min != c.min || s.Max != c.max || s.Samples != len(c.samples) {
			t.Errorf("%v: got %+v", c.samples, s)
		}
	}
	if w := spreadOf([]float64{90, 100, 110}).Wobble(); math.Abs(w-0.2) > 1e-9 {
		t.Errorf("wobble %v, want 0.2", w)
	}
	if w := (Spread{}).Wobble(); w != 0 {
		t.Errorf("wobble of nothing %v", w)
	}
}

func TestRatio(t *testing.T) {
	if r := ratio(15_000, spreadOf([]float64{20_000, 30_000, 40_000})); r != 0.5 {
		t.Errorf("ratio %v, want 0.5", r)
	}
	if r := ratio(15_000, Spread{}); r != 0 {
		t.Errorf("ratio without a raw figure %v, want 0", r)
	}
}

func TestAims(t *testing.T) {
	for _, c := range []struct {
		aim   *Aim
		value float64
		met   bool
		text  string
	}{
		{atLeast(0.45), 0.45, true, "≥ 0.45"},
		{atLeast(0.45), 0.449, false, "≥ 0.45"},
		{atMost(10, ofP99, " ms"), 10, true, "≤ 10 ms"},
		{atMost(10, ofP99, " ms"), 10.1, false, "≤ 10 ms"},
	} {
		if got := c.aim.Met(c.value); got != c.met || c.aim.String() != c.text {
			t.Errorf("%v met by %v: %v", c.aim, c.value, got)
		}
	}
}

func TestVerdictLooksAtWhatTheAimNames(t *testing.T) {
	slow := Result{Value: 2, Ratio: 0.9, Latency: &Quantiles{P99: 11}, Aim: atMost(10, ofP99, " ms")}.judge()
	if *slow.Met || slow.verdict() != "missed" {
		t.Error("a p99 of 11 ms met an aim of 10 ms")
	}
	fast := Result{Value: 2, Ratio: 0.9, Aim: atLeast(0.75)}.judge()
	if !*fast.Met || fast.verdict() != "met" {
		t.Error("a ratio of 0.9 missed an aim of 0.75")
	}
	if r := (Result{Problem: "no hub", Aim: atLeast(0.75)}).judge(); r.Met != nil || r.verdict() != "BROKEN" {
		t.Error("a result without an aim has a verdict")
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		0.456: "0.46", 3: "3", 12.34: "12.3", 123.4: "123", 12345.6: "12,346", 1234567: "1,234,567", 999.6: "1000",
	} {
		if got := plain(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestPhasesBySelection(t *testing.T) {
	names := func(o Options) (out []string) {
		for _, p := range o.selected() {
			out = append(out, p.label())
		}
		return out
	}
	clustered := []string{"publish-128, 3 nodes", "fanout-100, 3 nodes", "paced, 3 nodes", "mosip, 3 nodes"}
	if got := names(Options{}); len(got) != len(phases())+4 || !slices.Equal(got[len(phases()):], clustered) {
		t.Errorf("all: %v", got)
	}
	if got := names(Options{Nodes: 1}); len(got) != len(phases()) {
		t.Errorf("one node: %v", got)
	}
	if got := names(Options{Nodes: 3, Phases: []string{"mosip", "idle"}}); !slices.Equal(got, clustered[3:]) {
		t.Errorf("mosip and idle on three nodes: %v", got)
	}
	if got := names(Options{Phases: []string{"fanout-10", "publish"}, Quick: true}); len(got) != 3 || got[2] != "fanout-10" {
		t.Errorf("a slow phase given by name must run in a quick run, too: %v", got)
	}
	seen := map[string]bool{}
	for _, name := range PhaseNames() {
		if seen[name] {
			t.Errorf("%s is listed twice", name)
		}
		seen[name] = true
	}
}

// What slows both halves of a pair leaves its ratio alone; medians of each half would not show 0.5 here.
func TestPairedRatio(t *testing.T) {
	if got := pairedRatio([]float64{50, 5, 30, 40}, []float64{100, 10, 60, 20}); got != 0.5 {
		t.Errorf("got %v", got)
	}
	if got := pairedRatio([]float64{1, 1}, []float64{0}); got != 0 {
		t.Errorf("without a raw figure: %v", got)
	}
}
