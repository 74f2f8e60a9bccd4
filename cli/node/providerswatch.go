package node

import (
	"context"
	"time"

	"quorumhub/auth"
)

// providersPause is how often auth.directory is looked at.
const providersPause = 2 * time.Second

// watchProviders tells when auth.directory has changed, and then stayed the same for one look: whoever writes several files gets all of
// them taken at once. The channel is closed after ctx has ended.
func (r *reloader) watchProviders(ctx context.Context) <-chan struct{} {
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		tick := time.NewTicker(providersPause)
		defer tick.Stop()
		var last, told string // told is empty at first: a change during the start would else be missed
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			directory := *r.directory.Load()
			if directory == "" {
				last, told = "", ""
				continue
			}
			now := auth.DirectoryStamp(directory)
			if now == last && now != told {
				told = now
				select {
				case changed <- struct{}{}:
				default: // the one before was not taken yet
				}
			}
			last = now
		}
	}()
	return changed
}

// providers reads auth.directory again, and auth.file with it. If they cannot be used, what is in force stays.
func (r *reloader) providers(ctx context.Context) {
	switch changed, err := r.access(ctx, r.running); {
	case err != nil:
		r.n.log.Error("auth.directory cannot be used; the previous one stays in force", "error", err)
	case changed != "":
		r.n.log.Info("auth.directory has changed: " + changed)
	}
}
