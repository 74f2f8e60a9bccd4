package node

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// logPatience is how long a log line may take to be written before the hub goes on without it.
const logPatience = 100 * time.Millisecond

// LogWriter keeps logging from ever ending or stopping a hub: a line that cannot be written (a closed pipe, a full disk) is lost and
// counted, and so are lines that arrive while an earlier one is stuck (a pipe nobody reads). Otherwise a line is written when Write
// returns. Safe for concurrent use. Close it last.
type LogWriter struct {
	lines   chan []byte
	written chan bool // whether the last line was written
	ended   chan struct{}
	lost    atomic.Uint64

	mu     sync.Mutex
	line   []byte // owned by the writing goroutine while busy
	busy   bool
	closed bool
	wait   *time.Timer
}

// NewLogWriter returns a writer of lines to w.
func NewLogWriter(w io.Writer) *LogWriter {
	l := &LogWriter{lines: make(chan []byte), written: make(chan bool, 1), ended: make(chan struct{}), wait: time.NewTimer(logPatience)}
	go func() {
		defer close(l.ended)
		for line := range l.lines {
			n, err := w.Write(line)
			l.written <- err == nil && n == len(line)
		}
	}()
	return l
}

// Write writes one line. It never fails.
func (l *LogWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy {
		select {
		case ok := <-l.written:
			l.settleLocked(ok)
		default: // still stuck
		}
	}
	if l.busy || l.closed {
		l.lost.Add(1)
		return len(line), nil
	}
	l.line = append(l.line[:0], line...)
	l.busy = true
	l.lines <- l.line
	l.wait.Reset(logPatience)
	select {
	case ok := <-l.written:
		l.settleLocked(ok)
	case <-l.wait.C:
	}
	return len(line), nil
}

func (l *LogWriter) settleLocked(ok bool) {
	l.busy = false
	if !ok {
		l.lost.Add(1)
	}
}

// Lost returns how many lines could not be written.
func (l *LogWriter) Lost() uint64 { return l.lost.Load() }

// Close waits for the last line, but not for a write that is stuck: nothing can interrupt that.
func (l *LogWriter) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	close(l.lines)
	l.wait.Reset(logPatience)
	select {
	case <-l.ended:
	case <-l.wait.C:
	}
}

func (l *LogWriter) metric() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "quorumhub_log_lines_lost_total", Help: "Log lines that could not be written.",
	}, func() float64 { return float64(l.Lost()) })
}
