package store_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/store"
)

func initialized(id string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_ClusterInitialized{ClusterInitialized: &hubpb.ClusterInitialized{ClusterId: id}}}
}

// backup takes a backup of everything applied to s.
func backup(t testing.TB, s *store.Store) ([]byte, store.BackupMeta) {
	t.Helper()
	flush(t, s)
	b, err := s.Backup(t.Context(), store.BackupInfo{Program: "test", Node: "node-1", SecretsKey: "k", Complete: true,
		TakenAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out bytes.Buffer
	if n, err := b.WriteTo(&out); err != nil || n != b.Size || int64(out.Len()) != n {
		t.Fatalf("%d bytes written, WriteTo returned %d, Size is %d: %v", out.Len(), n, b.Size, err)
	}
	return out.Bytes(), b.Meta
}

// extracted opens a store extracted from a backup.
func extracted(t testing.TB, data []byte) *store.Store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fsm")
	if _, err := store.Extract("a backup", bytes.NewReader(data), dir); err != nil {
		t.Fatal(err)
	}
	return open(t, slow(dir))
}

func clustered(t testing.TB, messages int) (*store.Store, *model) {
	opts := slow(t.TempDir())
	opts.SegmentBytes = 64 << 10
	s, m, w := open(t, opts), newModel(), newWriter()
	entries := []store.Entry{w.entry(t, initialized("a cluster")), w.entry(t, request("a", "https://s.example/1")), w.entry(t, verified(1, 0, w.now))}
	for i := range messages {
		entries = append(entries, w.entry(t, publish(string(rune('a'+i%3)), bytes.Repeat([]byte{byte(i)}, 1000))))
	}
	for _, e := range entries {
		apply(t, s, e)
		if e.Index%50 == 0 {
			flush(t, s) // several segments
		}
	}
	m.apply(t, entries...)
	return s, m
}

func TestBackupHoldsEverything(t *testing.T) {
	s, m := clustered(t, 300)
	data, meta := backup(t, s)
	if len(meta.Files) < 3 {
		t.Errorf("the backup has %d files, want several segments", len(meta.Files))
	}
	read, err := store.VerifyBackup("a backup", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var hash string
	s.View(func(st *hub.State) { hash = fmt.Sprintf("%016x", st.Hash()) })
	if read.Index != s.Applied().Index || read.StateHash != hash || read.ClusterID != "a cluster" || !read.Complete || !read.TakenAt.Equal(meta.TakenAt) {
		t.Errorf("got %+v", read)
	}
	m.check(t, extracted(t, data))
}

// A backup is of one position, whatever is applied, flushed and trimmed while it is read.
func TestBackupIsConsistent(t *testing.T) {
	s, m := clustered(t, 100)
	flush(t, s)
	b, err := s.Backup(t.Context(), store.BackupInfo{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	w := newWriter()
	w.index, w.now = s.Applied().Index, w.now+int64(time.Hour)
	for i := range 50 {
		apply(t, s, w.entry(t, publish("a", bytes.Repeat([]byte("later"), 1000)), trim(1, uint64(20+i/10))))
		if i%10 == 0 {
			flush(t, s)
		}
	}
	var out bytes.Buffer
	if _, err := b.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	m.check(t, extracted(t, out.Bytes()))
}

func TestDamagedBackupIsRefused(t *testing.T) {
	s, _ := clustered(t, 5)
	data, _ := backup(t, s)
	whole := contents(t, data)
	check := func(what string, bad []byte) {
		t.Helper()
		_, err := store.VerifyBackup("a backup", bytes.NewReader(bad))
		switch {
		case err == nil:
			// The changed byte was padding, or in a tar field that is not read.
			if !maps.Equal(contents(t, bad), whole) {
				t.Errorf("%s: accepted, but its content differs", what)
			}
		case strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "a backup"):
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := 0; n < len(data)-1024; n += 509 { // the last 1024 bytes only mark the end
		if _, err := store.VerifyBackup("a backup", bytes.NewReader(data[:n])); !errors.Is(err, hub.ErrCorrupt) {
			t.Errorf("%d of %d bytes: %v", n, len(data), err)
		}
		if _, err := store.VerifyBackup("a backup", io.MultiReader(bytes.NewReader(data[:n]), brokenReader{})); err == nil {
			t.Errorf("interrupted after %d of %d bytes: accepted", n, len(data))
		}
	}
	for at := 0; at < len(data); at += 97 {
		bad := bytes.Clone(data)
		bad[at] ^= 1 << (at % 8)
		check(fmt.Sprintf("byte %d", at), bad)
	}
	for _, c := range []struct{ old, new, words string }{
		{`"format": 1`, `"format": 2`, "this program supports format 1"},
		{`"feature_level": 1`, `"feature_level": 9`, "this program supports level " + strconv.Itoa(hub.FeatureLevel)},
		{`log/1.db`, `log/../.`, "files that do not belong to a store"},
	} {
		bad := bytes.Replace(data, []byte(c.old), []byte(c.new), 1)
		if _, err := store.VerifyBackup("a backup", bytes.NewReader(bad)); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", c.new, err)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// contents returns the content of the files that Extract creates, by name.
func contents(t *testing.T, data []byte) map[string]string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fsm")
	if _, err := store.Extract("a backup", bytes.NewReader(data), dir); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files(t, dir, "") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(dir, f)
		if err != nil {
			t.Fatal(err)
		}
		out[rel] = string(b)
	}
	return out
}

// A failed Extract leaves no store behind.
func TestExtractOfADamagedBackupCreatesNoStore(t *testing.T) {
	s, _ := clustered(t, 5)
	data, _ := backup(t, s)
	dir := filepath.Join(t.TempDir(), "fsm")
	data[len(data)-2000] ^= 1
	if _, err := store.Extract("a backup", bytes.NewReader(data), dir); !errors.Is(err, hub.ErrCorrupt) {
		t.Fatal(err)
	}
	if names := files(t, dir, "CURRENT"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	if _, err := store.Extract("a backup", bytes.NewReader(data), dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("into a directory that is not empty: %v", err)
	}
}

// Every later version can restore backups of format 1. To recreate the file before the first release, delete it and run
// go test ./store -run Golden -update.
func TestGoldenBackup(t *testing.T) {
	file := filepath.Join("testdata", "golden", "backup-1.tar.gz")
	if _, err := os.Stat(file); os.IsNotExist(err) && *update {
		s, _ := clustered(t, 12)
		data, _ := backup(t, s)
		var packed bytes.Buffer
		zip := gzip.NewWriter(&packed)
		_, err := zip.Write(data)
		if err := errors.Join(err, zip.Close(), os.WriteFile(file, packed.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	packed, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	zip, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	s := extracted(t, data)
	s.View(func(st *hub.State) {
		topics := st.Topics(0, 0)
		if st.ClusterID() != "a cluster" || len(topics) != 3 || st.Counts().Subscriptions != 1 || st.Counts().Topics != 3 {
			t.Errorf("cluster %s, %+v", st.ClusterID(), st.Counts())
		}
		for i, topic := range topics {
			ms, err := s.Read(topic.ID, 1, 10, 1<<20)
			if err != nil || len(ms) != 4 || !bytes.Equal(ms[3].Body, bytes.Repeat([]byte{byte(9 + i)}, 1000)) {
				t.Errorf("topic %s: %d messages, %v", topic.Name, len(ms), err)
			}
		}
	})
}
