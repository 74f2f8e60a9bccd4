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
	log := newLogger(cfg, lines)
	build := node.ReadBuild()
	log.Info("starting", "version", build.Version, "commit", build.CommitText(), "go", build.Go, "platform", build.Platform)
	for _, w := range cfg.Warnings() {
		log.Warn(w)
	}
	n, err := node.Open(ctx, cfg, log, lines)
	if err != nil {
		err = fmt.Errorf("start: %w", err)
		if raftlog.IsRefusal(err) {
			err = exit.With(exit.Usage, err)
		}
		return err
	}
	return n.Run(ctx)
}

func newLogger(cfg *configs.Config, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.LogLevel()}
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
