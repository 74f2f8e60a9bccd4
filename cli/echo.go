package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"quorumhub/cli/echo"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// echoCmd is a service to put behind a gateway while trying it.
type echoCmd struct {
	Addr        string       `help:"The address to listen on." default:"127.0.0.1:9100" placeholder:"HOST:PORT"`
	As          string       `help:"Answer as this service: employee (XML within a CDATA section)." enum:",employee" default:"" placeholder:"SERVICE"`
	File        string       `help:"Answer with the content of this file." placeholder:"FILE"`
	ContentType string       `help:"The content type of --file." placeholder:"TYPE"`
	Status      int          `help:"The status of the answers." default:"200" placeholder:"CODE"`
	Delay       flagDuration `help:"How long to wait before each answer." default:"0s" placeholder:"DURATION"`
	JSON        bool         `name:"json" help:"Print each request as a line of JSON."`
}

// Help is shown by --help below the flags.
func (c *echoCmd) Help() string {
	return `Each request is printed, and answered with JSON of what arrived: what the gateway lets through, and what it adds.

    quorumhub echo --as employee &
    quorumhub gateway check configs/gateway.example.yaml`
}

func (c *echoCmd) Run(ctx context.Context, s Streams) error {
	o := echo.Options{As: c.As, ContentType: c.ContentType, Status: c.Status, Delay: time.Duration(c.Delay), Got: c.printer(s)}
	switch {
	case c.Status < 200 || c.Status > 599:
		return exit.Usagef("--status: got %d, expected 200 to 599", c.Status)
	case c.File != "" && c.As != "":
		return exit.Usagef("--file: expected either --file or --as")
	case c.File != "":
		var err error
		if o.Body, err = os.ReadFile(c.File); err != nil {
			return exit.Usagef("--file: %v", err)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Addr)
	if err != nil {
		return exit.Usagef("--addr: %v", err)
	}
	fmt.Fprintf(s.Err, "listening on http://%s\n", l.Addr())
	return echo.Serve(ctx, l, echo.Handler(o))
}

// printer prints requests, one at a time.
func (c *echoCmd) printer(s Streams) func(*echo.Received) {
	var mu sync.Mutex
	return func(r *echo.Received) {
		mu.Lock()
		defer mu.Unlock()
		if !c.JSON {
			fmt.Fprintf(s.Out, "%s %s  %d bytes\n", r.Method, terminal.Printable(r.URI), r.Bytes)
			return
		}
		if line, err := json.Marshal(r); err == nil {
			fmt.Fprintf(s.Out, "%s\n", line)
		}
	}
}
