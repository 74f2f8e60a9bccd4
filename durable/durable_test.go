package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"quorumhub/durable"
)

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestAFileIsReplacedAsAWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := durable.WriteFile(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	given, err := durable.NewPending(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(given.Name()) != dir {
		t.Errorf("%s is written elsewhere, from where it cannot be renamed", given.Name())
	}
	if _, err := given.Write([]byte("half of tw")); err != nil {
		t.Fatal(err)
	}
	if err := given.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "one" || !slices.Equal(names(t, dir), []string{"a"}) {
		t.Errorf("got %q in %v, want the former content and no other file", text, names(t, dir))
	}

	done, err := durable.NewPending(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := done.Write([]byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(done.CloseAtomicallyReplace(), done.Cleanup(), durable.SyncDir(dir)); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "two" || !slices.Equal(names(t, dir), []string{"a"}) {
		t.Errorf("got %q in %v", text, names(t, dir))
	}
}

func TestALockIsForOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	first, second := open(), open()
	if err := durable.TryLock(first); err != nil {
		t.Fatal(err)
	}
	if err := durable.TryLock(second); !errors.Is(err, durable.ErrLocked) {
		t.Fatalf("a second lock: %v", err)
	}
	first.Close()
	if err := durable.TryLock(second); err != nil {
		t.Fatalf("closing does not release: %v", err)
	}
	third := open()
	if err := errors.Join(durable.Unlock(second), durable.TryLock(third)); err != nil {
		t.Fatalf("unlocking does not release: %v", err)
	}
}

func TestALockedDirectoryIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	unlock, err := durable.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		again, err := durable.LockDir(dir)
		if err == nil {
			again()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("locked twice at once: %v", err)
	case <-time.After(50 * time.Millisecond): // long enough for one that does not wait
	}
	unlock()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}
