package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/node"
	"quorumhub/configs"
	"quorumhub/raftlog"
)

type serveCmd struct {
	configFlags
}

// Run serves until ctx ends, then stops gracefully: accepted requests finish and cursors are saved, so the next start repeats no
// delivery.
func (c *serveCmd) Run(ctx context.Context, s Streams) error {
	cfg, err := c.load(s.Env)
	if err != nil {
		return err
	}
	lines := node.NewLogWriter(s.Err)
	defer lines.Close()
	level := new(slog.LevelVar)
	log := newLogger(cfg, level, lines)
	build := node.ReadBuild()
	log.Info("starting", "version", build.Version, "commit", build.CommitText(), "go", build.Go, "platform", build.Platform)
	node.LimitMemory(log, node.CgroupMemory)
	n, err := node.Open(ctx, node.Options{Config: cfg, Log: log, Lines: lines, Level: level, Warnings: c.warnings(),
		Reread: func() (*configs.Config, error) { return c.load(s.Env) }})
	if err != nil {
		err = fmt.Errorf("start: %w", err)
		if raftlog.IsRefusal(err) {
			err = exit.With(exit.Usage, err)
		}
		return err
	}
	return n.Run(ctx, s.Hangups)
}

// Help is shown by --help below the flags.
func (c *serveCmd) Help() string {
	return `SIGINT and SIGTERM stop the node gracefully. On SIGHUP it reads its configuration and the files that this names again: log.level,
rates of requests (limits), auth.file, auth.audit, delivery.tls_file, certificates and sealing keys take effect at once; the log says what has changed, what cannot
be used and what needs a restart. Under systemd (Type=notify) it reports when it is ready and serves the watchdog.`
}

// newLogger makes the log of a hub. level is set to the configured one.
func newLogger(cfg *configs.Config, level *slog.LevelVar, w io.Writer) *slog.Logger {
	level.Set(cfg.LogLevel())
	o := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		o.ReplaceAttr = withUnits
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// withUnits writes durations with their unit; JSON would have bare nanoseconds.
func withUnits(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case time.Duration:
		return slog.String(a.Key, v.String())
	case *time.Duration:
		if v != nil {
			return slog.String(a.Key, v.String())
		}
	case []time.Duration:
		return slog.String(a.Key, fmt.Sprint(v))
	}
	return a
}
