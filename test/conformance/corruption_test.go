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

// wantRefusedStart asserts that the node does not start, and says so naming something.
func wantRefusedStart(t *testing.T, n *hubtest.Node, name string) {
	t.Helper()
	err := n.Run()
	var refused *hubtest.StartError
	if !errors.As(err, &refused) {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		t.Fatalf("the hub started (%v), want a refusal that names %s", err, name)
	}
	if refused.Code <= 0 {
		t.Errorf("exit code %d, want one above 0", refused.Code)
	}
	if !strings.Contains(refused.Output, name) {
		t.Errorf("the refusal does not name %s:\n%s", name, refused.Output)
	}
	if strings.Contains(refused.Output, "goroutine ") {
		t.Errorf("the refusal is a stack trace:\n%s", refused.Output)
	}
}

// dataFiles returns the regular files below dir that are not empty, relative to it.
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

// copyTree copies directories and files with their modes: some of them must not be readable by others.
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

// damages are what may happen to a file.
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

// TestDamagedDataIsNeverTakenForEmpty damages each file of a stopped node in turn. The hub then refuses to
// start and names the file; or it starts, and everything that it has acknowledged is still there.
func TestDamagedDataIsNeverTakenForEmpty(t *testing.T) {
	t.Parallel()
	const messages = 40
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{
		"storage.segment_bytes": "64KiB", "delivery.retry.max_interval": "100ms", "log.level": "info",
	}})
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(503) })
	n.Subscribe(t, topic, s.Callback("/cb"), "hub.secret", "kept")
	var acks []hubtest.Ack
	for i := range messages {
		acks = append(acks, n.Publish(t, topic, "text/plain", append(fmt.Appendf(nil, "message %d ", i), bytes.Repeat([]byte("x"), 8<<10)...)))
	}
	if code := n.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	saved := filepath.Join(t.TempDir(), "saved")
	if err := copyTree(saved, n.DataDir); err != nil {
		t.Fatal(err)
	}
	files := dataFiles(t, saved)
	t.Logf("files: %v", files)
	if len(files) < 2 {
		t.Fatalf("the data directory holds %v", files)
	}

	restore := func(t *testing.T) {
		if err := errors.Join(os.RemoveAll(n.DataDir), copyTree(n.DataDir, saved)); err != nil {
			t.Fatal(err)
		}
	}
	// whole asserts that a started hub still delivers every message, signed.
	whole := func(t *testing.T) {
		from := len(s.Deliveries())
		s.OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{} })
		defer s.OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(503) })
		ledger := hubtest.NewLedger()
		ledger.Subscribed(s.URL, topic, 0)
		for _, a := range acks {
			ledger.Acknowledged(a)
		}
		hubtest.EventuallyWithin(t, 10*time.Second, "all messages of before", func() error {
			if subs, err := n.ListSubscriptions(topic, s.Callback("/cb")); err != nil || len(subs) != 1 || subs[0].Cursor < messages {
				return fmt.Errorf("subscriptions are %+v (%v)", subs, err) //nolint:errorlint // err may be nil, and is only shown
			}
			return nil
		})
		for _, d := range s.Deliveries()[from:] {
			ledger.Delivered(s.URL, d)
			if !d.SignedBy("kept") {
				t.Errorf("%v is not signed by the secret", d)
			}
		}
		if err := ledger.Balance(); err != nil {
			t.Error(err)
		}
	}
	t.Run("nothing damaged", func(t *testing.T) {
		restore(t)
		n.Restart(t)
		whole(t)
		n.Kill(t)
	})
	for _, file := range files {
		for how, damage := range damages {
			t.Run(file+" "+how, func(t *testing.T) {
				restore(t)
				if err := damage(filepath.Join(n.DataDir, file)); err != nil {
					t.Fatal(err)
				}
				err := n.TryRestart()
				if err == nil {
					whole(t)
					n.Kill(t)
					return
				}
				var refused *hubtest.StartError
				if !errors.As(err, &refused) {
					t.Fatal(err)
				}
				if refused.Code <= 0 {
					t.Errorf("exit code %d, want one above 0", refused.Code)
				}
				if !strings.Contains(refused.Output, filepath.Base(file)) &&
					!(how == "removed" && strings.Contains(refused.Output, filepath.Dir(filepath.Join(n.DataDir, file))+":")) {
					t.Errorf("the refusal does not name the file:\n%s", refused.Output)
				}
				if strings.Contains(refused.Output, "goroutine ") {
					t.Errorf("the refusal is a stack trace:\n%s", refused.Output)
				}
			})
		}
	}
}
