package compat_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

// before is the last commit whose program knew feature level 1 only, and nothing of owners.
const before = "eb53ac8fa2b71bd2dbcbde1d1d9a9f97877d691d"

// upgraded is the number of subscriptions in TestUpgradeOfARunningCluster.
var upgraded = flag.Int("subscriptions", 5000, "how many subscriptions TestUpgradeOfARunningCluster has")

// subscribersOfATopic is how many deliveries a message makes.
const subscribersOfATopic = 100

// oldProgram builds the program of an earlier commit from this repository's history.
func oldProgram(t *testing.T) string {
	t.Helper()
	root, err := hubtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(in, name string, args ...string) error {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = in
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", cmd, err, out)
		}
		return nil
	}
	if err := run(root, "git", "cat-file", "-e", before+"^{commit}"); err != nil {
		t.Skipf("commit %s is not here: an export of the sources, or a shallow clone (git fetch --unshallow): %v", before, err)
	}
	archive, source, program := filepath.Join(dir, "old.tar"), filepath.Join(dir, "old"), filepath.Join(dir, "quorumhub")
	begin := time.Now()
	if err := errors.Join(run(root, "git", "archive", "-o", archive, before), os.Mkdir(source, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(run(source, "tar", "-xf", archive), run(source, "go", "build", "-o", program, ".")); err != nil {
		t.Fatal(err)
	}
	t.Logf("built the old program in %v", time.Since(begin))
	return program
}

// upgrade is a cluster that is upgraded node by node while messages flow.
type upgrade struct {
	*tenants
	cluster *chaos.Cluster
	sink    *upgradeSink
	was     map[string]upgradeItem
}

// upgradeItem is what a subscriber can see of its subscription, and its owner.
type upgradeItem struct {
	ID, Topic, Callback, State, Mode, Owner string
	Lease                                   string `json:"lease_expires_at"`
	Cursor                                  uint64
}

func newUpgrade(t *testing.T) *upgrade {
	old := oldProgram(t)
	path := filepath.Join(t.TempDir(), "auth.yaml")
	rules := "rules:\n  - {name: tenants, may: [publish, subscribe, unsubscribe, read, topic.register], topics: [\"**\"], who: [{scope: tenant}]}\n" +
		"  - {name: operate, may: [admin.*], who: [{role: viewer}]}"
	if err := os.WriteFile(path, []byte(rules+viewer()), 0o600); err != nil {
		t.Fatal(err)
	}
	sites, err := chaos.FreeSites(3)
	if err != nil {
		t.Fatal(err)
	}
	u := &upgrade{sink: newUpgradeSink(t)}
	u.cluster = chaos.PrepareCluster(t, sites, hubtest.Settings{"auth.mode": "required", "auth.file": path, "topics.auto_register": true, "log.level": "warn"})
	for _, n := range u.cluster.Nodes {
		n.Use(old)
		n.Key = viewerKey
	}
	u.cluster.Start(t)
	u.tenants = &tenants{t: t, nodes: u.cluster.Nodes}
	u.alice = u.key("alice")
	return u
}

func (u *upgrade) topic(i int) string { return fmt.Sprintf("%s/topics/t%d", u.nodes[0].URL, i) }

// fill imports subscriptions.
func (u *upgrade) fill(count int) {
	u.t.Helper()
	const each = 200
	begin := time.Now()
	for at := 0; at < count; at += each {
		var subs []map[string]string
		for i := at; i < at+each; i++ {
			subs = append(subs, map[string]string{"topic": u.topic(i / subscribersOfATopic), "callback": fmt.Sprintf("%s/%d", u.sink.server.URL, i), "secret": "s3cret"})
		}
		body, err := json.Marshal(map[string]any{"subscriptions": subs})
		if err != nil {
			u.t.Fatal(err)
		}
		hubtest.Eventually(u.t, "an import is accepted", func() error { // it may be repeated
			r, err := u.nodes[0].Send("POST", "/v1/import", hubtest.Headers("Content-Type", "application/json"), bytes.NewReader(body))
			if err == nil && r.Status != http.StatusOK {
				err = errors.New(r.String())
			}
			return err
		})
	}
	u.t.Logf("imported %d subscriptions in %v", count, time.Since(begin))
}

// list returns all subscriptions, by ID.
func (u *upgrade) list(i int) map[string]upgradeItem {
	u.t.Helper()
	all := map[string]upgradeItem{}
	for next := ""; ; {
		var page struct {
			Items []upgradeItem
			Next  string
		}
		if err := json.Unmarshal(u.call(i, viewerKey, "GET", "/v1/subscriptions?limit=1000&cursor="+next, "").Body, &page); err != nil {
			u.t.Fatal(err)
		}
		for _, s := range page.Items {
			all[s.ID] = s
		}
		if next = page.Next; next == "" {
			return all
		}
	}
}

// unchanged checks that every subscription is as it was, but for cursors, which only move forward.
func (u *upgrade) unchanged(when string) {
	u.t.Helper()
	for i := range u.nodes {
		now := u.list(i)
		if len(now) != len(u.was) {
			u.t.Fatalf("%s: node-%d has %d subscriptions, had %d", when, i+1, len(now), len(u.was))
		}
		for id, was := range u.was {
			is := now[id]
			if is.Cursor < was.Cursor {
				u.t.Fatalf("%s: the cursor of %+v went back, was %d", when, is, was.Cursor)
			}
			if is.Cursor = was.Cursor; is != was || is.Owner != "" || is.State != "active" {
				u.t.Fatalf("%s: node-%d has %+v, was %+v", when, i+1, is, was)
			}
		}
	}
}

func (u *upgrade) level(i int) (level int) {
	u.t.Helper()
	var state struct {
		Level int `json:"feature_level"`
	}
	if err := json.Unmarshal(u.call(i, viewerKey, "GET", "/v1/cluster", "").Body, &state); err != nil {
		u.t.Fatal(err)
	}
	return state.Level
}

// rises waits until all nodes have at least a feature level.
func (u *upgrade) rises(to int) {
	u.t.Helper()
	for i := range u.nodes {
		hubtest.Eventually(u.t, "the feature level rises", func() error {
			if level := u.level(i); level < to {
				return fmt.Errorf("%d at node-%d", level, i+1)
			}
			return nil
		})
	}
}

// replace stops a node and starts the new program in its place.
func (u *upgrade) replace(i int) {
	u.t.Helper()
	if code := u.nodes[i].Stop(u.t); code != 0 {
		u.t.Errorf("node-%d stopped with %d", i+1, code)
	}
	u.nodes[i].Use(hubtest.Binary(u.t))
	u.nodes[i].Restart(u.t)
}

// lead makes a node the leader.
func (u *upgrade) lead(i int) {
	u.t.Helper()
	hubtest.Eventually(u.t, fmt.Sprintf("node-%d leads", i+1), func() error {
		if u.cluster.Leader(u.t) == i {
			return nil
		}
		r := u.call(i, viewerKey, "POST", "/v1/cluster/transfer-leadership", fmt.Sprintf(`{"node":"node-%d"}`, i+1), "Content-Type", "application/json")
		return errors.New(r.String())
	})
}

// refusedYet sends what only the new program understands to each node that runs it, and expects a clear refusal.
func (u *upgrade) refusedYet(nodes ...int) {
	u.t.Helper()
	for _, i := range nodes {
		hubtest.Eventually(u.t, fmt.Sprintf("node-%d, among older ones, refuses what they do not know", i+1), func() error {
			r := u.setCredentials(i)
			switch body := string(r.Body); {
			case r.Status != http.StatusServiceUnavailable:
				u.t.Fatalf("node-%d: %s", i+1, r)
			case !strings.Contains(body, "needs feature level 2, but the cluster is at level 1; run the same quorumhub version on every node"):
				return errors.New(body) // no leader at the moment
			}
			return nil
		})
	}
}

func (u *upgrade) setCredentials(i int) *hubtest.Reply {
	u.t.Helper()
	return u.call(i, viewerKey, "PUT", "/v1/callback-credentials", `{"callback":"callback.example","headers":{"X-Gate":"open"}}`, "Content-Type", "application/json")
}

// TestUpgradeOfARunningCluster: a cluster of real processes with many subscriptions is upgraded node by node under load, from the
// program before owners. While old and new nodes are together, either may lead, and what the old ones would not understand is
// refused. Nothing is lost, and nothing changes for subscribers; the feature level rises after the last node. Then a renewal makes
// its principal the owner.
func TestUpgradeOfARunningCluster(t *testing.T) {
	u := newUpgrade(t)
	u.fill(*upgraded)
	u.was = u.list(0)
	if len(u.was) != *upgraded {
		t.Fatalf("%d subscriptions", len(u.was))
	}
	u.rises(1)
	stop := u.load(*upgraded / subscribersOfATopic)

	u.lead(1)
	u.replace(0)
	u.refusedYet(0)
	u.unchanged("one node is new")
	u.lead(0) // a new program leads old ones
	u.progress("a new node leads old ones")
	u.refusedYet(0)
	u.nodes[0].Kill(t)
	if i := u.cluster.Leader(t); i == 0 {
		t.Fatal("node-1 leads although it is dead")
	}
	u.progress("an old node leads again")
	u.nodes[0].Restart(t)
	u.lead(1)
	u.replace(2)
	u.refusedYet(0, 2)
	if level := u.level(0); level != 1 {
		t.Errorf("feature level %d while node-2 is old", level)
	}
	u.replace(1) // it leads
	u.rises(2)
	u.progress("all nodes are new")
	u.unchanged("all nodes are new")
	stop()
	u.sink.check(t)
	u.cluster.SameState(t)
	u.adopted()
}

// adopted renews one subscription: its principal becomes the owner.
func (u *upgrade) adopted() {
	u.t.Helper()
	if r := u.setCredentials(1); r.Status/100 != 2 {
		u.t.Errorf("after the upgrade: %s", r)
	}
	var one upgradeItem
	for _, one = range u.was {
		break
	}
	form := hubtest.Form("hub.mode", "subscribe", "hub.topic", u.nodes[0].TopicURL(one.Topic), "hub.callback", one.Callback, "hub.secret", "s3cret")
	if r := u.call(2, u.alice, "POST", "/hub", form, "Content-Type", formType); r.Status != http.StatusAccepted {
		u.t.Fatal(r)
	}
	hubtest.Eventually(u.t, "the renewal adopts the subscription", func() error {
		var now upgradeItem
		if err := json.Unmarshal(u.call(0, viewerKey, "GET", "/v1/subscriptions/"+one.ID, "").Body, &now); err != nil {
			return err
		}
		if now.Owner != "key/"+u.alice[4:16] || now.State != "active" || now.Cursor < one.Cursor {
			return fmt.Errorf("%+v, was %+v", now, one)
		}
		return nil
	})
}
