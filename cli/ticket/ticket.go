// Package ticket keeps what quorumhub login got from a hub, in the user's configuration directory, and renews it. It may import durable
// and exit.
package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/durable"
)

// Ticket is a login at a hub.
type Ticket struct {
	// Hubs are the base URLs of the hub's nodes, without a slash at their end. The ticket is shown to them only.
	Hubs []string `json:"hubs"`
	// Access is sent with requests until Expires. Refresh gets the next one, once.
	Access  string    `json:"access_token"`
	Refresh string    `json:"refresh_token"`
	Expires time.Time `json:"expires"`

	path string
}

// Store is a directory of tickets. Several processes may use it at a time.
type Store struct{ Dir string }

// Default returns the user's own store. It is an error if the user has no configuration directory.
func Default() (Store, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return Store{}, err
	}
	return Store{filepath.Join(dir, "quorumhub", "logins")}, nil
}

// maxTicketBytes is more than any ticket has.
const maxTicketBytes = 64 << 10

// Find returns the ticket for one of a hub's nodes, nil if there is none. A ticket that others can read is an error.
func (s Store) Find(hubs []string) (*Ticket, error) {
	files, err := filepath.Glob(filepath.Join(s.Dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("logins: %w", err)
	}
	for _, path := range files {
		t, err := read(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // logged out in the meantime
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(t.Hubs, func(h string) bool { return slices.Contains(hubs, h) }) {
			return t, t.private()
		}
	}
	return nil, nil
}

func read(path string) (*Ticket, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	t := &Ticket{path: path}
	if len(data) > maxTicketBytes || json.Unmarshal(data, t) != nil || len(t.Hubs) == 0 || t.Refresh == "" {
		return nil, exit.Usagef("%s: is no login that quorumhub has kept; remove it and log in again", path)
	}
	return t, nil
}

// private refuses a ticket that others can read, as others may have it by now.
func (t *Ticket) private() error {
	if runtime.GOOS == "windows" {
		return nil // the directory is the user's own
	}
	info, err := os.Stat(t.path)
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return exit.Usagef("%s: others can read this login (mode %04o, expected 0600); end it with quorumhub logout and log in again", t.path, mode)
	}
	return nil
}

// Save keeps a ticket, in place of one for the same hub.
func (s Store) Save(t *Ticket) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	if t.path == "" {
		name := strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' {
				return c
			}
			return '_'
		}, t.Hubs[0])
		t.path = filepath.Join(s.Dir, name[:min(len(name), 200)]+".json")
	}
	data, err := json.MarshalIndent(t, "", "  ") //nolint:gosec // that is what it is for
	if err == nil {
		err = durable.WriteFile(t.path, append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	return nil
}

// Remove forgets a ticket.
func (s Store) Remove(t *Ticket) error {
	if err := os.Remove(t.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget the login: %w", err)
	}
	return nil
}

// ErrEnded means that the hub does not renew a ticket any more.
var ErrEnded = errors.New("the login has ended")

// early is how long before its end a token is not used any more.
const early = 30 * time.Second

// Access returns an access token for a hub, empty if there is no ticket. Renew gets the next tokens for a refresh token and puts them into
// the ticket; no two processes do that at a time. A ticket that has ended is forgotten.
func (s Store) Access(ctx context.Context, hubs []string, renew func(context.Context, *Ticket) error) (string, error) {
	t, err := s.Find(hubs)
	if t == nil || err != nil {
		return "", err
	}
	if time.Until(t.Expires) > early {
		return t.Access, nil
	}
	unlock, err := durable.LockDir(s.Dir)
	if err != nil {
		return "", fmt.Errorf("logins: %w", err)
	}
	defer unlock()
	if t, err = s.Find(hubs); t == nil || err != nil || time.Until(t.Expires) > early {
		if t == nil || err != nil {
			return "", err
		}
		return t.Access, nil // another process has renewed it
	}
	switch err := renew(ctx, t); {
	case errors.Is(err, ErrEnded):
		return "", exit.With(exit.Refused, errors.Join(fmt.Errorf("%w; log in again: quorumhub login --hub %s", ErrEnded, t.Hubs[0]), s.Remove(t)))
	case err != nil:
		return "", err
	}
	return t.Access, s.Save(t)
}
