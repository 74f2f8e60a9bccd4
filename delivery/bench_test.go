package delivery_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

const (
	benchSubscriptions = 100
	benchBody          = 1024
)

// sink answers every POST with 204, counts, and signals every hundredth. Both benchmarks use it.
func sink(b *testing.B) (url string, count *atomic.Int64, hundreds chan struct{}) {
	b.Helper()
	count, hundreds = new(atomic.Int64), make(chan struct{}, 1<<20)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
		if count.Add(1)%benchSubscriptions == 0 {
			hundreds <- struct{}{}
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	b.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return "http://" + l.Addr().String(), count, hundreds
}

// cpuTime returns the CPU time of this process, which other load on the machine hardly affects.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPlainClient is the raw limit: 100 loops around http.Client, each with its own connection.
func BenchmarkPlainClient(b *testing.B) {
	url, _, _ := sink(b)
	tr := &http.Transport{MaxIdleConnsPerHost: benchSubscriptions}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	body := bytes.Repeat([]byte("x"), benchBody)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	var wg sync.WaitGroup
	for i := range benchSubscriptions {
		wg.Go(func() {
			target := fmt.Sprint(url, "/cb/", i)
			for left.Add(-1) >= 0 {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, target, bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				req.Header.Set("Content-Type", "application/json")
				resp, err := c.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-us/post")
}

// BenchmarkFanout delivers to 100 signed subscriptions: first a backlog at full speed, then one message at a time,
// each published once all subscriptions have received the previous one.
func BenchmarkFanout(b *testing.B) {
	for _, mode := range []string{"backlog", "lockstep"} {
		b.Run(mode, func(b *testing.B) {
			url, count, hundreds := sink(b)
			e := fake.NewEngine(b)
			o := options(e)
			client := egress.NewClient(fake.Policy(b, egress.PolicyOptions{Mode: egress.ModeDevLoopback}), egress.ClientOptions{})
			defer client.Close()
			o.Pusher = &delivery.Pusher{Client: client, Clock: hub.SystemClock{}, UserAgent: "quorumhub/bench"}
			d := delivery.NewDispatcher(o)
			e.Observe(d)
			d.Start(context.Background())
			for i := range benchSubscriptions {
				e.Subscribe(fake.Want{Topic: "t", Callback: fmt.Sprint(url, "/cb/", i), Secret: "0123456789abcdef"})
			}
			body := strings.Repeat("x", benchBody)
			messages := (b.N + benchSubscriptions - 1) / benchSubscriptions
			b.ReportAllocs()
			b.ResetTimer()
			cpu := cpuTime(b)
			for range messages {
				e.Publish("t", body)
				if mode == "lockstep" {
					<-hundreds
				}
			}
			for n := 0; mode == "backlog" && n < messages; n++ {
				<-hundreds
			}
			b.StopTimer()
			total := messages * benchSubscriptions
			b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "posts/s")
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(total), "cpu-us/post")
			if err := d.Close(context.Background()); err != nil {
				b.Error(err)
			}
			if n := count.Load(); n != int64(total) {
				b.Errorf("%d requests arrived, want %d", n, total)
			}
		})
	}
}
