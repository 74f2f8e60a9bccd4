package hub_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func admitted(node, instance string, member bool) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_NodeAdmitted{NodeAdmitted: &hubpb.NodeAdmitted{
		Node: node, Instance: instance, Address: node + ":1", Voter: true, Member: member}}}
}

func nodeChanged(node string, phase hub.NodePhase, vote hubpb.NodeVote) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_NodeChanged{NodeChanged: &hubpb.NodeChanged{Node: node, Phase: phase, Vote: vote}}}
}

func runChanged(node, boot string, run hubpb.NodeRun) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_NodeRunChanged{NodeRunChanged: &hubpb.NodeRunChanged{Node: node, Boot: boot, Run: run}}}
}

func (w *world) node(id string) hub.Node {
	w.Helper()
	n, ok := w.Node(id)
	if !ok {
		w.Errorf("%s is not known", id)
	}
	if back, _ := reloaded(w, w.State).Node(id); !reflect.DeepEqual(back, n) {
		w.Errorf("after a restart %s is %+v, want %+v", id, back, n)
	}
	return n
}

func TestNodeIsIdentifiedByItsInstance(t *testing.T) {
	w := newWorld(t)
	w.apply(admitted("node-4", "", false)) // expected
	w.apply(admitted("node-4", "a", false))
	if n := w.node("node-4"); n.Instance != "a" || n.Phase != hub.NodeExpected {
		t.Errorf("%+v", n)
	}
	w.apply(admitted("node-4", "b", true))
	if n := w.node("node-4"); n.Instance != "a" || n.Phase != hub.NodeExpected {
		t.Errorf("another data directory took its place: %+v", n)
	}
	w.apply(admitted("node-4", "a", true))
	if n := w.node("node-4"); n.Phase != hub.NodeMember || !n.Voter || n.Draining() {
		t.Errorf("%+v", n)
	}
	w.apply(nodeChanged("node-4", 0, hubpb.NodeVote_VOTE_NO))
	if n := w.node("node-4"); n.Voter || n.Phase != hub.NodeMember {
		t.Errorf("%+v", n)
	}
	if len(w.fx.Nodes) != 1 || w.fx.Nodes[0].ID != "node-4" {
		t.Errorf("the effects report %+v", w.fx.Nodes)
	}
}

func TestNodeRemovalIsPermanent(t *testing.T) {
	w := newWorld(t)
	w.apply(admitted("node-4", "a", true))
	w.apply(nodeChanged("node-4", hub.NodeLeaving, 0))
	w.apply(nodeChanged("node-4", hub.NodeMember, 0))
	if n := w.node("node-4"); n.Phase != hub.NodeLeaving || !n.Draining() {
		t.Errorf("a leaving node turned back: %+v", n)
	}
	w.apply(nodeChanged("node-4", hub.NodeRemoved, 0))
	for _, e := range []*hubpb.Event{admitted("node-4", "a", true), admitted("node-4", "b", true), nodeChanged("node-4", hub.NodeMember, hubpb.NodeVote_VOTE_YES)} {
		w.apply(e)
		if n := w.node("node-4"); n.Phase != hub.NodeRemoved || n.Instance != "a" {
			t.Errorf("a removed node came back: %+v", n)
		}
	}
	w.apply(nodeChanged("node-9", hub.NodeLeaving, 0))
	if _, ok := w.Node("node-9"); ok {
		t.Error("a change created an unknown node")
	}
}

func TestNodeURLs(t *testing.T) {
	w := newWorld(t)
	set := func(node string, urls ...string) *hubpb.Event {
		return &hubpb.Event{Kind: &hubpb.Event_NodeUrlsSet{NodeUrlsSet: &hubpb.NodeUrlsSet{Node: node, Urls: urls}}}
	}
	w.apply(set("node-1", "http://unknown"))
	if _, ok := w.Node("node-1"); ok {
		t.Error("URLs created an unknown node")
	}
	w.apply(admitted("node-1", "a", true))
	w.apply(set("node-1", "http://a", "http://alias"))
	if n := w.node("node-1"); !slices.Equal(n.URLs, []string{"http://a", "http://alias"}) {
		t.Errorf("%+v", n)
	}
	if len(w.fx.Nodes) != 1 || len(w.fx.Nodes[0].URLs) != 2 {
		t.Errorf("the effects report %+v", w.fx.Nodes)
	}
	w.apply(admitted("node-1", "a", true))
	w.apply(runChanged("node-1", "run-2", hubpb.NodeRun_RUN_STARTED))
	if n := w.node("node-1"); len(n.URLs) != 2 {
		t.Errorf("another run forgot the URLs: %+v", n)
	}
	var many []string
	for i := range hub.MaxNodeURLs + 10 {
		many = append(many, fmt.Sprint("http://", i))
	}
	w.apply(set("node-1", many...))
	if n := w.node("node-1"); len(n.URLs) != hub.MaxNodeURLs {
		t.Errorf("%d URLs", len(n.URLs))
	}
	w.apply(set("node-1", "http://a"))
	w.apply(nodeChanged("node-1", hub.NodeRemoved, 0))
	w.apply(set("node-1"))
	if n := w.node("node-1"); !slices.Equal(n.URLs, []string{"http://a"}) {
		t.Errorf("a removed node's URLs are no longer known: %+v", n)
	}
	if level := hub.LevelOf(set("node-1")); level != 2 {
		t.Errorf("level %d: older programs stop at this event", level)
	}
}

// Invariant I4: what a stopped node still owned has no owner, under a new epoch, so that neither its next run nor an
// earlier decision can build on it.
func TestI4StoppedNodeReleasesItsSubscriptions(t *testing.T) {
	w := newWorld(t)
	w.apply(admitted("node-1", "a", true))
	kept, moving := w.subscribed("news", cb, hr, ""), w.subscribed("news", cb+"2", hr, "")
	w.assign(kept, "node-1", 0, false)
	w.assign(moving, "node-1", 0, false)
	w.assign(moving, "node-2", 1, true)

	w.apply(runChanged("node-1", "run-1", hubpb.NodeRun_RUN_STARTED))
	w.apply(runChanged("node-1", "run-0", hubpb.NodeRun_RUN_STOPPED)) // a late event of an earlier run
	if w.node("node-1").Draining() {
		t.Error("an earlier run stopped this one")
	}
	w.apply(runChanged("node-1", "run-1", hubpb.NodeRun_RUN_STOPPING))
	if !w.node("node-1").Draining() {
		t.Error("a stopping node was given another subscription")
	}
	w.owner(kept, hub.Assignment{Node: "node-1", Epoch: 1})
	w.apply(runChanged("node-1", "run-1", hubpb.NodeRun_RUN_STOPPED))
	w.owner(kept, hub.Assignment{Epoch: 2})
	w.owner(moving, hub.Assignment{Node: "node-2", Epoch: 2})
	if w.reported(kept) != "/2/" || w.reported(moving) != "node-2/2/" {
		t.Errorf("the effects report %q and %q", w.reported(kept), w.reported(moving))
	}
	w.assign(kept, "node-1", 1, false) // decided before it stopped
	w.owner(kept, hub.Assignment{Epoch: 2})
	w.apply(runChanged("node-1", "run-2", hubpb.NodeRun_RUN_STARTED))
	if n := w.node("node-1"); n.Draining() || n.Boot != "run-2" {
		t.Errorf("%+v", n)
	}
}

func TestNodesAreDrainedUntilTheyAreNot(t *testing.T) {
	w := newWorld(t)
	drain := func(d hubpb.NodeDrain) *hubpb.Event {
		return &hubpb.Event{Kind: &hubpb.Event_NodeChanged{NodeChanged: &hubpb.NodeChanged{Node: "node-4", Drain: d}}}
	}
	w.apply(admitted("node-4", "a", true))
	w.apply(drain(hubpb.NodeDrain_DRAIN_YES))
	if n := w.node("node-4"); !n.Drained || !n.Voter || n.Phase != hub.NodeMember {
		t.Errorf("%+v", n)
	}
	w.apply(runChanged("node-4", "b1", hubpb.NodeRun_RUN_STARTED))
	w.apply(nodeChanged("node-4", 0, hubpb.NodeVote_VOTE_NO))
	if n := w.node("node-4"); !n.Drained {
		t.Errorf("something else ended it: %+v", n)
	}
	w.apply(drain(hubpb.NodeDrain_DRAIN_NO))
	if n := w.node("node-4"); n.Drained {
		t.Errorf("%+v", n)
	}
	// A program that does not know of it would let the node deliver.
	if got := hub.LevelOf(drain(hubpb.NodeDrain_DRAIN_YES)); got != 4 {
		t.Errorf("it needs level %d", got)
	}
	if got := hub.LevelOf(nodeChanged("node-4", hub.NodeLeaving, 0)); got != 1 {
		t.Errorf("other changes need level %d", got)
	}
}
