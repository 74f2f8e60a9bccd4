package ticket_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/ticket"
)

func kept(t *testing.T, in time.Duration) (ticket.Store, string) {
	t.Helper()
	s := ticket.Store{Dir: filepath.Join(t.TempDir(), "quorumhub", "logins")}
	if err := s.Save(&ticket.Ticket{Hubs: []string{"https://a.example", "https://b.example"}, Access: "a1", Refresh: "r1", Expires: time.Now().Add(in)}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(s.Dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	return s, files[0]
}

func never(context.Context, *ticket.Ticket) error { return errors.New("renewed without need") }

// A login is found for the nodes of its hub only, and is refused if others can read it.
func TestTheLoginIsTheUsersOwn(t *testing.T) {
	s, file := kept(t, time.Hour)
	for hub, want := range map[string]string{"https://a.example": "a1", "https://b.example": "a1", "https://c.example": "", "http://a.example": "", "https://a.example.evil.example": "", "": ""} {
		if got, err := s.Access(t.Context(), []string{hub}, never); err != nil || got != want {
			t.Errorf("%q: got %q, %v", hub, got, err)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	for _, path := range []string{s.Dir, file} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o602} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Access(t.Context(), []string{"https://a.example"}, never); err == nil || got != "" || exit.CodeOf(err) != exit.Usage {
			t.Errorf("mode %o: got %q, %v", mode, got, err)
		}
	}
}

// A login is renewed once by those that need it at the same time, and forgotten when the hub ends it. Trouble with the hub keeps it.
func TestTheLoginIsRenewedOnce(t *testing.T) {
	s, file := kept(t, 0)
	hub := []string{"https://b.example"}
	if _, err := s.Access(t.Context(), hub, func(context.Context, *ticket.Ticket) error { return errors.New("away") }); err == nil {
		t.Error("trouble is no error")
	}
	renewals := 0
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got, err := s.Access(t.Context(), hub, func(_ context.Context, in *ticket.Ticket) error {
				renewals++ // under the lock
				if in.Refresh != "r1" {
					t.Errorf("renews with %q", in.Refresh)
				}
				in.Access, in.Refresh, in.Expires = "a2", "r2", time.Now().Add(time.Hour)
				return nil
			})
			if err != nil || got != "a2" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	all.Wait()
	if renewals != 1 {
		t.Errorf("renewed %d times", renewals)
	}
	if err := s.Save(&ticket.Ticket{Hubs: []string{"https://a.example"}, Refresh: "r3", Expires: time.Now()}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Access(t.Context(), []string{"https://a.example"}, func(context.Context, *ticket.Ticket) error { return ticket.ErrEnded })
	if !errors.Is(err, ticket.ErrEnded) || exit.CodeOf(err) != exit.Refused || !strings.Contains(err.Error(), "quorumhub login --hub https://a.example") {
		t.Errorf("ended: %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a login that has ended is kept: %v", err)
	}
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find([]string{"https://a.example"}); exit.CodeOf(err) != exit.Usage || !strings.Contains(err.Error(), file) {
		t.Errorf("a file that is no login: %v", err)
	}
}
