package console

import (
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"quorumhub/figures"
	"quorumhub/hub"
)

func TestNumbersAndTimesForPeople(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1000): "1,000", count(uint64(1234567)): "1,234,567", count(-12345): "-12,345",
		rateText(0): "0", rateText(.04): "< 0.1", rateText(3.14): "3.1", rateText(1234.4): "1,234", rateText(math.NaN()): "0",
		tookText(0): "–", tookText(800 * time.Microsecond): "0.8 ms", tookText(12345 * time.Microsecond): "12 ms", tookText(3400 * time.Millisecond): "3.4 s", tookText(5 * time.Minute): "5 min",
		spanText(59 * time.Second): "59 s", spanText(-90 * time.Minute): "1 h", spanText(47 * time.Hour): "47 h", spanText(72 * time.Hour): "3 days",
		secondsText(figures.Unknown()): "–", why(503, "http-status"): "HTTP 503", why(0, "timeout"): "timeout", why(0, ""): "no answer",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for n, want := range map[any]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", int64(200 << 20): "200 MiB", uint64(3 << 40): "3.0 TiB"} {
		if got, err := bytesText(n); err != nil || got != want {
			t.Errorf("%v bytes: %q, %v; want %q", n, got, err, want)
		}
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for ago, want := range map[time.Duration]string{0: "just now", 30 * time.Second: "&lt; 1 min ago", 3 * time.Minute: "3 min ago", -30 * time.Second: "in &lt; 1 min", -2 * time.Hour: "in 2 h"} {
		if got := string(timeElement(now.Add(-ago), now)); !strings.Contains(got, ">"+want+"<") || !strings.Contains(got, `datetime="2026-01-02T0`) {
			t.Errorf("%v ago is %s, want %q", ago, got, want)
		}
	}
	if got := timeElement(time.Time{}, now); !strings.Contains(string(got), "never") {
		t.Errorf("no time is %s", got)
	}
}

// A line has a hole where nothing is known, and what is drawn stays within the picture.
func TestPlotsHaveHoles(t *testing.T) {
	p := &plot{Label: `"<script>"`, Series: []series{{Values: []float64{math.NaN(), 1, 7, math.NaN(), 3}}}}
	svg := string(p.SVG())
	if p.TopText() != "10" || strings.Contains(svg, "<script") || strings.Contains(svg, "NaN") {
		t.Errorf("top %s, %s", p.TopText(), svg)
	}
	line, area := p.Series[0].path(10)
	if line != "M150 107.2L300 36.4M600 83.6" || strings.Count(area, "Z") != 2 {
		t.Errorf("line %s, area %s", line, area)
	}
	if line, area := (&series{}).path(1); line != "" || area != "" {
		t.Errorf("nothing is drawn as %q, %q", line, area)
	}
	for v, want := range map[float64]float64{0: 1, .3: .5, 1: 1, 1.1: 2, 3: 5, 7: 10, 99: 100, 12345: 20000} {
		if got := roundUp(v); math.Abs(got-want) > want*1e-9 {
			t.Errorf("%v is rounded up to %v, want %v", v, got, want)
		}
	}
}

func TestListingsAreInTheirURL(t *testing.T) {
	parse := func(query string) (*listing, error) {
		return parseListing(httptest.NewRequest("GET", "/console/topics"+query, nil), []string{"name", "lag"}, "owner", "q")
	}
	l, err := parse("?page=3&sort=-lag&owner=a%2Fb&q=&live=1")
	if err != nil || l.Page != 3 || l.Sort != "lag" || !l.Desc || l.Filter("owner") != "a/b" || l.Filter("q") != "" || !l.Filtered() || l.Path != "/topics" {
		t.Fatalf("%+v, %v", l, err)
	}
	for got, want := range map[string]string{
		l.SortURL("lag"): "?owner=a%2Fb&sort=lag", l.SortURL("name"): "?owner=a%2Fb&sort=name", l.CSVURL(): "?csv=1&owner=a%2Fb&sort=-lag",
		l.AriaSort("lag"): "descending", l.AriaSort("name"): "none", l.pagerOf(perPage, 1000).Prev: "?owner=a%2Fb&page=2&sort=-lag", l.pagerOf(perPage, 1000).Next: "?owner=a%2Fb&page=4&sort=-lag",
		l.pagerOf(10, 110).Next: "",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if from, to := l.bounds(120); from != 100 || to != 120 {
		t.Errorf("rows %d to %d", from, to)
	}
	if from, to := l.bounds(7); from != 7 || to != 7 {
		t.Errorf("beyond the end: rows %d to %d", from, to)
	}
	for _, query := range []string{"?page=0", "?page=x", "?page=1&page=2", "?sort=size", "?sort=--lag", "?what=1"} {
		if _, err := parse(query); hub.CodeOf(err) != hub.CodeInvalid {
			t.Errorf("%s: %v", query, err)
		}
	}
}

func TestCellsAreNoFormulas(t *testing.T) {
	w := httptest.NewRecorder()
	rows := [][]string{{"name", "lag"}, {"=HYPERLINK(\"x\")", "-3"}, {"@a,b", "+x"}, {"\tx", "7"}, {"plain", ""}}
	writeCSV(w, "topics", func() (row []string, ok bool) {
		if len(rows) == 0 {
			return nil, false
		}
		row, rows = rows[0], rows[1:]
		return row, true
	})
	if got, want := w.Body.String(), "name,lag\n\"'=HYPERLINK(\"\"x\"\")\",-3\n\"'@a,b\",'+x\n'\tx,7\nplain,\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
