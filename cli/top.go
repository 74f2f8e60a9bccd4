package cli

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"time"

	"golang.org/x/term"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/top"
)

// topCmd shows the console's overview in a terminal.
type topCmd struct {
	hubFlags
	Every flagDuration `help:"How often to read the figures again." default:"2s" placeholder:"DURATION"`
	Sort  string       `help:"Sort the nodes by name, published, delivered, failed or lag." enum:"name,published,delivered,failed,lag" default:"name" placeholder:"COLUMN"`
	Once  bool         `help:"Print the figures once, for scripts."`
	JSON  bool         `name:"json" help:"Print them once as JSON, as GET /v1/figures answers."`
}

// Help is shown by --help below the flags.
func (c *topCmd) Help() string {
	return `What needs attention comes first, the worst first. Then rates of the last
seconds, over all nodes, the nodes, and the subscriptions that have been
failing for longest.

Keys: q quits; n, p, d, f and l sort the nodes by name, published,
delivered, failed attempts and lag.`
}

func (c *topCmd) Run(ctx context.Context, s Streams) error {
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	if c.JSON {
		answer, err := hub.Call(ctx, http.MethodGet, "/v1/figures", nil, "now", "nodes")
		if err != nil {
			return err
		}
		return writeJSON(s.Out, answer)
	}
	by, _ := top.OrderOf(c.Sort) // kong has checked it
	coloured := s.table().Coloured
	if c.Once {
		f, err := readFigures(ctx, hub)
		if err != nil {
			return err
		}
		_, err = io.WriteString(s.Out, top.Page(f, by, coloured))
		return err
	}
	screen, keyboard := fileOf(s.Out), fileOf(s.In)
	if screen == nil || !term.IsTerminal(int(screen.Fd())) {
		return exit.Usagef("top needs a terminal; use --once or --json for scripts")
	}
	t := &top.Terminal{Out: s.Out, Coloured: coloured, Size: func() (int, int) {
		width, height, err := term.GetSize(int(screen.Fd()))
		if err != nil {
			return 80, 24
		}
		return width, height
	}}
	if keyboard != nil && term.IsTerminal(int(keyboard.Fd())) {
		before, err := term.MakeRaw(int(keyboard.Fd()))
		if err == nil {
			defer func() { _ = term.Restore(int(keyboard.Fd()), before) }() // nothing else could be done
			t.Keys = keysOf(keyboard)
		}
	}
	return t.Run(ctx, max(time.Duration(c.Every), 100*time.Millisecond), by, func(ctx context.Context) (*top.Figures, error) { return readFigures(ctx, hub) })
}

func readFigures(ctx context.Context, hub *client.Client) (*top.Figures, error) {
	answer, err := hub.Call(ctx, http.MethodGet, "/v1/figures?minutes=0", nil, "now", "nodes")
	if err != nil {
		return nil, err
	}
	f := new(top.Figures)
	if err := json.Unmarshal(answer, f); err != nil {
		return nil, hub.Unexpected("/v1/figures", err)
	}
	return f, nil
}

// fileOf returns the file behind a stream, or nil.
func fileOf(stream any) *os.File {
	if o, ok := stream.(*output); ok {
		stream = o.Writer
	}
	f, _ := stream.(*os.File)
	return f
}

// keysOf yields what is typed. Its goroutine waits for a key as long as the process lives: a terminal cannot be told to stop waiting.
func keysOf(keyboard io.Reader) <-chan byte {
	keys := make(chan byte)
	go func() {
		defer close(keys)
		var one [1]byte
		for {
			if _, err := keyboard.Read(one[:]); err != nil {
				return
			}
			keys <- one[0]
		}
	}()
	return keys
}
