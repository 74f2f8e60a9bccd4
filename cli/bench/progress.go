package bench

import (
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress is a bar based on the expected duration of the phases.
type progress struct {
	bar  *progressbar.ProgressBar
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	ended time.Duration // expected duration of the phases that have ended
	limit time.Duration // the same, including the current phase
	began time.Time
	next  map[string]time.Duration
}

// newProgress starts a bar, which is invisible if w is nil.
func newProgress(w io.Writer, chosen []task, d time.Duration) *progress {
	p := &progress{stop: make(chan struct{}), began: time.Now(), next: map[string]time.Duration{}}
	if w == nil {
		return p
	}
	var total time.Duration
	for _, ph := range chosen {
		p.next[ph.label()] = ph.expected(d)
		total += ph.expected(d)
	}
	p.bar = progressbar.NewOptions64(max(total.Milliseconds(), 1),
		progressbar.OptionSetWriter(w), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30),
		progressbar.OptionSetPredictTime(true), progressbar.OptionShowDescriptionAtLineEnd())
	p.wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
				p.show()
			}
		}
	})
	return p
}

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A bar that cannot be drawn must not stop the measurement.
	_ = p.bar.Set64(min(p.ended+time.Since(p.began), p.limit).Milliseconds())
}

func (p *progress) begin(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began, p.limit = time.Now(), p.ended+p.next[name]
	if p.bar != nil {
		p.bar.Describe(name)
	}
}

func (p *progress) end(expected time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended += expected
}

func (p *progress) close() {
	close(p.stop)
	p.wg.Wait()
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
