package web_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/view"
)

// backups makes backups of size bytes and counts open ones.
type backups struct {
	size int64
	err  error
	open atomic.Int64
}

func (b *backups) Begin(context.Context) (view.Backup, int64, string, error) {
	if b.err != nil {
		return nil, 0, "", b.err
	}
	b.open.Add(1)
	return &someBackup{b}, b.size, "some.tar", nil
}

type someBackup struct{ of *backups }

func (b *someBackup) WriteTo(w io.Writer) (n int64, err error) {
	chunk := make([]byte, 64<<10)
	for n < b.of.size && err == nil {
		var m int
		m, err = w.Write(chunk[:min(int64(len(chunk)), b.of.size-n)])
		n += int64(m)
	}
	return n, err
}

func (b *someBackup) Close() error {
	b.of.open.Add(-1)
	return nil
}

func TestBackup(t *testing.T) {
	b := &backups{size: 1 << 20}
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Backups = b })
	w := f.send("GET", "/v1/backup", "")
	if body := want(t, w, 200); len(body) != 1<<20 || w.Header().Get("Content-Length") != "1048576" || w.Header().Get("Content-Type") != "application/x-tar" {
		t.Errorf("%d bytes, %v", len(body), w.Header())
	}
	if n := b.open.Load(); n != 0 {
		t.Errorf("%d backups are open", n)
	}
	b.err = hub.ErrOverloaded
	want(t, f.send("GET", "/v1/backup", ""), 503)
	want(t, f.send("POST", "/v1/backup", ""), 405)
	want(t, newFixture(t).send("GET", "/v1/backup", ""), 404)
}

// A stalled client cannot keep a backup open. Meanwhile another client is told to wait.
func TestStalledBackupIsCutOff(t *testing.T) {
	b := &backups{size: 1 << 30}
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Backups, o.BackupStall = b, 300*time.Millisecond })
	server := httptest.NewServer(f.Server)
	defer server.Close()
	resp, err := http.Get(server.URL + "/v1/backup")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	second, err := http.Get(server.URL + "/v1/backup")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(second.Body)
	if err = errors.Join(err, second.Body.Close()); err != nil || second.StatusCode != 503 || second.Header.Get("Retry-After") == "" || !strings.Contains(string(text), "another backup") {
		t.Errorf("a second reader: %d %s, %v", second.StatusCode, text, err)
	}
	for end := time.Now().Add(30 * time.Second); b.open.Load() > 0; time.Sleep(5 * time.Millisecond) { // polling
		if time.Now().After(end) {
			t.Fatal("the backup stays open for a stalled client")
		}
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("the client received %d bytes, want fewer than all", n)
	}
}
