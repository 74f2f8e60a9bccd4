package cli_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Invariant I1: three nodes are killed under load. The most up-to-date one is recovered with everything that was acknowledged, and delivers
// what was not delivered yet.
func TestI1RecoverOneNodeOfThree(t *testing.T) {
	c := startDevCluster(t, 3)
	r := newReceivers(t)
	if status, _ := c.publish(0, "first"); status/100 != 2 {
		t.Fatalf("publish: %d", status)
	}
	for n := range 3 {
		c.subscribe(0, "news", fmt.Sprintf("%s/%d", r.URL, n))
	}
	eventually(t, "every node owns one subscription", func() bool { return evenShares(c.shares(0), 3) })
	acknowledged, stop := c.publishers()
	eventually(t, "messages are acknowledged", func() bool { return acknowledged() > 100 })
	for i := range c.urls {
		c.kill(i)
	}
	acked := stop()

	best, term, entry := 0, 0, 0
	for i := range c.urls {
		got := run(t, "", "recover", "--config", filepath.Join(c.node(i), "config.yaml"))
		if got.code != 2 || !strings.Contains(got.err, "nothing was changed; add --yes") {
			t.Fatalf("the plan for node-%d: %+v", i+1, got)
		}
		var e, te int
		_, text, _ := strings.Cut(got.out, "its log ends with ")
		if _, err := fmt.Sscanf(text, "entry %d of term %d", &e, &te); err != nil {
			t.Fatalf("%v in %q", err, got.out)
		}
		if te > term || te == term && e > entry {
			best, term, entry = i, te, e
		}
	}
	config := filepath.Join(c.node(best), "config.yaml")
	if got := run(t, "", "recover", "--config", config, "--peers", fmt.Sprintf("node-%d=127.0.0.1:1", (best+1)%3+1), "--yes"); got.code != 2 || !strings.Contains(got.err, "--peers") {
		t.Errorf("recover for another node: %+v", got)
	}
	if got := run(t, "", "recover", "--config", config, "--yes"); got.code != 0 || !strings.Contains(got.out, "is now the only voter of cluster") {
		t.Fatalf("recover: %+v", got)
	}
	c.restart(best)
	eventually(t, "it is ready", func() bool { return isReady(c.urls[best]) })
	for offset, body := range acked {
		if got := c.message(best, offset); got != body {
			t.Fatalf("message %d is %q, but %q was acknowledged", offset, got, body)
		}
	}
	status, h := c.publish(best, "last")
	if status/100 != 2 {
		t.Fatalf("publish: %d", status)
	}
	var head int
	fmt.Sscanf(h.Get("X-Hub-Message-Id"), "1-%d", &head)
	for n := range 3 {
		path := fmt.Sprintf("/%d", n)
		eventually(t, "everything is delivered", func() bool { got, _, _, _ := r.tally(path); return got == head })
		if _, _, _, wrong := r.tally(path); len(wrong) > 1 { // the first message is not 1
			t.Errorf("out of order: %v", wrong)
		}
	}
	// A returning node of the old cluster logs what to do and changes nothing.
	other := (best + 1) % 3
	c.restart(other)
	eventually(t, "the old node logs what to do", func() bool { return strings.Contains(c.log(other), "give it an empty data_dir") })
	if got := c.ask(best); len(got.Nodes) != 1 || got.Leader != fmt.Sprintf("node-%d", best+1) {
		t.Errorf("the cluster: %+v", got)
	}
}
