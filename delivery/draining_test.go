package delivery_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"quorumhub/test/fake"
)

// drain announces that a node stops or leaves, or that it is back.
func (m *fleetNode) drain(on bool) {
	m.f.logMu.Lock()
	defer m.f.logMu.Unlock()
	m.drains = on
}

// A node that announces its stop hands over everything at once, however busy the hub is, and repeats nothing. It is
// assigned nothing while it drains, and its share once it is back.
func TestI4ADrainingNodeHandsOver(t *testing.T) {
	slow := func(string, int, string) fake.Answer { return fake.Answer{After: 90 * time.Millisecond} }
	fleetTest(t, 3, slow, nil, func(c *fleet) {
		for i := range 9 {
			c.subscribe(fmt.Sprint("t", i), callback(i))
		}
		for n := range 100 {
			switch n {
			case 20:
				c.nodes[1].drain(true)
			case 27: // half a second later
				if shares, moving := c.shares(); shares[1] != 0 || moving > 0 {
					t.Errorf("shares %v, %d moving", shares, moving)
				}
				for _, cand := range c.nodes[0].p.Candidates() {
					if cand.Node == c.nodes[1].id {
						t.Error("a draining node is offered as a candidate")
					}
				}
			case 50:
				c.nodes[1].drain(false)
			}
			for i := range 9 {
				c.publish(fmt.Sprint("t", i), fmt.Sprint(n+1))
			}
			c.after(75 * time.Millisecond)
		}
		c.after(5 * time.Second)
		if shares, moving := c.shares(); slices.Max(shares) != 3 || moving > 0 {
			t.Errorf("shares %v, %d moving", shares, moving)
		}
		for i := range 9 {
			if f := c.faults(callback(i), 100, 0); len(f) > 0 {
				t.Error(f)
			}
		}
	})
}

// Moves to a node that starts to drain are redirected.
func TestI4NobodyHandsOverToADrainingNode(t *testing.T) {
	hang := func(string, int, string) fake.Answer { return fake.Answer{After: 3 * time.Second} }
	fleetTest(t, 2, hang, nil, func(c *fleet) {
		for i := range 6 {
			c.subscribe(fmt.Sprint("t", i), callback(i))
			c.publish(fmt.Sprint("t", i), "1")
		}
		c.join()
		c.after(2500 * time.Millisecond)
		if _, moving := c.shares(); moving == 0 {
			t.Fatal("no move is in progress")
		}
		c.nodes[2].drain(true)
		c.after(10 * time.Second)
		if shares, moving := c.shares(); shares[2] != 0 || moving > 0 {
			t.Errorf("shares %v, %d moving", shares, moving)
		}
	})
}

func TestSharesFollowWeights(t *testing.T) {
	fleetTest(t, 2, nil, nil, func(c *fleet) {
		c.logMu.Lock()
		c.nodes[0].weight, c.nodes[1].weight = 1, 3
		c.logMu.Unlock()
		for i := range 12 {
			c.subscribe(fmt.Sprint("t", i), callback(i))
		}
		c.after(20 * time.Second)
		if shares, moving := c.shares(); shares[0] != 3 || shares[1] != 9 || moving > 0 {
			t.Errorf("shares %v, %d moving, want 3 and 9", shares, moving)
		}
	})
}
