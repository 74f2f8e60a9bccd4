package conformance_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// wantRefusedStart asserts that the node does not start, and that its output contains name.
func wantRefusedStart(t *testing.T, n *hubtest.Node, name string) {
	t.Helper()
	err := n.Run()
	var refused *hubtest.StartError
	if !errors.As(err, &refused) {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		t.Fatalf("the hub started (%v), want a refusal naming %s", err, name)
	}
	wantReadableRefusal(t, refused)
	if !strings.Contains(refused.Output, name) {
		t.Errorf("the refusal does not name %s:\n%s", name, refused.Output)
	}
}

// wantReadableRefusal asserts an exit code above 0 and no stack trace.
func wantReadableRefusal(t *testing.T, refused *hubtest.StartError) {
	t.Helper()
	if refused.Code <= 0 {
		t.Errorf("exit code %d, want one above 0", refused.Code)
	}
	if strings.Contains(refused.Output, "goroutine ") {
		t.Errorf("the refusal is a stack trace:\n%s", refused.Output)
	}
}

// dataFiles returns the non-empty regular files below dir, relative to it.
func dataFiles(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files = append(files, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// copyTree copies directories and files with their modes, because the hub insists on some of them.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), info.Mode().Perm())
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), content, info.Mode().Perm())
	})
}

// damages are the ways in which a file is damaged.
var damages = map[string]func(path string) error{
	"removed": os.Remove,
	"emptied": func(path string) error { return os.Truncate(path, 0) },
	"halved": func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	},
	"overwritten": func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, bytes.Repeat([]byte("garbage!"), int(info.Size()/8)+1), 0o600)
	},
	"head overwritten": func(path string) error { // bbolt's two meta pages
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, 8192), 0)
		return errors.Join(err, f.Close())
	},
}

// filledNode is a stopped node with acknowledged messages in several segments, none of them delivered.
type filledNode struct {
	*hubtest.Node
	topic      string
	subscriber *hubtest.Subscriber
	acks       []hubtest.Ack
	saved      string // a copy of the intact data directory
}

// newFilledNode publishes messages to a refusing subscriber, stops the node and saves its data.
func newFilledNode(t *testing.T) *filledNode {
	t.Helper()
	const messages = 40
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{
		"storage.segment_bytes": "64KiB", "delivery.retry.max_interval": "100ms", "log.level": "info",
	}})
	f := &filledNode{Node: n, topic: newTopic(t, n), saved: filepath.Join(t.TempDir(), "saved")}
	f.subscriber = hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(503) })
	n.Subscribe(t, f.topic, f.subscriber.Callback("/cb"), "hub.secret", "kept")
	for i := range messages {
		body := append(fmt.Appendf(nil, "message %d ", i), bytes.Repeat([]byte("x"), 8<<10)...)
		f.acks = append(f.acks, n.Publish(t, f.topic, "text/plain", body))
	}
	if code := n.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if err := copyTree(f.saved, n.DataDir); err != nil {
		t.Fatal(err)
	}
	return f
}

// restore puts the intact data directory back.
func (f *filledNode) restore(t *testing.T) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(f.DataDir), copyTree(f.DataDir, f.saved)); err != nil {
		t.Fatal(err)
	}
}

// wantEverything asserts that the running hub still delivers every acknowledged message, signed.
func (f *filledNode) wantEverything(t *testing.T) {
	t.Helper()
	s := f.subscriber
	from := len(s.Deliveries())
	s.OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{} })
	defer s.OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(503) })
	ledger := hubtest.NewLedger()
	ledger.Subscribed(s.URL, f.topic, 0)
	for _, a := range f.acks {
		ledger.Acknowledged(a)
	}
	hubtest.EventuallyWithin(t, 10*time.Second, "delivery of all earlier messages", func() error {
		subs, err := f.ListSubscriptions(f.topic, s.Callback("/cb"))
		if err != nil || len(subs) != 1 || subs[0].Cursor < uint64(len(f.acks)) {
			return fmt.Errorf("subscriptions are %+v (%v)", subs, err) //nolint:errorlint // err may be nil and is only shown
		}
		return nil
	})
	for _, d := range s.Deliveries()[from:] {
		ledger.Delivered(s.URL, d)
		if !d.SignedBy("kept") {
			t.Errorf("%v is not signed with the secret", d)
		}
	}
	if err := ledger.Balance(); err != nil {
		t.Error(err)
	}
}

// TestDamagedDataIsNeverTakenForEmpty damages each file of a stopped node in turn. The hub must either refuse to
// start and name the file, or start and still have everything it acknowledged.
func TestDamagedDataIsNeverTakenForEmpty(t *testing.T) {
	t.Parallel()
	f := newFilledNode(t)
	files := dataFiles(t, f.saved)
	t.Logf("files: %v", files)
	if len(files) < 2 {
		t.Fatalf("the data directory holds only %v", files)
	}
	t.Run("nothing damaged", func(t *testing.T) {
		f.restore(t)
		f.Restart(t)
		f.wantEverything(t)
		f.Kill(t)
	})
	for _, file := range files {
		for how, damage := range damages {
			t.Run(file+" "+how, func(t *testing.T) {
				f.restore(t)
				path := filepath.Join(f.DataDir, file)
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				err := f.TryRestart()
				if err == nil {
					f.wantEverything(t)
					f.Kill(t)
					return
				}
				var refused *hubtest.StartError
				if !errors.As(err, &refused) {
					t.Fatal(err)
				}
				wantReadableRefusal(t, refused)
				namesFile := strings.Contains(refused.Output, filepath.Base(file))
				namesDir := how == "removed" && strings.Contains(refused.Output, filepath.Dir(path)+":")
				if !namesFile && !namesDir {
					t.Errorf("the refusal does not name the file:\n%s", refused.Output)
				}
			})
		}
	}
}
