package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// startCluster starts a cluster in a new directory below parent and waits until all nodes are ready. The returned first node stands
// for all: closing it closes the others.
func startCluster(ctx context.Context, nodes int, binary, parent string, env []string, more ...string) (_ *child, err error) {
	dir, err := os.MkdirTemp(parent, "quorumhub-bench-")
	if err != nil {
		return nil, err
	}
	var all []*child
	defer func() {
		if err != nil {
			for _, c := range all {
				err = errors.Join(err, c.kill())
			}
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "secrets.key")
	if err := os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600); err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(2 * nodes)
	if err != nil {
		return nil, err
	}
	places := make([]place, nodes)
	for i := range places {
		p := place{id: fmt.Sprintf("node-%d", i+1), http: addrs[i], cluster: addrs[nodes+i], public: addrs[0], key: key}
		p.dir = filepath.Join(dir, p.id)
		if err := os.Mkdir(p.dir, 0o700); err != nil {
			return nil, err
		}
		for n := range nodes {
			p.peers = append(p.peers, fmt.Sprintf("node-%d=%s", n+1, addrs[nodes+n]))
		}
		places[i] = p
	}
	for _, p := range places {
		c, err := start(binary, p, env, more)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	for _, c := range all {
		if err := c.awaitReady(ctx); err != nil {
			return nil, fmt.Errorf("%s did not become ready: %w\n%s", c.URL, err, c.log())
		}
		c.StartUp = time.Since(c.began)
	}
	first := all[0]
	first.others, first.parent = all[1:], dir
	return first, nil
}

// targets returns the publish URLs of a topic on all nodes.
func (c *child) targets(topic string) ([]target, error) {
	query := "/hub?hub.mode=publish&hub.topic=" + url.QueryEscape(c.topicURL(topic))
	var out []target
	for _, n := range append([]*child{c}, c.others...) {
		t, err := newTarget(n.URL + query)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// target returns the publish URL of a topic, rotating over all nodes.
func (c *child) target(topic string) (target, error) {
	all, err := c.targets(topic)
	if err != nil {
		return target{}, err
	}
	t := all[0]
	if len(all) > 1 {
		t.rotate = all
	}
	return t, nil
}

// onNodes turns a result into one for a cluster.
func (r Result) onNodes(nodes int) Result {
	r.Title += fmt.Sprintf(", %d nodes", nodes)
	r.Nodes = nodes
	r.Aim, r.Met = aimOnNodes(r.Phase), nil
	return r.judge()
}

// aimOnNodes returns a phase's aim for three nodes that share the processors with publishers and sink, or nil.
func aimOnNodes(phase string) *Aim {
	switch phase {
	case "publish-128":
		return atLeast(0.20)
	case "fanout-100":
		return atLeast(0.60)
	case "paced":
		return atMost(25, ofP99, " ms")
	case "mosip":
		return atMost(50, ofP99, " ms")
	}
	return nil
}
