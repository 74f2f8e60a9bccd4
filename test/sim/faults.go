package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"quorumhub/raftlog"
)

// fault makes something go wrong for a while; mend puts right what has not come right by itself.
type fault struct {
	name  string
	cause func(w *World, rng *rand.Rand) (mend func())
}

var faults = []fault{
	{"a kill", func(w *World, rng *rand.Rand) func() { return down(w.any(rng), false, span(rng)) }},
	{"a machine without power", func(w *World, rng *rand.Rand) func() { return down(w.any(rng), true, span(rng)) }},
	{"a disk that fails", func(w *World, rng *rand.Rand) func() {
		n := w.any(rng)
		p := n.current.Load()
		switch err := n.BreakDisk(); {
		case errors.Is(err, errors.ErrUnsupported):
			return func() {}
		case err != nil:
			w.ledger.fault("simulation", "break the disk of %s: %v", n.id, err)
		}
		select {
		case <-p.doom:
		case <-time.After(5 * time.Second): // it had nothing to write
		}
		return down(n, rng.IntN(2) == 0, span(rng))
	}},
	{"kills of all", func(w *World, rng *rand.Rand) func() {
		power := rng.IntN(2) == 0
		for _, n := range w.nodes {
			n.Kill(power)
		}
		time.Sleep(span(rng))
		return func() {
			for _, n := range w.nodes {
				n.Start()
			}
		}
	}},
	{"a stop", func(w *World, rng *rand.Rand) func() {
		n := w.any(rng)
		n.Stop()
		time.Sleep(span(rng))
		return n.Start
	}},
	{"a transfer of leadership", func(w *World, rng *rand.Rand) func() {
		if p := w.any(rng).up(); p != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = p.raft.Change(ctx, raftlog.Change{Operation: raftlog.TransferLeadership}) // there may be nobody to lead
		}
		return func() {}
	}},
	{"an isolated node", func(w *World, rng *rand.Rand) func() { return w.cut(w.any(rng), true, true, span(rng)) }},
	{"a node that is not heard", func(w *World, rng *rand.Rand) func() { return w.cut(w.any(rng), true, false, span(rng)) }},
	{"a node that hears nothing", func(w *World, rng *rand.Rand) func() { return w.cut(w.any(rng), false, true, span(rng)) }},
	{"two nodes that do not hear each other", func(w *World, rng *rand.Rand) func() {
		a := rng.IntN(nodeCount)
		b := (a + 1) % nodeCount
		w.net.Cut(a, b)
		w.net.Cut(b, a)
		time.Sleep(span(rng))
		return w.net.Mend
	}},
	{"a slow node", func(w *World, rng *rand.Rand) func() {
		n, delay := w.any(rng), time.Duration(1+rng.Int64N(int64(400*time.Millisecond)))
		for _, o := range w.others(n) {
			w.net.Slow(n.index, o.index, delay)
			w.net.Slow(o.index, n.index, delay)
		}
		time.Sleep(span(rng))
		return w.net.Mend
	}},
	{"a flapping node", func(w *World, rng *rand.Rand) func() {
		n := w.any(rng)
		for range 2 + rng.IntN(5) {
			w.cut(n, true, true, span(rng))
			w.net.Mend()
			time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
		}
		return w.net.Mend
	}},
}

func (w *World) any(rng *rand.Rand) *Node { return w.nodes[rng.IntN(nodeCount)] }

func down(n *Node, power bool, span time.Duration) (mend func()) {
	n.Kill(power)
	time.Sleep(span)
	return n.Start
}

// cut keeps what a node sends (out) and what is sent to it (in) from arriving.
func (w *World) cut(n *Node, out, in bool, span time.Duration) (mend func()) {
	for _, o := range w.others(n) {
		if out {
			w.net.Cut(n.index, o.index)
		}
		if in {
			w.net.Cut(o.index, n.index)
		}
	}
	time.Sleep(span)
	return w.net.Mend
}

// span is how long a fault lasts: mostly about as long as the nodes take to notice it.
func span(rng *rand.Rand) time.Duration {
	return time.Duration(rng.Int64N(int64(pick(rng, 300*time.Millisecond, 3*time.Second, 3*time.Second, 8*time.Second))))
}
