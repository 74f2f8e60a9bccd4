package dropfs_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"quorumhub/test/chaos/dropfs"
)

func open(t *testing.T, seed uint64) *dropfs.Disk {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root and /dev/fuse")
		}
		t.Skip("needs root and /dev/fuse")
	}
	d, err := dropfs.New(t.TempDir(), rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Synced data survives every power failure; unsynced data survives in part.
func TestOnlyWhatWasSyncedIsSure(t *testing.T) {
	lost, kept := 0, 0
	for seed := range uint64(10) {
		d := open(t, seed)
		path := filepath.Join(d.Dir, "sub", "file")
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		must(t, err)
		before := bytes.Repeat([]byte("a"), 10*4096)
		_, err = f.WriteAt(before, 0)
		must(t, err)
		must(t, f.Sync())
		after := bytes.Repeat([]byte("b"), 10*4096)
		_, err = f.WriteAt(after, 0)
		must(t, err)
		must(t, f.Close())
		must(t, os.WriteFile(filepath.Join(d.Dir, "never synced"), []byte("x"), 0o600))
		must(t, d.Fail())
		got, err := os.ReadFile(path)
		must(t, err)
		if len(got) != len(before) {
			t.Fatalf("%d bytes, want %d", len(got), len(before))
		}
		for page := range 10 {
			switch b := got[page*4096 : (page+1)*4096]; {
			case bytes.Equal(b, before[:4096]):
				lost++
			case bytes.Equal(b, after[:4096]):
				kept++
			default:
				t.Fatal("a page has content that was never written")
			}
		}
		if b, err := os.ReadFile(filepath.Join(d.Dir, "never synced")); err == nil && len(b) > 0 {
			t.Errorf("a file that was never synced contains %q", b)
		}
		// The same again on what survived.
		f, err = os.OpenFile(path, os.O_RDWR, 0o600)
		must(t, err)
		_, err = f.WriteAt(after, 0)
		must(t, err)
		must(t, f.Sync())
		must(t, f.Truncate(4096))
		must(t, f.Close())
		must(t, d.Fail())
		if got, err = os.ReadFile(path); err != nil || !bytes.Equal(got, after) {
			t.Errorf("synced content is missing after the second failure: %v", err)
		}
	}
	if lost == 0 || kept == 0 {
		t.Errorf("%d pages lost and %d kept, want some of both", lost, kept)
	}
}

// A synced directory keeps its names. An unsynced rename survives or not, but never in part.
func TestNamesAreDurableWithTheNextSync(t *testing.T) {
	old, renamed := 0, 0
	for seed := range uint64(10) {
		d := open(t, seed)
		for _, name := range []string{"current", "next"} {
			f, err := os.Create(filepath.Join(d.Dir, name))
			must(t, err)
			_, err = f.WriteString(name)
			must(t, err)
			must(t, f.Sync())
			must(t, f.Close())
		}
		must(t, os.Rename(filepath.Join(d.Dir, "next"), filepath.Join(d.Dir, "current")))
		if seed%2 == 0 {
			dir, err := os.Open(d.Dir)
			must(t, err)
			must(t, dir.Sync())
			must(t, dir.Close())
		}
		must(t, d.Fail())
		got, err := os.ReadFile(filepath.Join(d.Dir, "current"))
		must(t, err)
		switch {
		case string(got) == "next":
			renamed++
		case string(got) == "current" && seed%2 != 0:
			old++
		default:
			t.Errorf("current contains %q", got)
		}
	}
	if old == 0 || renamed < 5 {
		t.Errorf("%d times the old name, %d times the new one", old, renamed)
	}
}
