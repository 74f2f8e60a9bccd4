package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"quorumhub/configs"
)

type serveCmd struct {
	Config string   `placeholder:"FILE" help:"Configuration file (YAML). See configs/quorumhub.yaml for every key."`
	Set    []string `placeholder:"KEY=VALUE" sep:"none" help:"Set one configuration key; wins over file and environment. Repeatable."`
}

// Run serves until ctx ends, and stops in good order then: what was accepted is finished and cursors are
// written, so that the next start repeats nothing.
func (c *serveCmd) Run(ctx context.Context, s Streams) error {
	cfg, err := configs.Load(configs.Source{File: c.Config, Env: s.Env, Set: c.Set})
	if err != nil {
		return err
	}
	log := newLogger(cfg, s.Err)
	for _, w := range cfg.Warnings() {
		log.Warn(w)
	}
	n, err := openNode(ctx, cfg, log)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return n.run(ctx)
}

func newLogger(cfg *configs.Config, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.LogLevel()}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
