package raftlog_test

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"quorumhub/raftlog"
)

// occupy keeps n connections open from a loopback address, each of which sends what is given and then waits. One that is closed is
// opened again a little later.
func occupy(t *testing.T, from, to string, n int, sent string) {
	ctx, cancel := context.WithCancel(context.Background())
	var holding sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		holding.Wait()
	})
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	for range n {
		holding.Go(func() {
			for ctx.Err() == nil {
				if conn, err := d.DialContext(ctx, "tcp", to); err == nil {
					stop := context.AfterFunc(ctx, func() { conn.Close() })
					_, _ = io.WriteString(conn, sent)
					_, _ = io.Copy(io.Discard, conn)
					stop()
					conn.Close()
				}
				select {
				case <-ctx.Done():
				case <-time.After(250 * time.Millisecond):
				}
			}
		})
	}
}

// Connections without a certificate fill the places at every cluster port, from the nodes' own address and from others. A node that is
// restarted meanwhile is back as soon as ever.
func TestStrangersDoNotKeepANodeOut(t *testing.T) {
	a := makeAuthority(t)
	for name, tls := range map[string]bool{"TLS": true, "plain": false} {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 3)
			w.change = func(m *member, o *raftlog.Options) {
				if tls {
					o.TLS = a.issue(m.id)
				}
			}
			w.start()
			for _, p := range w.peers {
				for _, from := range []string{"127.0.0.1", "127.0.0.66", "127.0.0.67", "127.0.0.68", "127.0.0.69", "127.0.0.70"} {
					occupy(t, from, p.Address, 40, "")
					occupy(t, from, p.Address, 4, "C")
				}
				occupy(t, "127.0.0.1", p.Address, 60, "")
			}
			for _, m := range slices.Clone(w.members) {
				w.crash(m)
				begin := time.Now()
				if err := w.open(context.Background(), m); err != nil {
					t.Fatal(err)
				}
				w.ready(m)
				if took := time.Since(begin); took > 4*time.Second {
					t.Errorf("%s is back after %v", m.id, took)
				} else {
					t.Logf("%s is back after %v", m.id, took)
				}
			}
			w.acceptsWrites(w.follower())
		})
	}
}

// A stranger's connection ends after a second, and one address has a share only.
func TestStrangersHaveAShareOfTheClusterPort(t *testing.T) {
	a := makeAuthority(t)
	w := newNetwork(t, 3)
	w.change = func(m *member, o *raftlog.Options) { o.TLS = a.issue(m.id) }
	w.start()
	connect := func(from string) <-chan time.Duration {
		t.Helper()
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", w.peers[0].Address)
		if err != nil {
			t.Fatal(err)
		}
		begin, ended := time.Now(), make(chan time.Duration, 1)
		go func() {
			_ = conn.SetReadDeadline(begin.Add(20 * time.Second))
			_, _ = io.Copy(io.Discard, conn)
			ended <- time.Since(begin)
			conn.Close()
		}()
		return ended
	}
	other := connect("127.0.0.99")
	var crowd []<-chan time.Duration
	for range 20 {
		crowd = append(crowd, connect("127.0.0.98"))
	}
	for i, ended := range crowd[:12] {
		if took := <-ended; took > 800*time.Millisecond {
			t.Errorf("connection %d of 20 kept its place for %v", i+1, took)
		}
	}
	for _, ended := range append(crowd[12:], other) {
		if took := <-ended; took < 800*time.Millisecond || took > 4*time.Second {
			t.Errorf("a stranger's connection ends after %v", took)
		}
	}
}
