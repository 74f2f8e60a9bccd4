package bench

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profileEnv returns the environment that enables a hub's profiling, if wanted.
func profileEnv(wanted bool) []string {
	if !wanted {
		return nil
	}
	return []string{"QUORUMHUB_DEBUG_PPROF=true"}
}

// profile starts a CPU profile of the hub for about d, in whole seconds. The returned function waits until the profile is written. Both
// do nothing without ProfileDir.
func (b *bench) profile(ctx context.Context, c *child, name string, d time.Duration) (written func() error) {
	if b.ProfileDir == "" {
		return func() error { return nil }
	}
	seconds := max(1, int(d.Round(time.Second).Seconds()))
	done := make(chan error, 1)
	go func() { done <- b.saveProfile(ctx, c, name, seconds) }()
	return func() error { return <-done }
}

func (b *bench) saveProfile(ctx context.Context, c *child, name string, seconds int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds+30)*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", c.URL, seconds), nil)
	if err != nil {
		return err
	}
	c.sign(req)
	got, err := do(&http.Client{Transport: c.client.Transport}, req) // ctx limits the time
	if err != nil {
		return fmt.Errorf("CPU profile: %w", err)
	}
	if got.status != http.StatusOK {
		return fmt.Errorf("CPU profile: %s: got status %d, expected 200", req.URL.Path, got.status)
	}
	return os.WriteFile(filepath.Join(b.ProfileDir, name+".pprof"), got.body, 0o600)
}
