package cli

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/node"
	"quorumhub/configs"
)

// maxInputBytes limits a file of rules or settings.
const maxInputBytes = 32 << 20

// hubFlags are shared by every command that talks to a hub.
type hubFlags struct {
	Hub     []string     `help:"The hub's URL. Give several nodes (repeat the flag, or separate them with commas) and the next one is tried when one cannot answer and repeating is safe." default:"${hub}" env:"QUORUMHUB_HUB" placeholder:"URL"`
	Token   string       `help:"The API key or access token to authenticate with. Default: that of quorumhub login, if there was one at this hub." env:"QUORUMHUB_TOKEN" placeholder:"TOKEN"`
	CA      string       `name:"ca" help:"A PEM file of CA certificates to trust in addition to the system's." env:"QUORUMHUB_CA" placeholder:"FILE"`
	Timeout flagDuration `name:"request-timeout" help:"How long to wait for the hub's response." default:"30s" placeholder:"DURATION"`
}

func (f *hubFlags) client() (*client.Client, error) {
	roots, err := f.roots()
	if err != nil {
		return nil, err
	}
	hub, err := client.New(f.Hub, client.Options{Timeout: time.Duration(f.Timeout), Token: f.Token, RootCAs: roots})
	if err != nil {
		return nil, err
	}
	hub.SetLogin(renewed(hub))
	return hub, nil
}

// roots returns the certificate authorities to trust; nil means the system's.
func (f *hubFlags) roots() (*x509.CertPool, error) {
	if f.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, exit.Usagef("--ca: %v", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, exit.Usagef("--ca: %s contains no certificate; expected PEM", f.CA)
	}
	return roots, nil
}

// flagDuration is a duration in the configuration's syntax, which also knows days (10d).
type flagDuration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *flagDuration) UnmarshalText(text []byte) error {
	v, err := configs.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("got %q, expected a duration such as 250ms, 10s, 1h30m or 10d", text)
	}
	*d = flagDuration(v)
	return nil
}

// flagLease is the lease of a subscription; empty or 0 leaves it to the hub.
type flagLease flagDuration

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *flagLease) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	if err := (*flagDuration)(l).UnmarshalText(text); err != nil {
		return err
	}
	if d := time.Duration(*l); d > 0 && d < time.Second {
		return fmt.Errorf("got %q, expected at least 1s", text)
	}
	return nil
}

// noteLease says so if a hub grants another lease than it was asked for.
func noteLease(w io.Writer, asked, granted time.Duration) {
	if asked == 0 || granted == 0 || granted == asked.Truncate(time.Second) {
		return
	}
	fmt.Fprintf(w, "the lease will be %s, not %s: the hub keeps leases within hub.lease.min and hub.lease.max\n", configs.FormatDuration(granted), configs.FormatDuration(asked))
}

// configFlags are shared by every command that reads a node's configuration.
type configFlags struct {
	Config string   `short:"c" help:"The configuration file (YAML)." placeholder:"FILE" env:"QUORUMHUB_CONFIG"`
	Set    []string `sep:"none" help:"Set one configuration key, overriding the file and the environment. Repeatable." placeholder:"KEY=VALUE"`
}

func (f *configFlags) load(env []string) (*configs.Config, error) {
	c, err := configs.Load(configs.Source{File: f.Config, Env: env, Set: f.Set})
	if err != nil {
		return nil, exit.With(exit.Usage, err)
	}
	return c, nil
}

// warnings returns what is wrong with the file itself, one line each.
func (f *configFlags) warnings() []string {
	if f.Config == "" {
		return nil
	}
	var out []string
	if secrets := (configs.Source{File: f.Config}).Secrets(); len(secrets) > 0 {
		if text := node.ReadableByOthers(f.Config); text != "" {
			out = append(out, fmt.Sprintf("%s is in a file that others can read: %s", strings.Join(secrets, ", "), text))
		}
	}
	if text := node.WritableByOthers(f.Config); text != "" {
		out = append(out, "--config: "+text)
	}
	return out
}

// maxSecretBytes is the limit of WebSub section 5.1: a secret must be shorter than 200 bytes.
const maxSecretBytes = 199

// secretFlags read a subscription's secret from the command line or, hidden from ps, from a file.
type secretFlags struct {
	Secret     string `help:"The secret that signs deliveries (shorter than 200 bytes)." xor:"secret" placeholder:"TEXT"`
	SecretFile string `help:"A file that contains the secret; a trailing newline is ignored." xor:"secret" placeholder:"FILE"`
}

func (f *secretFlags) read() (string, error) {
	secret, name := f.Secret, "--secret"
	if f.SecretFile != "" {
		name = "--secret-file"
		data, err := os.ReadFile(f.SecretFile)
		if err != nil {
			return "", exit.Usagef("--secret-file: %v", err)
		}
		secret = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
		if secret == "" {
			return "", exit.Usagef("--secret-file: %s is empty", f.SecretFile)
		}
	}
	if len(secret) > maxSecretBytes {
		return "", exit.Usagef("%s: the secret is %d bytes long, expected at most %d", name, len(secret), maxSecretBytes)
	}
	return secret, nil
}
