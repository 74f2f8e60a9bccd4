package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"quorumhub/cli/bench"
	"quorumhub/cli/exit"
)

type benchCmd struct {
	JSON      bool          `name:"json" xor:"form" help:"Print JSON."`
	Markdown  bool          `xor:"form" help:"Print a short Markdown table."`
	Quick     bool          `help:"Run fewer and shorter phases, about 20 s."`
	Duration  time.Duration `default:"5s" help:"How long each main phase runs."`
	Nodes     int           `placeholder:"N" help:"Measure a cluster of this size on this machine (phases publish, fanout, paced and mosip, with publishers on all nodes). Default: one node, then three, unless --phases or --quick is given."`
	Phases    []string      `help:"Run only these phases: ${bench_phases}." placeholder:"NAME"`
	HubBinary string        `type:"existingfile" placeholder:"FILE" help:"The quorumhub binary to measure. Default: this program."`
	DataDir   string        `type:"existingdir" placeholder:"DIR" help:"Where the hubs keep their data during the run. Default: the directory for temporary files."`
	Pprof     string        `type:"path" placeholder:"DIR" help:"Save a CPU profile of the hub for each phase in this directory."`

	// Helper is another process of a measurement, which the benchmark starts itself.
	Helper string `hidden:""`
	Of     string `hidden:""`
}

func (c *benchCmd) Run(ctx context.Context, s Streams) error {
	if c.Helper != "" {
		return bench.Help(ctx, c.Helper, c.Of, s.In, s.Out)
	}
	binary := c.HubBinary
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return fmt.Errorf("find the running program: %w", err)
		}
	}
	if err := bench.CheckPhases(c.Phases); err != nil {
		return exit.Usagef("--phases: %v", err)
	}
	if c.Nodes < 0 || c.Nodes > 5 {
		return exit.Usagef("--nodes: got %d, expected 1 to 5", c.Nodes)
	}
	if c.Duration < bench.MinDuration {
		return exit.Usagef("--duration: %v is too short, expected at least %v", c.Duration, bench.MinDuration)
	}
	report, err := bench.Run(ctx, bench.Options{
		Binary: binary, Duration: c.Duration, Phases: c.Phases, Nodes: c.Nodes, Quick: c.Quick, Dir: c.DataDir, ProfileDir: c.Pprof,
		Progress: ifTerminal(s.Err),
	})
	if err != nil {
		return err
	}
	write := report.Table
	switch {
	case c.JSON:
		write = report.JSON
	case c.Markdown:
		write = report.Markdown
	}
	if err := write(s.Out); err != nil {
		return err
	}
	if broken := report.Broken(); len(broken) > 0 {
		return fmt.Errorf("bench: failed checks:\n%s", strings.Join(broken, "\n"))
	}
	return nil
}

// ifTerminal returns w if it is a terminal, else nil.
func ifTerminal(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}
