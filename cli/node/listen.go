package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"quorumhub/configs"
)

// firstPassed is the first descriptor that systemd passes (sd_listen_fds(3)).
const firstPassed = 3

// listenHTTP opens the listener that http.addr names: a TCP address, a unix socket, or a socket passed by systemd.
func listenHTTP(ctx context.Context, c *configs.HTTP) (net.Listener, error) {
	if path, ok := strings.CutPrefix(c.Addr, configs.UnixAddr); ok {
		return listenUnix(ctx, path, os.FileMode(c.SocketMode))
	}
	if c.Addr == configs.SystemdAddr {
		return passedListener(os.Getenv)
	}
	return net.Listen("tcp", c.Addr)
}

// listenUnix makes a socket that those may use whom mode lets write to it. A socket that a killed process left is replaced.
func listenUnix(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s exists and is not a socket", path)
		}
		c, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("%s is %w", path, errBusy)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace a socket that nobody listens on: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// passedListener returns the socket that systemd has passed to this process: the one named http, or the only one.
func passedListener(getenv func(string) string) (net.Listener, error) {
	count, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || err != nil || count < 1 {
		return nil, errors.New("systemd passed no socket to this process; expected a socket unit for this service")
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	at := slices.Index(names, "http")
	switch {
	case at >= 0 && at < count:
	case count == 1:
		at = 0
	default:
		return nil, fmt.Errorf("systemd passed %d sockets, none of them named http; expected FileDescriptorName=http in the socket unit", count)
	}
	f := os.NewFile(uintptr(firstPassed+at), "http")
	l, err := net.FileListener(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("use the socket passed by systemd: %w", err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // it is systemd's
	}
	return l, nil
}

// addrOf returns a listener's address as http.addr would name it.
func addrOf(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return configs.UnixAddr + l.Addr().String()
	}
	return l.Addr().String()
}
