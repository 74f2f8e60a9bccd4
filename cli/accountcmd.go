package cli

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"quorumhub/auth/form"
	"quorumhub/cli/exit"
)

// minPassword is the shortest password for a local account, in bytes: it is for emergencies and nobody types it daily.
const minPassword = 12

type hashPasswordCmd struct {
	Generate bool   `help:"Make the password, too, and print it once."`
	Memory   uint32 `help:"MiB of memory that trying a password takes, 8 to 256." default:"64" placeholder:"MIB"`
}

func (c *hashPasswordCmd) Run(s Streams) error {
	if c.Memory < 8 || c.Memory > 256 {
		return exit.Usagef("--memory: got %d, expected 8 to 256 MiB", c.Memory)
	}
	var text string
	var err error
	if c.Generate {
		text = rand.Text()
	} else if text, err = readPassword(s); err != nil {
		return err
	}
	if len(text) < minPassword {
		return exit.Usagef("password of %d bytes; expected at least %d (--generate makes one)", len(text), minPassword)
	}
	cost := form.DefaultCost()
	cost.MemoryKiB = c.Memory << 10
	hash, err := form.HashPassword(text, cost)
	if err != nil {
		return exit.Usagef("%v", err)
	}
	if !c.Generate {
		_, err = fmt.Fprintln(s.Out, hash)
		return err
	}
	_, err = fmt.Fprintf(s.Out, "The password is not shown again; save it now:\n\n  %s\n\nThe password_hash of an account in auth.file:\n\n  %s\n", text, hash)
	return err
}

// readPassword asks for a password, twice and unseen, or takes the first line of what is not a terminal.
func readPassword(s Streams) (string, error) {
	if f, ok := s.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		var typed [2]string
		for i, prompt := range []string{"Password: ", "Once more: "} {
			fmt.Fprint(s.Err, prompt)
			text, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(s.Err)
			if err != nil {
				return "", fmt.Errorf("read the password: %w", err)
			}
			typed[i] = string(text)
		}
		if typed[0] != typed[1] {
			return "", exit.Usagef("the passwords differ; expected the same twice")
		}
		return typed[0], nil
	}
	line, err := bufio.NewReader(io.LimitReader(s.In, form.MaxPassword+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

type newTOTPCmd struct {
	Name   string `required:"" help:"The account." placeholder:"NAME"`
	Issuer string `help:"What the authenticator app calls the hub." default:"quorumhub" placeholder:"TEXT"`
}

func (c *newTOTPCmd) Run(s Streams) error {
	for _, text := range []string{c.Name, c.Issuer} {
		if text == "" || strings.Contains(text, ":") {
			return exit.Usagef("--name, --issuer: got %q, expected a text without colons", text)
		}
	}
	secret, url, err := form.NewTOTP(c.Issuer, c.Name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "The secret is not shown again. Write it into a file that the account in auth.file names (totp: {file: PATH}):\n\n  %s\n\nAnd add it to an authenticator app, as a QR code or typed in:\n\n  %s\n", secret, url)
	return err
}
