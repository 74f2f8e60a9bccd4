package hub_test

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func newClusterForced(id, former string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_NewClusterForced{NewClusterForced: &hubpb.NewClusterForced{
		ClusterId: id, FormerClusterId: former, Node: "node-9", Reason: hubpb.NewClusterReason_NEW_CLUSTER_RESTORED}}}
}

// A cluster started from another's state keeps what belongs to subscribers and publishers, and nothing of the former
// nodes.
func TestI4NewClusterIgnoresFormerNodes(t *testing.T) {
	w := newWorld(t)
	w.apply(initialized("one"))
	id := w.subscribed("news", cb, hr, "secret")
	w.assign(id, "node-1", 0, false)
	w.assign(id, "node-2", 1, true) // being moved
	w.apply(admitted("node-1", "a", true), nodeChanged("node-1", hub.NodeRemoved, 0))
	before := w.sub(id)
	if res := w.apply(newClusterForced("three", "two")); res.Outcome != hub.OutcomeStale {
		if _, ok := w.Node("node-1"); ok {
			t.Error("a former node is still known")
		}
		t.Errorf("for another former cluster: %v", res.Outcome)
	}
	if res := w.apply(newClusterForced("two", "one")); res.Outcome != hub.OutcomeOK {
		t.Fatalf("outcome %v", res.Outcome)
	}
	if got := w.reported(id); got != "/2/" {
		t.Errorf("delivery gets %q", got)
	}
	w.owner(id, hub.Assignment{Epoch: 2})
	after := w.sub(id)
	after.Assignment = before.Assignment
	if !reflect.DeepEqual(after.Cursor, before.Cursor) || !bytes.Equal(after.SealedSecret, before.SealedSecret) || !after.ExpiresAt.Equal(before.ExpiresAt) {
		t.Errorf("the subscription changed from %+v to %+v", before, after)
	}
	if owned := w.Owned("node-1"); owned != 0 || w.ClusterID() != "two" || !slices.Equal(w.FormerClusterIDs(), []string{"one"}) {
		t.Errorf("node-1 owns %d, the cluster is %s after %v", owned, w.ClusterID(), w.FormerClusterIDs())
	}
	// A write of the former owner, under its epoch.
	w.apply(&hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{Node: "node-1",
		Cursors: []*hubpb.Cursor{{Subscription: uint64(id), Offset: 7, Epoch: 1}}}}})
	if got := w.sub(id).Cursor; !reflect.DeepEqual(got, before.Cursor) {
		t.Errorf("a former owner moved the cursor to %+v", got)
	}
	w.assign(id, "node-9", 2, false)
	w.owner(id, hub.Assignment{Node: "node-9", Epoch: 3})
}

// A batch of the former cluster is no longer answered from memory.
func TestNewClusterForgetsOrigins(t *testing.T) {
	w := newWorld(t)
	w.apply(initialized("one"))
	publish := &hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{Topic: "news", Body: []byte("x"), AutoRegister: true}}}
	same := entry(t, w.now, "node-2/b", 1, publish)
	first := w.applyEntry(same)[0].Proposals[0][0]
	if again := w.applyEntry(same)[0].Proposals[0][0]; again != first {
		t.Fatalf("the same batch got %+v and %+v", first, again)
	}
	w.apply(newClusterForced("two", "one"))
	if again := w.applyEntry(same)[0].Proposals[0][0]; again.Offset != first.Offset+1 {
		t.Errorf("got %+v", again)
	}
}
