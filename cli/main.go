package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"quorumhub/cli/bench"
	"quorumhub/cli/client"
	"quorumhub/cli/exit"
)

// commands is the root of the command line. A field a command, each in its own file.
type commands struct {
	Dev   devCmd   `cmd:"" group:"run" help:"Start a hub on this machine for development: no credentials, loopback callbacks allowed."`
	Serve serveCmd `cmd:"" group:"run" help:"Run one node of a hub. quorumhub check --keys explains every key of its configuration."`
	Demo  demoCmd  `cmd:"" group:"run" help:"Show the main job from start to end on a throw-away hub, including a crash."`

	Publish       publishCmd       `cmd:"" group:"client" help:"Publish a message to a topic, or ping the hub that a topic has changed."`
	Subscribe     subscribeCmd     `cmd:"" group:"client" help:"Ask the hub to send a topic to a callback."`
	Unsubscribe   unsubscribeCmd   `cmd:"" group:"client" help:"Ask the hub to stop sending a topic to a callback."`
	Listen        listenCmd        `cmd:"" group:"client" help:"Be a subscriber: confirm intents, print deliveries, check their signatures."`
	Topics        topicsCmd        `cmd:"" group:"client" help:"List the topics of a hub, or limit how much of one is kept."`
	Subscriptions subscriptionsCmd `cmd:"" group:"client" help:"List the subscriptions of a hub; pause, resume, rewind or end one."`
	DeadLetters   deadLettersCmd   `cmd:"" group:"client" help:"List, show, replay, drop or export messages that were given up."`

	Auth authCmd `cmd:"" group:"cluster" help:"Look after API keys and the rules of who may do what."`

	Dump  dumpCmd  `cmd:"" group:"cluster" help:"Write what operators have set on a hub as YAML, for version control."`
	Apply applyCmd `cmd:"" group:"cluster" help:"Bring a hub to what a YAML file says: topics, their limits, rules, paused subscriptions."`

	Keys keysCmd `cmd:"" group:"cluster" help:"Look after the keys that seal secrets at rest: status, rotate, reencrypt, drop."`

	Cluster clusterCmd `cmd:"" group:"cluster" help:"Look after a cluster and its nodes."`
	Import  importCmd  `cmd:"" group:"cluster" help:"Bring topics and subscriptions of a Ballerina, WSO2 or MOSIP hub over."`
	Backup  backupCmd  `cmd:"" group:"cluster" help:"Save a consistent backup of a running hub."`
	Restore restoreCmd `cmd:"" group:"cluster" help:"Make a new node, and a new cluster, from a backup."`
	Recover recoverCmd `cmd:"" group:"cluster" help:"Let one stopped node go on alone after a cluster has lost its quorum for good."`

	Bench      benchCmd      `cmd:"" group:"tools" help:"Measure a hub on this machine, as a ratio to what the machine can do without one."`
	Check      checkCmd      `cmd:"" group:"tools" help:"Validate a configuration without starting anything."`
	Inspect    inspectCmd    `cmd:"" group:"tools" help:"Read and check the files of a stopped node, or a backup."`
	Completion completionCmd `cmd:"" group:"tools" help:"Print a shell completion script."`
	Version    versionCmd    `cmd:"" group:"tools" help:"Print the version."`
}

// Main runs the program with the arguments after its name and returns its exit code (see ExitCodes). SIGINT, SIGTERM and SIGHUP
// end the command in good order.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// The first signal ends the command in good order; a second one is not caught any more and ends it at once.
	context.AfterFunc(ctx, stop)
	return Run(ctx, args, Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Environ()})
}

// Run is Main with everything it touches given.
func Run(ctx context.Context, args []string, s Streams) int {
	exited := false
	parser, err := newParser(new(commands), s, func(int) { exited = true })
	if err != nil {
		fmt.Fprintf(s.Err, "quorumhub: %v\n", err)
		return exit.Failed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited {
		// --help printed its page; what kong says about the rest of the line is of no interest then.
		return exit.Done
	}
	if err != nil {
		fmt.Fprintf(s.Err, "quorumhub: %v\n", err)
		hint := "quorumhub --help"
		var failed *kong.ParseError
		if errors.As(err, &failed) && failed.Context != nil && failed.Context.Command() != "" {
			hint = "quorumhub " + strings.Fields(failed.Context.Command())[0] + " --help"
		}
		fmt.Fprintf(s.Err, "try: %s\n", hint)
		return exit.Usage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	if err := parsed.Run(s, parser.Model); err != nil {
		if text := err.Error(); text != "" {
			fmt.Fprintf(s.Err, "quorumhub: %s\n", strings.ReplaceAll(text, "\n", "\nquorumhub: "))
		}
		return exit.CodeOf(err)
	}
	return exit.Done
}

func newParser(root *commands, s Streams, onExit func(int)) (*kong.Kong, error) {
	parser, err := kong.New(root,
		kong.Name("quorumhub"),
		kong.Description(description()),
		kong.Writers(s.Out, s.Err),
		kong.Exit(onExit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "run", Title: "Run a hub:"},
			{Key: "client", Title: "Talk to a hub:"},
			{Key: "cluster", Title: "Look after a cluster:"},
			{Key: "tools", Title: "Tools:"},
		}),
		kong.ValueFormatter(showDefault),
		kong.Vars{"hub": client.DefaultURL, "bench_phases": strings.Join(bench.PhaseNames(), ", ")},
	)
	if err != nil {
		return nil, fmt.Errorf("build the command line: %w", err)
	}
	return parser, nil
}

// showDefault adds the default to a flag's help.
func showDefault(v *kong.Value) string {
	text := kong.DefaultHelpValueFormatter(v)
	if v.Default != "" && !v.IsBool() {
		text = strings.TrimSuffix(text, ".") + " (default " + v.Default + ")."
	}
	return text
}

func description() string {
	var b strings.Builder
	b.WriteString("A W3C WebSub hub in one binary.\n\nExit codes:\n\n")
	for _, c := range exit.Codes() {
		fmt.Fprintf(&b, "    %3d  %s\n", c.Number, c.Meaning)
	}
	return b.String()
}
