package cli_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// groupTest has three members, each on its own server, in two groups: one shares the messages in parallel, the other takes turns.
type groupTest struct {
	*devCluster
	members []*callbacks
	sent    int
}

func groupPrefixes() []string { return []string{"/shared/", "/turns/"} }

func (g *groupTest) member(i int, mode, group string, more ...string) {
	g.t.Helper()
	g.subscribeWith((i+1)%3, append([]string{"hub.mode", mode, "hub.callback", fmt.Sprintf("%s/%s/%d", g.members[i].URL, group, i), "consumerGroup", group}, more...)...)
}

// all returns the arrivals of a group, in order.
func (g *groupTest) all(group string) (took []arrival) {
	for _, m := range g.members {
		took = append(took, m.at(group)...)
	}
	slices.SortFunc(took, func(a, b arrival) int { return a.at.Compare(b.at) })
	return took
}

// publishAll publishes n messages and waits until both groups have received them.
func (g *groupTest) publishAll(n int) {
	g.t.Helper()
	for range n {
		g.say(fmt.Sprint(g.sent))
		g.sent++
	}
	eventually(g.t, "both groups have everything", func() bool {
		for _, group := range groupPrefixes() {
			seen := map[string]bool{}
			for _, a := range g.all(group) {
				seen[a.body] = true
			}
			if len(seen) != g.sent {
				return false
			}
		}
		return true
	})
}

// A consumer group on three nodes: each message goes to one member. The share of a member that fails or leaves goes to the others, and
// the group ends with its last member.
func TestGroupMembersComeAndGoOnACluster(t *testing.T) {
	g := &groupTest{devCluster: startDevCluster(t, 3, "delivery.retry.initial=20ms", "delivery.retry.max_interval=200ms")}
	var paths []string
	for i := range 3 {
		g.members = append(g.members, newCallbacks(t, nil))
		g.member(i, "subscribe", "shared", "hub.delivery_mode", "parallel")
		g.member(i, "subscribe", "turns")
		paths = append(paths, fmt.Sprintf("/shared/%d", i), fmt.Sprintf("/turns/%d", i))
	}
	g.active(paths...)
	g.checkOwners()
	g.checkSharing()
	g.failOne()
	g.leaveOne()
	g.endGroup()
}

// checkOwners checks that one node owns all members of a group.
func (g *groupTest) checkOwners() {
	g.t.Helper()
	for i := range g.urls {
		list := g.listed(i)
		for _, group := range groupPrefixes() {
			if owner := list[group+"0"].Node; owner == "" || list[group+"1"].Node != owner || list[group+"2"].Node != owner {
				g.t.Errorf("node-%d shows %s, %s and %s as the owners of a group's members", i+1, owner, list[group+"1"].Node, list[group+"2"].Node)
			}
		}
	}
}

// checkSharing checks that each message goes to one member and every member gets some, in order where they take turns.
func (g *groupTest) checkSharing() {
	g.t.Helper()
	g.publishAll(30)
	for _, group := range groupPrefixes() {
		if n := len(g.all(group)); n != g.sent {
			g.t.Errorf("%s: %d deliveries of %d messages to all members together", group, n, g.sent)
		}
		for i, m := range g.members {
			if len(m.at(group)) == 0 {
				g.t.Errorf("member %d of %s got nothing", i, group)
			}
		}
	}
	for k, a := range g.all("/turns/") {
		if a.body != fmt.Sprint(k) {
			g.t.Errorf("message %d arrived as number %d of /turns/", k, k+1)
			break
		}
	}
}

// failOne makes one member refuse connections.
func (g *groupTest) failOne() {
	g.t.Helper()
	g.members[2].Close()
	before := [2]int{len(g.members[0].at("/shared/")), len(g.members[1].at("/shared/"))}
	g.publishAll(30)
	if len(g.members[0].at("/shared/")) == before[0] || len(g.members[1].at("/shared/")) == before[1] {
		g.t.Error("the failed member's share went to only one of the others")
	}
	last := -1
	for _, a := range g.all("/turns/") {
		n := 0
		if _, err := fmt.Sscan(a.body, &n); err != nil || n < last {
			g.t.Errorf("message %d of /turns/ arrived after %d", n, last)
		}
		last = n
	}
}

// leaveOne unsubscribes one member, through any node.
func (g *groupTest) leaveOne() {
	g.t.Helper()
	g.member(1, "unsubscribe", "shared")
	g.member(1, "unsubscribe", "turns")
	for i := range g.urls {
		eventually(g.t, "it is no longer a member", func() bool {
			list := g.listed(i)
			_, shared := list["/shared/1"]
			_, turns := list["/turns/1"]
			return !shared && !turns
		})
	}
	left := len(g.members[1].at("/"))
	g.publishAll(10)
	if n := len(g.members[1].at("/")); n != left {
		g.t.Errorf("%d messages were delivered to a member that had left", n-left)
	}
}

// endGroup ends the last members and so the group; a new group of the same name may have other settings.
func (g *groupTest) endGroup() {
	g.t.Helper()
	for i, path := range map[int]string{0: "/turns/0", 2: "/turns/2"} {
		req, err := http.NewRequest(http.MethodDelete, g.urls[i]+"/v1/subscriptions/"+g.listed(i)[path].ID, nil)
		if err != nil {
			g.t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			g.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			g.t.Errorf("end of %s: %s", path, resp.Status)
		}
	}
	eventually(g.t, "the last member is notified", func() bool { return g.members[0].denial("/turns/0") != nil })
	for i := range g.urls {
		eventually(g.t, "the group is gone", func() bool {
			for path := range g.listed(i) {
				if strings.HasPrefix(path, "/turns/") {
					return false
				}
			}
			return true
		})
	}
	g.subscribeWith(2, "hub.callback", g.members[0].URL+"/again", "consumerGroup", "turns", "hub.delivery_mode", "parallel")
	g.active("/again")
	g.say("again")
	eventually(g.t, "the new group gets messages", func() bool { return g.members[0].bodies("/again") == "again" })
}
