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
	Dir  string `help:"Where to write ca.pem and ca.key." default:"." placeholder:"DIR"`
	Days int    `help:"How long the authority is valid, in days." default:"3650"`
}

// Help is the longer text of --help.
func (*initCACmd) Help() string {
	return "ca.pem goes to every node (cluster.tls.ca). ca.key goes to none: who has it can make a node of any id. Keep it offline; it is needed " +
		"again for issue-cert. Existing files are never overwritten."
}

func (c *initCACmd) Run(s Streams) error {
	if err := checkDays(c.Days); err != nil {
		return err
	}
	a, err := raftlog.CreateAuthority(c.Dir, time.Duration(c.Days)*day)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "%s is for every node (cluster.tls.ca), valid until %s; keep %s away from them\n",
		a.CertFile(), a.NotAfter().UTC().Format(time.DateOnly), raftlog.AuthorityKey)
	return err
}

type issueCertCmd struct {
	Node  string   `required:"" help:"The node's cluster.node_id." placeholder:"ID"`
	Host  []string `help:"A host name or IP address at which the others reach the node, as in cluster.peers. May be repeated." placeholder:"HOST"`
	Dir   string   `help:"Where ca.pem and ca.key are." default:"." placeholder:"DIR"`
	Out   string   `help:"Where to write ID.pem and ID.key; the default is the directory of --dir." placeholder:"DIR"`
	Days  int      `help:"How long the certificate is valid, in days." default:"730"`
	Renew bool     `help:"Make a new certificate for the key that is there, and put it in the old one's place."`
}

// Help is the longer text of --help.
func (*issueCertCmd) Help() string {
	return "The certificate is for one node id, kept in it as the name quorumhub://cluster/node/ID, and for both sides of a connection: with it the node " +
		"cannot speak as another one. A certificate from elsewhere needs the node id as its common name or as a DNS name.\n\n" +
		"Nodes read their certificates again for every new connection, so a renewed one needs no restart. --renew keeps the key and, without --host, the hosts; " +
		"it is one rename, so it may be run in the place where a running node reads. From 30 days before its end a node warns in its log."
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
		return exit.Usagef("--host is missing; expected the host name or IP address at which the others reach the node")
	}
	if c.Out == "" {
		c.Out = c.Dir
	}
	a, err := raftlog.LoadAuthority(c.Dir)
	if err != nil {
		return fmt.Errorf("the authority: %w", err)
	}
	issue := a.Issue
	if c.Renew {
		issue = a.Renew
	}
	cert, err := issue(c.Out, c.Node, c.Host, time.Duration(c.Days)*day)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "%s and %s are for node %s at %s, valid until %s\n", cert.Cert, cert.Key, cert.Node,
		strings.Join(cert.Hosts, ", "), cert.NotAfter.UTC().Format(time.DateOnly))
	return err
}

func checkDays(n int) error {
	if n < 1 || n > 36500 {
		return exit.Usagef("--days: got %d, expected 1 to 36500", n)
	}
	return nil
}
