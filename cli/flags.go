package cli

import (
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/configs"
)

// maxInputBytes bounds a file of rules or settings.
const maxInputBytes = 32 << 20

// hubFlags are the flags of every command that talks to a hub.
type hubFlags struct {
	Hub     string       `help:"The hub's endpoint." default:"${hub}" env:"QUORUMHUB_HUB" placeholder:"URL"`
	Token   string       `help:"An API key or access token to call the hub with." env:"QUORUMHUB_TOKEN" placeholder:"TOKEN"`
	CA      string       `name:"ca" help:"Certificates (PEM) to trust for https besides the system's." env:"QUORUMHUB_CA" placeholder:"FILE"`
	Timeout flagDuration `name:"request-timeout" help:"How long the hub may take to answer." default:"30s" placeholder:"DURATION"`
}

func (f *hubFlags) client() (*client.Client, error) {
	o := client.Options{Timeout: time.Duration(f.Timeout), Token: f.Token}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, exit.Usagef("--ca: %v", err)
		}
		if o.RootCAs, err = x509.SystemCertPool(); err != nil {
			o.RootCAs = x509.NewCertPool()
		}
		if !o.RootCAs.AppendCertsFromPEM(pem) {
			return nil, exit.Usagef("--ca: %s holds no certificate; expected PEM", f.CA)
		}
	}
	return client.New(f.Hub, o)
}

// flagDuration is a duration on the command line, in the syntax of the configuration (10d too).
type flagDuration time.Duration

// UnmarshalText reads the flag.
func (d *flagDuration) UnmarshalText(text []byte) error {
	v, err := configs.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("got %q, expected a duration such as 250ms, 10s, 1h30m or 10d", text)
	}
	*d = flagDuration(v)
	return nil
}
