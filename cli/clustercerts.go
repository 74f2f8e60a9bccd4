package cli

import (
	"fmt"
	"net"
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/configs"
	"quorumhub/raftlog"
)

const day = 24 * time.Hour

type initCACmd struct {
	Dir  string `help:"The directory to write ca.pem and ca.key to." default:"." placeholder:"DIR"`
	Days int    `help:"How long the authority is valid, in days." default:"3650"`
}

// Help is shown by --help below the flags.
func (*initCACmd) Help() string {
	return "Copy ca.pem to every node (cluster.tls.ca). Never copy ca.key to a node: whoever has it can impersonate any node. Keep it offline; " +
		"issue-cert needs it. Existing files are never overwritten."
}

func (c *initCACmd) Run(s Streams) error {
	if err := checkDays(c.Days); err != nil {
		return err
	}
	a, err := raftlog.CreateAuthority(c.Dir, time.Duration(c.Days)*day)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "copy %s to every node (cluster.tls.ca); it is valid until %s. Keep %s away from the nodes\n",
		a.CertFile(), a.NotAfter().UTC().Format(time.DateOnly), raftlog.AuthorityKey)
	return err
}

type issueCertCmd struct {
	Node  string   `required:"" help:"The node's cluster.node_id." placeholder:"ID"`
	Host  []string `help:"A host name or IP address where the other nodes reach this one, as in cluster.peers. Repeatable." placeholder:"HOST"`
	Dir   string   `help:"The directory of ca.pem and ca.key." default:"." placeholder:"DIR"`
	Out   string   `help:"The directory to write ID.pem and ID.key to. Default: the directory of --dir." placeholder:"DIR"`
	Days  int      `help:"How long the certificate is valid, in days." default:"730"`
	Renew bool     `help:"Replace the certificate with a new one for the existing key."`
}

// Help is shown by --help below the flags.
func (*issueCertCmd) Help() string {
	return "The certificate names one node ID, as the URI quorumhub://cluster/node/ID, and serves for both sides of a connection, so a node cannot impersonate another. " +
		"A certificate from another authority needs the node ID as its common name or as a DNS name.\n\n" +
		"Nodes reload their certificates for every new connection, so renewal needs no restart. --renew keeps the key and, without --host, the hosts. " +
		"It replaces the file atomically and may run in the directory of a running node. Nodes log a warning from 30 days before expiry."
}

func (c *issueCertCmd) Run(s Streams) error {
	if err := checkDays(c.Days); err != nil {
		return err
	}
	if !configs.ValidNodeID(c.Node) {
		return exit.Usagef("--node: got %q, expected at most 64 letters, digits, dots, dashes and underscores", c.Node)
	}
	for _, h := range c.Host {
		if net.ParseIP(h) == nil && (h == "" || strings.ContainsAny(h, ":/ *")) {
			return exit.Usagef("--host: got %q, expected a host name or an IP address, without a port", h)
		}
	}
	if len(c.Host) == 0 && !c.Renew {
		return exit.Usagef("--host is missing; expected the host name or IP address where the other nodes reach this one")
	}
	if c.Out == "" {
		c.Out = c.Dir
	}
	a, err := raftlog.LoadAuthority(c.Dir)
	if err != nil {
		return fmt.Errorf("load the authority: %w", err)
	}
	issue := a.Issue
	if c.Renew {
		issue = a.Renew
	}
	cert, err := issue(c.Out, c.Node, c.Host, time.Duration(c.Days)*day)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "wrote %s and %s for node %s at %s, valid until %s\n", cert.Cert, cert.Key, cert.Node,
		strings.Join(cert.Hosts, ", "), cert.NotAfter.UTC().Format(time.DateOnly))
	return err
}

func checkDays(n int) error {
	if n < 1 || n > 36500 {
		return exit.Usagef("--days: got %d, expected 1 to 36500", n)
	}
	return nil
}
