package configs

import "fmt"

// Default is the configuration without any file, environment or --set. It is valid.
func Default() *Config {
	c := new(Config)
	for _, e := range entries() {
		// The defaults are constants of this package; a test holds each to its own check.
		_ = e.set(c, given{Texts: []string{e.Default}})
	}
	return c
}

// Validate checks every value and how the values fit together. Its error is an *InvalidError with everything
// that is wrong, not just the first.
func (c *Config) Validate() error {
	problems := c.problems(nil)
	if len(problems) == 0 {
		return nil
	}
	return &InvalidError{Problems: problems}
}

// problems checks all keys but those in skip, whose value could not even be read.
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

// relation is a rule about two keys; it is not judged when one of them is wrong by itself.
type relation struct {
	key, other string
	ok         bool
	message    string
}

func (c *Config) relations() []relation {
	retry, lease := c.Delivery.Retry, c.Hub.Lease
	open := c.Auth.Mode == "open"
	return []relation{
		{
			"http.addr", "auth.mode", open || isLoopback(c.HTTP.Addr),
			fmt.Sprintf("%q is not a loopback address, so everyone who reaches it could publish and subscribe; "+
				"expected 127.0.0.1, [::1] or localhost, or auth.mode: open to allow just that", c.HTTP.Addr),
		},
		{
			"cluster.addr", "auth.mode", open || isLoopback(c.Cluster.Addr),
			fmt.Sprintf("%q is not a loopback address and the traffic between nodes is not authenticated; "+
				"expected 127.0.0.1, [::1] or localhost, or auth.mode: open in a network you trust", c.Cluster.Addr),
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
			"storage.tail_bytes", "message.max_bytes", c.Storage.TailBytes >= c.Message.MaxBytes,
			fmt.Sprintf("got %q, expected at least message.max_bytes (%s)", c.Storage.TailBytes, c.Message.MaxBytes),
		},
	}
}
