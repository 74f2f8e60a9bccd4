package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCmd generates completion scripts from the command line's model, so they cannot become outdated. The completion libraries
// for kong run the program at every key press and depend on unmaintained packages.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

// Help is shown by --help below the flags.
func (c *completionCmd) Help() string {
	return `Load it into the current shell:

    bash:  source <(quorumhub completion bash)
    zsh:   source <(quorumhub completion zsh)
    fish:  quorumhub completion fish | source`
}

func (c *completionCmd) Run(s Streams, app *kong.Application) error {
	commands := completions(app)
	switch c.Shell {
	case "bash":
		return bashCompletion(s.Out, commands)
	case "zsh":
		return zshCompletion(s.Out, commands)
	default:
		return fishCompletion(s.Out, commands)
	}
}

// completable is what a shell completes after a command.
type completable struct {
	name, help string
	flags      []completableFlag
	// words lists the subcommands and the enumerated values of positional arguments.
	words []string
}

type completableFlag struct {
	name, help string
	short      rune
	takesValue bool
	values     []string
}

func completions(app *kong.Application) []completable {
	var out []completable
	for _, node := range app.Children {
		if node.Hidden || node.Type != kong.CommandNode {
			continue
		}
		c := completable{name: node.Name, help: node.Help}
		nodes := append([]*kong.Node{node}, node.Children...)
		seen := map[string]bool{}
		for _, n := range nodes[1:] {
			c.words = append(c.words, n.Name)
		}
		for _, f := range flagsOf(nodes) {
			if !seen[f.Name] {
				seen[f.Name] = true
				c.flags = append(c.flags, completableFlag{
					name: f.Name, help: f.Help, short: f.Short, takesValue: !f.IsBool() && !f.IsCounter(), values: f.EnumSlice(),
				})
			}
		}
		for _, p := range node.Positional {
			c.words = append(c.words, p.EnumSlice()...)
		}
		out = append(out, c)
	}
	return out
}

// flagsOf returns the flags of several commands.
func flagsOf(nodes []*kong.Node) []*kong.Flag {
	var out []*kong.Flag
	for _, n := range nodes {
		for _, group := range n.AllFlags(true) {
			out = append(out, group...)
		}
	}
	return out
}

func (c completable) flagWords() []string {
	var out []string
	for _, f := range c.flags {
		out = append(out, "--"+f.name)
	}
	return out
}

// valueFlags returns the flags that take a value.
func (c completable) valueFlags() []string {
	var out []string
	for _, f := range c.flags {
		if f.takesValue {
			out = append(out, "--"+f.name)
			if f.short != 0 {
				out = append(out, "-"+string(f.short))
			}
		}
	}
	return out
}

func bashCompletion(w io.Writer, commands []completable) error {
	var b strings.Builder
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	b.WriteString("# bash completion for quorumhub\n_quorumhub() {\n" +
		"    local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"${COMP_WORDS[COMP_CWORD-1]}\"\n    COMPREPLY=()\n" +
		"    if [ \"$COMP_CWORD\" -eq 1 ]; then\n")
	fmt.Fprintf(&b, "        COMPREPLY=($(compgen -W %s -- \"$cur\"))\n        return\n    fi\n", shellQuote(strings.Join(names, " ")+" --help"))
	b.WriteString("    case \"${COMP_WORDS[1]}\" in\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "    %s)\n", c.name)
		if values := c.valueFlags(); len(values) > 0 {
			// The shell completes values as file names.
			fmt.Fprintf(&b, "        case \"$prev\" in %s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;; esac\n", strings.Join(values, "|"))
		}
		fmt.Fprintf(&b, "        COMPREPLY=($(compgen -W %s -- \"$cur\")) ;;\n", shellQuote(strings.Join(append(c.words, c.flagWords()...), " ")))
	}
	b.WriteString("    esac\n}\ncomplete -o bashdefault -F _quorumhub quorumhub\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func zshCompletion(w io.Writer, commands []completable) error {
	var b strings.Builder
	b.WriteString("#compdef quorumhub\n_quorumhub() {\n    local -a commands\n    commands=(\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "        %s\n", shellQuote(c.name+":"+strings.ReplaceAll(c.help, ":", "\\:")))
	}
	b.WriteString("    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n    case $words[2] in\n")
	for _, c := range commands {
		// _arguments must see only the words after the command's name.
		fmt.Fprintf(&b, "    %s)\n        shift words; (( CURRENT-- ))\n        _arguments", c.name)
		for _, f := range c.flags {
			fmt.Fprintf(&b, " \\\n            %s", shellQuote("*--"+f.name+zshValue(f)))
		}
		if len(c.words) > 0 {
			fmt.Fprintf(&b, " \\\n            %s", shellQuote("1: :("+strings.Join(c.words, " ")+")"))
		}
		b.WriteString(" \\\n            '*: :_files' ;;\n")
	}
	b.WriteString("    esac\n}\ncompdef _quorumhub quorumhub\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func zshValue(f completableFlag) string {
	help := strings.NewReplacer("[", "(", "]", ")", ":", "\\:").Replace(f.help)
	switch {
	case !f.takesValue:
		return "[" + help + "]"
	case len(f.values) > 0:
		return "=[" + help + "]: :(" + strings.Join(f.values, " ") + ")"
	default:
		return "=[" + help + "]: :_files"
	}
}

func fishCompletion(w io.Writer, commands []completable) error {
	var b strings.Builder
	b.WriteString("# fish completion for quorumhub\ncomplete -c quorumhub -n __fish_use_subcommand -f\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "complete -c quorumhub -n __fish_use_subcommand -a %s -d %s\n", c.name, shellQuote(c.help))
	}
	for _, c := range commands {
		seen := shellQuote("__fish_seen_subcommand_from " + c.name)
		for _, f := range c.flags {
			fmt.Fprintf(&b, "complete -c quorumhub -n %s -l %s -d %s", seen, f.name, shellQuote(f.help))
			if f.short != 0 {
				fmt.Fprintf(&b, " -s %c", f.short)
			}
			if f.takesValue {
				b.WriteString(" -r")
			}
			if len(f.values) > 0 {
				fmt.Fprintf(&b, " -a %s", shellQuote(strings.Join(f.values, " ")))
			}
			b.WriteByte('\n')
		}
		if len(c.words) > 0 {
			fmt.Fprintf(&b, "complete -c quorumhub -n %s -f -a %s\n", seen, shellQuote(strings.Join(c.words, " ")))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shellQuote puts a word in single quotes, which bash, zsh and fish read alike except for the quote itself: that becomes a
// typographic apostrophe.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", "’") + "'" }
