package raftlog_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/raftlog"
)

var update = flag.Bool("update", false, "write missing golden files")

// A directory written by the first version (node.json, raft.db and the store, all of format 1) and killed before its last
// entries were flushed still opens: nothing acknowledged is missing and the node works. To recreate it before the first
// release, delete it and run go test ./raftlog -run Golden -update.
func TestGoldenDirectory(t *testing.T) {
	file := filepath.Join("testdata", "golden", "directory-1.tar.gz")
	if _, err := os.Stat(file); os.IsNotExist(err) && *update {
		writeGolden(t, file)
	}
	m := newMember(t, "golden")
	unpack(t, file, m.dir)
	m.start()
	defer m.stop()
	var cluster string
	var topic hub.Topic
	var subscriptions int
	m.store.View(func(s *hub.State) {
		cluster, subscriptions = s.ClusterID(), s.Counts().Subscriptions
		topic, _ = s.TopicByName("t")
	})
	if cluster == "" || subscriptions != 1 || topic.Head != 6 {
		t.Errorf("cluster %q, %d subscriptions, %d messages; want an id, 1 and 6", cluster, subscriptions, topic.Head)
	}
	messages, err := m.store.Read(topic.ID, 1, 10, 1<<20)
	if err != nil || len(messages) != 6 {
		t.Fatalf("%d messages (%v), want 6", len(messages), err)
	}
	for i, msg := range messages {
		if want := fmt.Sprint("message ", i+1); string(msg.Body) != want {
			t.Errorf("message %d is %q, want %q", i+1, msg.Body, want)
		}
	}
	res, err := m.node.Propose(context.Background(), publish("t", "one more"))
	if err != nil || res[0].Offset != 7 {
		t.Errorf("the next message: %+v, %v", res, err)
	}
}

func writeGolden(t *testing.T, file string) {
	t.Helper()
	m := newMember(t, "golden")
	m.options = func(o *raftlog.Options) { o.SnapshotThreshold = 1 << 30 }
	m.start()
	propose := func(e *hubpb.Event) {
		if _, err := m.node.Propose(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
	propose(publish("t", "message 1"))
	propose(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
		Mode: hub.ModeSubscribe, Topic: "t", TopicRaw: "t", Callback: "http://a.example/", CallbackKey: "http://a.example/", LeaseSeconds: 864000}}})
	propose(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: 1, VerifiedFrom: 1_800_000_000_000_000_000}}})
	for i := 2; i <= 6; i++ {
		propose(publish("t", fmt.Sprint("message ", i)))
		if i == 4 {
			if err := m.store.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.kill()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	packed := gzip.NewWriter(out)
	archive := tar.NewWriter(packed)
	if err := archive.AddFS(os.DirFS(m.dir)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []io.Closer{archive, packed, out} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func unpack(t *testing.T, file, dir string) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	packed, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(packed)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
