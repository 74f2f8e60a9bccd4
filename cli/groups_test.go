package cli_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A consumer group on three nodes: each message goes to one member, a member that dies leaves its share to the others, one
// that leaves too, and the group ends with its last.
func TestGroupMembersComeAndGoOnACluster(t *testing.T) {
	c := startDevCluster(t, 3, "delivery.retry.initial=20ms", "delivery.retry.max_interval=200ms")
	members := make([]*callbacks, 3)
	var took []arrival
	for i := range members {
		members[i] = newCallbacks(t, nil)
	}
	subscribe := func(i int, mode, group string, more ...string) {
		c.subscribeWith((i+1)%3, append([]string{"hub.mode", mode, "hub.callback", fmt.Sprintf("%s/%s/%d", members[i].URL, group, i), "consumerGroup", group}, more...)...)
	}
	var paths []string
	for i := range members {
		subscribe(i, "subscribe", "shared", "hub.delivery_mode", "parallel")
		subscribe(i, "subscribe", "turns")
		paths = append(paths, fmt.Sprintf("/shared/%d", i), fmt.Sprintf("/turns/%d", i))
	}
	c.active(paths...)
	for i := range c.urls {
		list := c.listed(i)
		for _, group := range []string{"/shared/", "/turns/"} {
			if owner := list[group+"0"].Node; owner == "" || list[group+"1"].Node != owner || list[group+"2"].Node != owner {
				t.Errorf("node-%d says that the members of a group are delivered by %s, %s and %s", i+1, owner, list[group+"1"].Node, list[group+"2"].Node)
			}
		}
	}
	// all are the arrivals of a group, in their order.
	all := func(group string) []arrival {
		took = nil
		for _, m := range members {
			took = append(took, m.at(group)...)
		}
		slices.SortFunc(took, func(a, b arrival) int { return a.at.Compare(b.at) })
		return took
	}
	sent := 0
	say := func(n int) {
		t.Helper()
		for range n {
			c.say(fmt.Sprint(sent))
			sent++
		}
		eventually(t, "both groups have everything", func() bool {
			for _, group := range []string{"/shared/", "/turns/"} {
				seen := map[string]bool{}
				for _, a := range all(group) {
					seen[a.body] = true
				}
				if len(seen) != sent {
					return false
				}
			}
			return true
		})
	}
	say(30)
	for _, group := range []string{"/shared/", "/turns/"} {
		if n := len(all(group)); n != sent {
			t.Errorf("%s: %d deliveries of %d messages to all members together", group, n, sent)
		}
		for i, m := range members {
			if len(m.at(group)) == 0 {
				t.Errorf("member %d of %s got nothing", i, group)
			}
		}
	}
	for k, a := range all("/turns/") {
		if a.body != fmt.Sprint(k) {
			t.Errorf("in turns message %d came as the %dth", k, k+1)
			break
		}
	}

	// One dies: connections are refused.
	members[2].Close()
	before := [2]int{len(members[0].at("/shared/")), len(members[1].at("/shared/"))}
	say(30)
	if len(members[0].at("/shared/")) == before[0] || len(members[1].at("/shared/")) == before[1] {
		t.Error("the dead member's share went to one of the others alone")
	}
	last := -1
	for _, a := range all("/turns/") {
		n := 0
		if _, err := fmt.Sscan(a.body, &n); err != nil || n < last {
			t.Errorf("in turns message %d came after %d", n, last)
		}
		last = n
	}

	// One leaves, through any node.
	subscribe(1, "unsubscribe", "shared")
	subscribe(1, "unsubscribe", "turns")
	for i := range c.urls {
		eventually(t, "it is no member any more", func() bool {
			list := c.listed(i)
			_, shared := list["/shared/1"]
			_, turns := list["/turns/1"]
			return !shared && !turns
		})
	}
	left := len(members[1].at("/"))
	say(10)
	if n := len(members[1].at("/")); n != left {
		t.Errorf("%d messages came to a member that had left", n-left)
	}
	// The last ones leave, and the group with them: another one of the same name may have other terms.
	for i, path := range map[int]string{0: "/turns/0", 2: "/turns/2"} {
		id := c.listed(i)[path].ID
		req, err := http.NewRequest(http.MethodDelete, c.urls[i]+"/v1/subscriptions/"+id, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Errorf("end of %s: %s", path, resp.Status)
		}
	}
	eventually(t, "the last member is told", func() bool { return members[0].denial("/turns/0") != nil })
	for i := range c.urls {
		eventually(t, "the group is gone", func() bool {
			for path := range c.listed(i) {
				if strings.HasPrefix(path, "/turns/") {
					return false
				}
			}
			return true
		})
	}
	c.subscribeWith(2, "hub.callback", members[0].URL+"/again", "consumerGroup", "turns", "hub.delivery_mode", "parallel")
	c.active("/again")
	c.say("again")
	eventually(t, "the new group gets messages", func() bool { return members[0].bodies("/again") == "again" })
}
