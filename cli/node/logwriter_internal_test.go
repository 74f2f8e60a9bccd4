package node

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// stuckWriter blocks until it is released, and fails while broken.
type stuckWriter struct {
	bytes.Buffer
	gate   chan struct{}
	broken bool
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	if w.gate != nil {
		<-w.gate
	}
	if w.broken {
		return 0, errors.New("broken pipe")
	}
	return w.Buffer.Write(p)
}

func TestLinesAreWrittenWhenWriteReturns(t *testing.T) {
	var out bytes.Buffer
	l := NewLogWriter(&out)
	log := slog.New(slog.NewTextHandler(l, nil))
	for i := range 100 {
		log.Info("line", "i", i)
		if !bytes.HasSuffix(out.Bytes(), fmt.Appendf(nil, "i=%d\n", i)) {
			t.Fatalf("line %d is missing", i)
		}
	}
	l.Close()
	if l.Lost() != 0 {
		t.Errorf("%d lines were lost", l.Lost())
	}
}

func TestLinesThatCannotBeWrittenAreCounted(t *testing.T) {
	w := &stuckWriter{broken: true}
	l := NewLogWriter(w)
	for range 3 {
		if n, err := l.Write([]byte("gone\n")); n != 5 || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	if l.Lost() != 3 {
		t.Errorf("%d lines counted, want 3", l.Lost())
	}
	l.Close()
}

// A pipe that nobody reads delays the first line by logPatience and no other; when somebody reads again, lines are written again.
func TestAReaderThatStopsDoesNotStopTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{gate: make(chan struct{})}
		l := NewLogWriter(w)
		begin := time.Now()
		for range 1000 {
			_, _ = l.Write([]byte("stuck\n"))
		}
		if took := time.Since(begin); took != logPatience {
			t.Errorf("1000 lines took %s, want %s", took, logPatience)
		}
		if l.Lost() != 999 {
			t.Errorf("%d lines lost, want 999", l.Lost())
		}
		close(w.gate)
		synctest.Wait()
		_, _ = l.Write([]byte("again\n"))
		l.Close()
		if got := w.String(); got != "stuck\nagain\n" || l.Lost() != 999 {
			t.Errorf("got %q, %d lines lost", got, l.Lost())
		}
	})
}

func TestCloseDoesNotWaitForAStuckWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{gate: make(chan struct{})}
		l := NewLogWriter(w)
		_, _ = l.Write([]byte("stuck\n"))
		begin := time.Now()
		l.Close()
		if took := time.Since(begin); took != logPatience {
			t.Errorf("closing took %s", took)
		}
		_, _ = l.Write([]byte("late\n"))
		if l.Lost() != 1 {
			t.Errorf("%d lines lost, want 1", l.Lost())
		}
		close(w.gate)
	})
}
