package hubtest

import (
	"fmt"
	"net"
	"os"
	"sync"
)

// A hub may still call the callback of a test that is over. A later server must not receive requests meant
// for an earlier one, so scripted servers never share an address: each test process has its own loopback
// address and uses each port only once.
var usedPorts = struct {
	sync.Mutex
	seen map[int]bool
}{seen: map[int]bool{}}

// processHost returns a loopback address that only this process uses, or 127.0.0.1 where that is the only
// one.
var processHost = sync.OnceValue(func() string {
	pid := os.Getpid()
	host := fmt.Sprintf("127.%d.%d.%d", 64+pid>>16%64, pid>>8&255, max(1, min(pid&255, 254)))
	l, err := net.Listen("tcp4", host+":0")
	if err != nil {
		return "127.0.0.1"
	}
	_ = l.Close()
	return host
})

// listenOnce listens on a port of host that this process has not used before.
func listenOnce(host string) (net.Listener, error) {
	for {
		l, err := net.Listen("tcp4", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		usedPorts.Lock()
		seen := usedPorts.seen[port]
		usedPorts.seen[port] = true
		usedPorts.Unlock()
		if !seen {
			return l, nil
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
}
