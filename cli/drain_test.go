package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A drained node hands over all it delivers, without a repetition or a gap, keeps its vote, and gets its share back when it is let
// deliver again. Any node's console shows it.
func TestDrainedNodeHandsOver(t *testing.T) {
	const topics, each = 2, 6
	c := startDevCluster(t, 3)
	r := newReceivers(t)
	var paths []string
	for i := range topics * each {
		paths = append(paths, fmt.Sprintf("/%d/%d", i%topics, i))
		c.subscribe(i%3, fmt.Sprint("t", i%topics), r.URL+paths[i])
	}
	eventually(t, "all subscriptions are shared evenly", func() bool { return evenShares(c.shares(0), len(paths)) })
	stop := make(chan struct{})
	sent := make(chan []int, 1)
	go func() { sent <- c.load(topics, stop) }()
	time.Sleep(time.Second)

	lead := c.leader(0)
	other := (lead + 1) % 3
	id := fmt.Sprint("node-", lead+1)
	if got := run(t, "", "cluster", "drain", id, "--hub", c.urls[other]); got.code != 0 || !strings.Contains(got.out, id+" is drained") {
		t.Fatalf("%+v", got)
	}
	eventually(t, "the drained node owns nothing", func() bool {
		s := c.shares(other)
		return len(s) == 3 && s[lead] == 0 && s[other]+s[(lead+2)%3] == len(paths)
	})
	if got := run(t, "", "cluster", "status", "--hub", c.urls[other]); got.code != 0 || !strings.Contains(got.out, "drained") || !strings.Contains(got.out, "3 of 3 voters are healthy") {
		t.Errorf("%+v", got)
	}
	resp, err := http.Get(c.urls[(lead+2)%3] + "/console/cluster")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if page := string(text); err != nil || !strings.Contains(page, ", drained</span>") || !strings.Contains(page, "/console/cluster/nodes/"+id+"/undrain") {
		t.Errorf("the console of another node does not show it:\n%s", page)
	}
	time.Sleep(time.Second)
	if got := run(t, "", "cluster", "undrain", id, "--hub", c.urls[lead]); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	eventually(t, "it has its share again", func() bool { return evenShares(c.shares(other), len(paths)) })
	time.Sleep(500 * time.Millisecond)
	close(stop)
	acknowledged := <-sent
	eventually(t, "everything is delivered", func() bool {
		for i, p := range paths {
			if head, _, _, _ := r.tally(p); head < acknowledged[i%topics] {
				return false
			}
		}
		return true
	})
	for _, p := range paths {
		if _, repeated, _, wrong := r.tally(p); repeated > 0 || len(wrong) > 0 {
			t.Errorf("%s: %d repeated, out of order: %v", p, repeated, wrong)
		}
	}
}
