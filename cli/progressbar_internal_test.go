package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// On a terminal a bar is drawn over and over, at most ten times a second and at the end; elsewhere a line appears every ten seconds.
func TestProgressIsABarOnATerminalOnly(t *testing.T) {
	for _, bar := range []bool{true, false} {
		var out bytes.Buffer
		began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		now := began
		p := newProgress(&out, "importing", 1000)
		if p.bar {
			t.Fatal("a buffer is no terminal")
		}
		p.bar, p.began, p.last, p.clock = bar, began, began, func() time.Time { return now }
		for done := 1; done <= 1000; done++ {
			now = now.Add(25 * time.Millisecond) // 25 s in all
			p.at(done)
		}
		p.end()
		got := out.String()
		if !bar {
			if got != "importing 40%  400 of 1000  40/s  15 s left\nimporting 80%  800 of 1000  40/s  5 s left\n" {
				t.Errorf("got %q", got)
			}
			continue
		}
		if strings.Count(got, "\r") != 250 || !strings.Contains(got, "\rimporting [###############...............] 50%  500 of 1000  40/s  12.5 s left\x1b[K") &&
			!strings.Contains(got, "\rimporting [###############...............] 50%  500 of 1000  40/s  13 s left\x1b[K") ||
			!strings.HasSuffix(got, "\rimporting [##############################] 100%  1000 of 1000  40/s\x1b[K\n") {
			t.Errorf("got %q", got)
		}
	}
}
