package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"quorumhub/cli/terminal"
)

const (
	barWidth = 30
	barEvery = 100 * time.Millisecond // on a terminal
	sayEvery = 10 * time.Second       // elsewhere, a line each
)

// progress shows how far a long command has come: on a terminal as a bar that is drawn over and over, elsewhere as a line from time to
// time. It is not safe for concurrent use.
type progress struct {
	w     io.Writer
	doing string
	all   int
	bar   bool
	began time.Time
	last  time.Time
	shown bool
	clock func() time.Time
}

func newProgress(w io.Writer, doing string, all int) *progress {
	f, ok := w.(*os.File)
	now := time.Now()
	return &progress{w: w, doing: doing, all: all, bar: ok && term.IsTerminal(int(f.Fd())), began: now, last: now, clock: time.Now}
}

// at shows that done of all is done, unless something was shown just before.
func (p *progress) at(done int) {
	now, every := p.clock(), sayEvery
	if p.bar {
		every = barEvery
	}
	if now.Sub(p.last) < every && (!p.bar || done < p.all) {
		return
	}
	p.last, p.shown = now, true
	line := p.line(done, now.Sub(p.began))
	if !p.bar {
		fmt.Fprintf(p.w, "%s %s\n", p.doing, line)
		return
	}
	full := barWidth * done / max(1, p.all)
	fmt.Fprintf(p.w, "\r%s [%s%s] %s\x1b[K", p.doing, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), line)
}

// line describes progress in words: share, count, rate and the time that is left.
func (p *progress) line(done int, took time.Duration) string {
	out := fmt.Sprintf("%d%%  %d of %d", 100*done/max(1, p.all), done, p.all)
	if rate := float64(done) / took.Seconds(); done > 0 && took > 0 {
		out += fmt.Sprintf("  %.0f/s", rate)
		if done < p.all {
			out += "  " + terminal.Duration(time.Duration(float64(p.all-done)/rate*float64(time.Second)).Round(time.Second)) + " left"
		}
	}
	return out
}

// end leaves the cursor at the start of a line.
func (p *progress) end() {
	if p.bar && p.shown {
		fmt.Fprintln(p.w)
	}
}
