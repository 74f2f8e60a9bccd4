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
	"quorumhub/cli/node"
)

// commands is the root of the command line: one field and one file for each command.
type commands struct {
	Dev   devCmd   `cmd:"" group:"run" help:"Start a hub on this machine for development: no credentials, loopback callbacks allowed."`
	Serve serveCmd `cmd:"" group:"run" help:"Run one node of a hub. quorumhub check --keys documents every configuration key."`
	Demo  demoCmd  `cmd:"" group:"run" help:"Demonstrate publish, delivery and recovery from a crash on a throw-away hub."`

	Publish       publishCmd       `cmd:"" group:"client" help:"Publish a message to a topic, or tell the hub that a topic has changed."`
	Subscribe     subscribeCmd     `cmd:"" group:"client" help:"Ask the hub to send a topic to a callback."`
	Unsubscribe   unsubscribeCmd   `cmd:"" group:"client" help:"Ask the hub to stop sending a topic to a callback."`
	Listen        listenCmd        `cmd:"" group:"client" help:"Run a test subscriber: confirm intents, print deliveries, check signatures."`
	Topics        topicsCmd        `cmd:"" group:"client" help:"List the topics of a hub, or set a topic's retention."`
	Subscriptions subscriptionsCmd `cmd:"" group:"client" help:"List the subscriptions of a hub; pause, resume, rewind or end one."`
	Requests      requestsCmd      `cmd:"" group:"client" help:"The subscribe and unsubscribe requests that await confirmation or failed within the last hour, and why."`
	Messages      messagesCmd      `cmd:"" group:"client" help:"Find messages, and what has become of one."`
	Events        eventsCmd        `cmd:"" group:"client" help:"List what has happened to subscriptions."`
	Streams       streamsCmd       `cmd:"" group:"client" help:"List the event streams that are open at a node, or end one."`
	DeadLetters   deadLettersCmd   `cmd:"" group:"client" help:"List, show, replay, drop or export undeliverable messages."`

	Login  loginCmd  `cmd:"" group:"client" help:"Log in to a hub with a browser; other commands then act for you there."`
	Logout logoutCmd `cmd:"" group:"client" help:"End the login at a hub."`
	Whoami whoAmICmd `cmd:"" name:"whoami" group:"client" help:"Show how the hub identifies you."`

	Auth authCmd `cmd:"" group:"cluster" help:"Manage API keys, access rules and quotas."`

	Dump  dumpCmd  `cmd:"" group:"cluster" help:"Export a hub's topics, limits and access rules as YAML, for version control."`
	Apply applyCmd `cmd:"" group:"cluster" help:"Make a hub match YAML files: topics, limits, access rules, paused subscriptions."`

	Gateway gatewayCmd `cmd:"" group:"cluster" help:"Manage the gateway in front of REST services: its registry, its routes and who uses them."`

	Callbacks callbacksCmd `cmd:"" group:"cluster" help:"Manage the headers and credentials that callbacks require."`
	Keys      keysCmd      `cmd:"" group:"cluster" help:"Manage the sealing keys that encrypt secrets at rest."`

	Top     topCmd     `cmd:"" group:"cluster" help:"Show how a hub is doing, refreshed: what needs attention, rates, nodes."`
	Cluster clusterCmd `cmd:"" group:"cluster" help:"Manage a cluster and its nodes."`
	Import  importCmd  `cmd:"" group:"cluster" help:"Import topics and subscriptions from a Ballerina, WSO2 or MOSIP hub."`
	Backup  backupCmd  `cmd:"" group:"cluster" help:"Save a consistent backup of a running hub."`
	Restore restoreCmd `cmd:"" group:"cluster" help:"Create a new node, and a new cluster, from a backup."`
	Recover recoverCmd `cmd:"" group:"cluster" help:"Restart a cluster from one stopped node after a permanent loss of quorum."`

	Bench       benchCmd       `cmd:"" group:"tools" help:"Benchmark a hub on this machine, relative to what the machine can do without one."`
	Check       checkCmd       `cmd:"" group:"tools" help:"Validate a configuration without starting anything."`
	Healthcheck healthcheckCmd `cmd:"" group:"tools" help:"Ask the node of this configuration whether it is healthy, as a container's health check."`
	Inspect     inspectCmd     `cmd:"" group:"tools" help:"Read and verify the files of a stopped node, or a backup."`
	Call        callCmd        `cmd:"" group:"tools" help:"Send one request, signed as clients of the hub and its gateway must, and show what was signed."`
	Echo        echoCmd        `cmd:"" group:"tools" help:"Run a service to put behind the gateway while trying it: it shows what it got."`
	Completion  completionCmd  `cmd:"" group:"tools" help:"Print a shell completion script."`
	Help        helpCmd        `cmd:"" group:"tools" help:"Show the help of a command."`
	Version     versionCmd     `cmd:"" group:"tools" help:"Print the version, commit and Go version (also: -v, --version)."`
}

// Main runs the program with the arguments that follow its name and returns its exit code (see exit.Codes). SIGINT and SIGTERM stop the
// command gracefully. On SIGHUP a hub reads its configuration and files again; other commands stop, unless they were started with nohup.
func Main(args []string) int {
	nohup := signal.Ignored(syscall.SIGHUP)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal stops the command gracefully; a second one is no longer caught and kills the process.
	context.AfterFunc(ctx, stop)
	// A write to a pipe whose reader is gone is an error like any other, and not the end of the process.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return Run(ctx, args, Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Environ(), Hangups: hangups, Nohup: nohup})
}

// Run is Main with its context and streams passed in.
func Run(ctx context.Context, args []string, s Streams) int {
	exited := false
	parser, err := newParser(new(commands), s, func(int) { exited = true })
	if err != nil {
		fmt.Fprintf(s.Err, "quorumhub: %v\n", err)
		return exit.Failed
	}
	var parsed *kong.Context
	if args, err = asked(parser.Model, args); err == nil {
		parsed, err = parser.Parse(args)
	}
	if exited {
		// --help printed its page; errors in the rest of the line no longer matter.
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
	return execute(ctx, parsed, s, parser.Model)
}

// execute runs a command and prints its error. A command whose output cannot be written ends: quietly if nobody reads it any more. A
// hub goes on.
func execute(ctx context.Context, parsed *kong.Context, s Streams, model *kong.Application) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &output{Writer: s.Out, failed: cancel}
	hub := parsed.Command() == "serve" || parsed.Command() == "dev"
	if !hub {
		s.Out = out
		if !s.Nohup {
			go func() {
				select {
				case <-s.Hangups:
					cancel()
				case <-ctx.Done():
				}
			}()
		}
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	err := parsed.Run(s, model)
	switch unwritten := out.err(); {
	case unwritten == nil:
	case nobodyReads(unwritten):
		return exit.Unread
	default:
		err = fmt.Errorf("write to standard output: %w", unwritten)
	}
	if err == nil {
		return exit.Done
	}
	if hub { // one that failed must end even if nobody reads why
		last := node.NewLogWriter(s.Err)
		defer last.Close()
		s.Err = last
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(s.Err, "quorumhub: %s\n", strings.ReplaceAll(text, "\n", "\nquorumhub: "))
	}
	return exit.CodeOf(err)
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
			{Key: "cluster", Title: "Operate a hub:"},
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

// showDefault appends the default value to a flag's help.
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
