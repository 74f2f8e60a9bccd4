package raftlog_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/raftlog"
)

// BenchmarkPropose measures complete proposals of a 1 KiB message on one node: encoded, durable in raft.db, applied. ns/op is
// the time between two acknowledgements; p50 and p99 are a caller's latency.
func BenchmarkPropose(b *testing.B) {
	for _, inFlight := range []int{1, 2, 4, 8, 16} {
		for _, callers := range []int{1, 16, 128, 1000} {
			b.Run(fmt.Sprintf("inflight=%d/callers=%d", inFlight, callers), func(b *testing.B) {
				benchmarkPropose(b, inFlight, callers)
			})
		}
	}
}

func benchmarkPropose(b *testing.B, inFlight, callers int) {
	m := newMember(b, "node-1")
	m.options = func(o *raftlog.Options) { o.MaxInFlight = inFlight }
	m.start()
	defer m.stop()
	body := strings.Repeat("x", 1024)
	ctx := context.Background()
	if _, err := m.node.Propose(ctx, publish("t", body)); err != nil {
		b.Fatal(err)
	}
	before := m.node.Stats()
	waits := make([][]time.Duration, callers)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.SetBytes(1024)
	b.ResetTimer()
	for c := range callers {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				begin := time.Now()
				if _, err := m.node.Propose(ctx, publish("t", body)); err != nil {
					b.Error(err)
					return
				}
				waits[c] = append(waits[c], time.Since(begin))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(waits...)
	slices.Sort(all)
	after := m.node.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(b.N)/float64(max(1, after.Batches-before.Batches)), "msg/entry")
	b.ReportMetric(float64(after.LogEntries-before.LogEntries)/float64(max(1, after.LogCommits-before.LogCommits)), "entries/fsync")
}

// BenchmarkThreeNodes measures 1 KiB messages on three nodes over loopback TCP, by the node that accepts them.
func BenchmarkThreeNodes(b *testing.B) {
	for _, where := range []string{"leader", "follower"} {
		for _, publishers := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("%s/publishers=%d", where, publishers), func(b *testing.B) {
				w := newNetwork(b, 3)
				w.start()
				m := w.leader()
				if where == "follower" {
					m = w.follower()
				}
				body := strings.Repeat("x", 1024)
				b.SetBytes(1024)
				b.ResetTimer()
				var next atomic.Int64
				var wg sync.WaitGroup
				for range publishers {
					wg.Go(func() {
						for next.Add(1) <= int64(b.N) {
							if _, err := m.node.Propose(context.Background(), publish("a", body)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}
