package web_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// A reader that stops reading is cut off without affecting others, and can resume where it stopped.
func TestSlowStreamReadersAreCutOff(t *testing.T) {
	r := start(t, func(rules *hub.Policy, o *web.Options) {
		rules.MaxMessageBytes, o.StreamWriteTimeout = 1<<20, 300*time.Millisecond
	})
	r.publish(t, "news", "m1")
	slow := r.dial(t)
	if err := slow.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(slow, "GET /topics/news HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
	r.awaitMetric(t, "quorumhub_streams", "1")
	good := r.follow(t, "/topics/news")
	body := strings.Repeat("x", 200<<10)
	const count = 60
	for range count {
		r.publish(t, "news", body)
		if m := decode[streamed](t, good.next(t)); *m.Body != body {
			t.Fatalf("message %s has %d bytes", m.ID, len(*m.Body))
		}
	}
	r.awaitMetric(t, `quorumhub_streams_ended_total{reason="slow"}`, "1")
	r.awaitMetric(t, "quorumhub_streams", "1")
	if err := slow.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines := bufio.NewReader(slow); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			last = strings.TrimSpace(id)
		}
	}
	if last == "" {
		t.Fatal("the slow reader got no ID to resume from")
	}
	if e := r.follow(t, "/topics/news", "Last-Event-ID", last).next(t); e.kind != "" {
		t.Errorf("resumed after %s with %+v", last, e)
	}
}

// Thousands of readers share what they read: each costs only its goroutines and net/http's buffers.
func TestManyStreamReaders(t *testing.T) {
	const count = 1500
	r := start(t, func(rules *hub.Policy, _ *web.Options) { rules.MaxMessageBytes = 1 << 20 })
	r.publish(t, "news", "m1")
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := memory()
	conns := make([]net.Conn, count)
	for i := range conns {
		conns[i] = r.dial(t)
		if err := conns[i].SetDeadline(time.Now().Add(2 * patience)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conns[i], "GET /topics/news HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
	}
	r.awaitMetric(t, "quorumhub_streams", fmt.Sprint(count))
	each := (memory() - before) / count
	t.Logf("%d bytes of memory per reader, including net/http's and the client's", each)
	if each > 48<<10 {
		t.Errorf("a reader costs %d bytes", each)
	}
	body := strings.Repeat("x", 100<<10)
	r.publish(t, "news", body)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for _, c := range conns {
		wg.Go(func() {
			in := bufio.NewReaderSize(c, 4096)
			total, found := 0, false
			for !found {
				line, err := in.ReadSlice('\n')
				total += len(line)
				if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
					return
				}
				found = total > len(body)
			}
			mu.Lock()
			got++
			mu.Unlock()
		})
	}
	wg.Wait()
	if got != count {
		t.Errorf("%d of %d readers got the message", got, count)
	}
	if held := r.metric(t, "quorumhub_stream_bytes"); len(held) > 7 { // one event, not one per reader
		t.Errorf("%s bytes of events in memory", held)
	}
}
