package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"quorumhub/auth"
	"quorumhub/configs"
	"quorumhub/hub"
	"quorumhub/raftlog"
)

// live lists the keys whose changes take effect without a restart. Files that they name are read again even if the keys are the same.
func live() []string {
	return []string{"log.level", "limits.publish", "limits.subscribe", "limits.read", "limits.admin", "limits.refused", "auth.file", "auth.directory", "auth.audit", "delivery.tls_file", "http.tls.cert", "http.tls.key", "http.tls.client_ca"}
}

// reloader reads again what can change while a node runs. It belongs to the goroutine of Run.
type reloader struct {
	n       *Node
	reread  func() (*configs.Config, error)
	level   *slog.LevelVar
	running *configs.Config // what is in force
	cluster [sha256.Size]byte
	keys    []string // IDs of the sealing keys

	directory atomic.Pointer[string] // auth.directory that is in force, for watchProviders
}

// outcome counts what a reload did.
type outcome struct{ changed, failed, restart int }

func newReloader(n *Node, o *Options) *reloader {
	running := *o.Config
	r := &reloader{n: n, reread: o.Reread, level: o.Level, running: &running, cluster: fingerprint(clusterTLS(&running))}
	r.directory.Store(&running.Auth.Directory)
	r.keys, _ = n.keys.Kept() // a file that cannot be read now is reported by the reload
	return r
}

// reload reads the configuration and all files again. Each thing that has changed is one line in the log; what cannot be used is an
// error there, and what it would replace stays in force. A node never ends because of a reload.
func (r *reloader) reload(ctx context.Context) {
	log := r.n.log
	log.Info("reading configuration and files again")
	var done outcome
	next, err := r.reread()
	if err != nil {
		done.failed++
		for line := range strings.Lines(err.Error()) {
			log.Error("the configuration cannot be used; the previous one stays in force", "error", strings.TrimSpace(line))
		}
		next = r.running // its files may have changed all the same
	}
	steps := []struct {
		what string
		do   func(context.Context, *configs.Config) (changed string, err error)
	}{
		{"log.level", r.logLevel}, {"limits", r.limits}, {"http.tls", r.https}, {"cluster.tls", r.clusterFiles}, {"delivery.tls_file", r.callbackTLS},
		{"secrets.key_file", r.sealingKeys}, {"auth.file", r.access},
	}
	for _, s := range steps {
		changed, err := s.do(ctx, next)
		switch {
		case err != nil:
			done.failed++
			log.Error(s.what+" cannot be used; the previous one stays in force", "error", err)
		case changed != "":
			done.changed++
			log.Info(s.what + " has changed: " + changed)
		}
	}
	done.restart = r.needRestart(next)
	log.Info("read again", "changed", done.changed, "failed", done.failed, "need_restart", done.restart)
}

// needRestart reports the changes that take effect only with a restart, and returns their number.
func (r *reloader) needRestart(next *configs.Config) (n int) {
	was, now, shown := r.running.Settings(), next.Settings(), next.Shown()
	for i := range now {
		if slices.Equal(was[i].Texts, now[i].Texts) || slices.Contains(r.takenOver(next), now[i].Key) {
			continue
		}
		n++
		r.n.log.Warn("a change of the configuration takes effect only with a restart", "key", now[i].Key,
			"running", strings.Join(r.running.Shown()[i].Texts, ", "), "configured", strings.Join(shown[i].Texts, ", "))
	}
	return n
}

// takenOver returns the keys that the steps have taken over, or refused and reported.
func (r *reloader) takenOver(next *configs.Config) []string {
	keys := live()
	drop := func(prefix string) {
		keys = slices.DeleteFunc(keys, func(k string) bool { return strings.HasPrefix(k, prefix) })
	}
	if (r.n.https == nil) != (next.HTTP.TLS.Cert == "") {
		drop("http.tls.")
	}
	if (r.n.access == nil) != (next.Auth.Mode != "required") {
		drop("auth.")
	}
	return keys
}

func (r *reloader) logLevel(_ context.Context, next *configs.Config) (string, error) {
	was := r.running.Log.Level
	if next.Log.Level == was {
		return "", nil
	}
	r.level.Set(next.LogLevel())
	r.running.Log.Level = next.Log.Level
	return was + " → " + next.Log.Level, nil
}

// limits takes over the rates of requests.
func (r *reloader) limits(_ context.Context, next *configs.Config) (string, error) {
	now, was := next.Limits, &r.running.Limits
	if requestLimits(next) == requestLimits(r.running) {
		return "", nil
	}
	r.n.server.SetLimits(requestLimits(next))
	was.Publish, was.Subscribe, was.Read, was.Admin, was.Refused = now.Publish, now.Subscribe, now.Read, now.Admin, now.Refused
	return fmt.Sprintf("publish: %s, subscribe: %s, read: %s, admin: %s, refused: %s", now.Publish, now.Subscribe, now.Read, now.Admin, now.Refused), nil
}

func (r *reloader) https(_ context.Context, next *configs.Config) (string, error) {
	t := next.HTTP.TLS
	if r.n.https == nil || t.Cert == "" {
		return "", nil // between HTTP and HTTPS only with a restart
	}
	changed, err := r.n.https.Reload(t.Cert, t.Key, t.ClientCA)
	if err != nil {
		return "", err
	}
	r.running.HTTP.TLS = t
	if !changed {
		return "", nil
	}
	return fmt.Sprintf("the certificate in %s is valid until %s", t.Cert, r.n.https.Leaf().NotAfter.UTC().Format("2006-01-02 15:04 MST")), nil
}

// clusterFiles checks the certificates between nodes. They are read for every connection anyway.
func (r *reloader) clusterFiles(context.Context, *configs.Config) (string, error) {
	files := clusterTLS(r.running)
	if files == nil {
		return "", nil
	}
	if err := files.Check(r.n.raft.ID()); err != nil {
		return "", err
	}
	now := fingerprint(files)
	if now == r.cluster {
		return "", nil
	}
	r.cluster = now
	return "new connections between nodes use the new files", nil
}

func (r *reloader) callbackTLS(_ context.Context, next *configs.Config) (string, error) {
	rules, err := loadTLSRules(next.Delivery.TLSFile)
	if err != nil {
		return "", err
	}
	changed := r.n.rules.Replace(rules) || r.running.Delivery.TLSFile != next.Delivery.TLSFile
	r.running.Delivery.TLSFile = next.Delivery.TLSFile
	if !changed {
		return "", nil
	}
	return fmt.Sprintf("rules: %d", r.n.rules.Len()), nil
}

// sealingKeys takes over keys that were added to the file. Which one seals, and which are no longer needed, the log decides.
func (r *reloader) sealingKeys(context.Context, *configs.Config) (string, error) {
	keys, err := r.n.keys.Kept()
	if err != nil {
		return "", err
	}
	r.n.keeper.Reload()
	if slices.Equal(keys, r.keys) {
		return "", nil
	}
	r.keys = keys
	return "it has " + strings.Join(keys, " and "), nil
}

func (r *reloader) access(ctx context.Context, next *configs.Config) (string, error) {
	a := r.n.access
	if a == nil || next.Auth.Mode != "required" {
		return "", nil // with and without authentication only with a restart
	}
	settings, err := auth.LoadSettings(next.Auth.File, next.Auth.Directory)
	if err != nil {
		return "", err
	}
	was := a.settings.Load()
	if next.Auth.Audit == r.running.Auth.Audit && reflect.DeepEqual(was, settings) {
		r.took(next)
		return "", nil
	}
	if err := a.replace(ctx, settings, auth.Audit(next.Auth.Audit)); err != nil {
		return "", err
	}
	r.took(next)
	text := fmt.Sprintf("rules: %d, issuers: %d, API keys: %d", len(settings.Rules), len(settings.Issuers), len(settings.APIKeys))
	if len(settings.IdentityProviders)+len(settings.ServiceProviders) > 0 {
		text += fmt.Sprintf(", identity providers: %d, service providers: %d", len(settings.IdentityProviders), len(settings.ServiceProviders))
	}
	paused, err := r.endFormer(ctx, was, settings)
	if err != nil {
		return "", fmt.Errorf("it is in force (%s), but subscriptions that it no longer allows go on: %w", text, err)
	}
	if paused > 0 {
		text += fmt.Sprintf(", subscriptions paused: %d", paused)
	}
	return text, nil
}

// took notes which files of access control are in force.
func (r *reloader) took(next *configs.Config) {
	r.running.Auth.File, r.running.Auth.Directory, r.running.Auth.Audit = next.Auth.File, next.Auth.Directory, next.Auth.Audit
	directory := next.Auth.Directory
	r.directory.Store(&directory)
}

// byFile is who has paused what a change of auth.file no longer allows.
const byFile = "auth.file"

// endFormer pauses the subscriptions of those whose credential is gone, or whom no rule allows to subscribe any more.
func (r *reloader) endFormer(ctx context.Context, was, now *auth.Settings) (paused int, err error) {
	for _, owner := range was.KeyHolders() {
		if slices.Contains(now.KeyHolders(), owner) || !r.ownsAny(owner) {
			continue
		}
		n, err := r.n.service.EndOwner(ctx, owner, hub.PauseOwnerEnded, nil, byFile)
		if err != nil {
			return paused, err
		}
		paused += n
	}
	n, err := r.n.server.PauseNotAllowed(ctx, byFile)
	return paused + n, err
}

func (r *reloader) ownsAny(owner string) (any bool) {
	r.n.store.View(func(s *hub.State) {
		if id, ok := strings.CutPrefix(owner, "key/"); ok {
			if _, kept := s.APIKey(id); kept {
				return
			}
		}
		any = len(s.OwnedBy(owner, 0, 1)) > 0
	})
	return any
}

// fingerprint changes with the content of the files.
func fingerprint(f *raftlog.TLSFiles) (out [sha256.Size]byte) {
	if f == nil {
		return out
	}
	h := sha256.New()
	for _, path := range []string{f.CA, f.Cert, f.Key} {
		data, err := os.ReadFile(path)
		fmt.Fprintf(h, "%d %t\n", len(data), errors.Is(err, os.ErrNotExist))
		h.Write(data)
	}
	h.Sum(out[:0])
	return out
}
