package configs

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Default returns the configuration without any file, environment or --set. It is valid.
func Default() *Config {
	c := new(Config)
	for _, e := range entries() {
		// The defaults are constants of this package; a test validates each of them.
		_ = e.set(c, given{Texts: []string{e.Default}})
	}
	return c
}

// Validate checks every value and their combinations. The error is an *InvalidError with all problems, not just the
// first.
func (c *Config) Validate() error {
	problems := c.problems(nil)
	if len(problems) == 0 {
		return nil
	}
	return &InvalidError{Problems: problems}
}

// problems checks all keys except those in skip, whose values could not be parsed.
func (c *Config) problems(skip map[string]bool) []Problem {
	var out []Problem
	bad := make(map[string]bool)
	for _, e := range entries() {
		if skip[e.Name] {
			bad[e.Name] = true
			continue
		}
		if err := e.check(c); err != nil {
			bad[e.Name] = true
			out = append(out, Problem{Key: e.Name, Message: err.Error()})
		}
	}
	for _, r := range c.relations() {
		if r.ok || bad[r.key] || r.other != "" && bad[r.other] {
			continue
		}
		out = append(out, Problem{Key: r.key, Message: r.message})
	}
	return out
}

// relation is a rule about two keys; it is skipped if one of them is invalid by itself.
type relation struct {
	key, other string
	ok         bool
	message    string
}

func (c *Config) relations() []relation {
	retry, lease := c.Delivery.Retry, c.Hub.Lease
	judged := c.Auth.Mode != ""
	tls := c.HTTP.TLS
	return []relation{
		{
			"http.addr", "auth.mode", judged || isLoopback(c.HTTP.Addr),
			fmt.Sprintf("%q is not a loopback address, so everyone who can reach it could publish and subscribe; "+
				"expected 127.0.0.1, [::1] or localhost, or auth.mode: required, or auth.mode: open to allow exactly that", c.HTTP.Addr),
		},
		{
			"http.public_url", "http.addr", c.HTTP.PublicURL != "" || c.HTTP.Addr != SystemdAddr && !strings.HasPrefix(c.HTTP.Addr, UnixAddr),
			"is empty, but no URL follows from http.addr if it is a socket; expected the URL of whatever is in front of the hub",
		},
		{"auth.file", "auth.mode", (c.Auth.Mode == "required") == (c.Auth.File != ""), "auth.mode: required and auth.file require each other; expected both or neither"},
		{"auth.directory", "auth.file", c.Auth.Directory == "" || c.Auth.File != "", "auth.directory adds to auth.file; expected both, with auth.mode: required"},
		{"secrets.key", "secrets.key_file", c.Secrets.Key == "" || c.Secrets.KeyFile == "", "secrets.key and secrets.key_file exclude each other; expected one of them, or neither"},
		{"http.tls.cert", "http.tls.key", (tls.Cert == "") == (tls.Key == ""), "http.tls.cert and http.tls.key require each other; expected both or neither"},
		{"http.tls.client_ca", "http.tls.cert", tls.ClientCA == "" || tls.Cert != "", "client certificates require HTTPS; expected http.tls.cert and http.tls.key as well"},
		{
			"cluster.addr", "cluster.tls.cert", c.Cluster.TLS.Cert != "" || isLoopback(c.Cluster.Addr),
			fmt.Sprintf("%q is not a loopback address, so the traffic between nodes would be unencrypted; "+
				"expected 127.0.0.1, [::1] or localhost, or cluster.tls.ca, cluster.tls.cert and cluster.tls.key", c.Cluster.Addr),
		},
		{
			"cluster.addr", "http.addr", len(c.Cluster.Peers) == 0 || !sameAddr(c.HTTP.Addr, c.Cluster.Addr),
			fmt.Sprintf("%q is the port of http.addr (%s), too; expected another one: each port has one listener", c.Cluster.Addr, c.HTTP.Addr),
		},
		{"cluster.peers", "cluster.node_id", len(c.Cluster.Peers) == 0 || c.peersProblem() == "", c.peersProblem()},
		{
			"cluster.tls.cert", "", len(c.Cluster.Peers) == 0 || c.Cluster.TLS == ClusterTLS{} ||
				c.Cluster.TLS.CA != "" && c.Cluster.TLS.Cert != "" && c.Cluster.TLS.Key != "",
			"cluster.tls.ca, cluster.tls.cert and cluster.tls.key require each other; expected all or none",
		},
		{
			"hub.lease.default", "hub.lease.min", lease.Default >= lease.Min,
			fmt.Sprintf("got %q, expected at least hub.lease.min (%s)", FormatDuration(lease.Default), FormatDuration(lease.Min)),
		},
		{
			"hub.lease.max", "hub.lease.default", lease.Max >= lease.Default,
			fmt.Sprintf("got %q, expected at least hub.lease.default (%s)", FormatDuration(lease.Max), FormatDuration(lease.Default)),
		},
		{
			"delivery.retry.max_interval", "delivery.retry.initial", retry.MaxInterval >= retry.Initial,
			fmt.Sprintf("got %q, expected at least delivery.retry.initial (%s)", FormatDuration(retry.MaxInterval), FormatDuration(retry.Initial)),
		},
		{
			"delivery.retry.schedule", "", len(retry.Schedule) <= maxRetryWaits,
			fmt.Sprintf("got %d durations, expected at most %d; the last one repeats", len(retry.Schedule), maxRetryWaits),
		},
		{
			"retention.max_bytes", "message.max_bytes", c.Retention.MaxBytes == 0 || c.Retention.MaxBytes >= 2*c.Message.MaxBytes,
			fmt.Sprintf("got %q, which cannot hold messages of message.max_bytes (%s); expected at least twice as much, or 0 for no limit",
				c.Retention.MaxBytes, c.Message.MaxBytes),
		},
		{
			"storage.tail_bytes", "message.max_bytes", c.Storage.TailBytes >= c.Message.MaxBytes,
			fmt.Sprintf("got %q, expected at least message.max_bytes (%s)", c.Storage.TailBytes, c.Message.MaxBytes),
		},
	}
}

// sameAddr reports whether one process cannot listen on both addresses.
func sameAddr(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	addr := func(host string) netip.Addr {
		switch host {
		case "":
			return netip.IPv6Unspecified()
		case "localhost":
			return netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return netip.Addr{}
		}
		return ip.Unmap()
	}
	covers := func(a, b netip.Addr) bool { return a == b || a.IsUnspecified() && (a.Is6() || b.Is4()) }
	x, y := addr(hostA), addr(hostB)
	return covers(x, y) || covers(y, x)
}

// peersProblem returns what is wrong with the list of peers as a whole, or "".
func (c *Config) peersProblem() string {
	ids, addrs := map[string]bool{}, map[string]bool{}
	for _, p := range c.Cluster.Peers {
		if ids[p.ID] || addrs[p.Addr] {
			return fmt.Sprintf("got %q, whose ID or address is listed twice; expected every node once", p)
		}
		if c.Cluster.TLS.Cert == "" && !isLoopback(p.Addr) {
			return fmt.Sprintf("got %q, which is not a loopback address, so the traffic between nodes would be unencrypted; "+
				"expected cluster.tls.ca, cluster.tls.cert and cluster.tls.key", p)
		}
		ids[p.ID], addrs[p.Addr] = true, true
	}
	if _, ok := c.Self(); !ok {
		if c.Cluster.NodeID == "" {
			return fmt.Sprintf("no peer has this node's cluster.addr, %s; expected cluster.node_id to say which one this node is", c.Cluster.Addr)
		}
		return fmt.Sprintf("this node's cluster.node_id, %q, is not among the peers; expected all nodes that found the cluster, including this one", c.Cluster.NodeID)
	}
	return ""
}
