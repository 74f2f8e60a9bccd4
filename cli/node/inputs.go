package node

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/configs"
	"quorumhub/delivery/egress"
	"quorumhub/raftlog"
)

// inputs are what a node reads before it takes anything for itself. A start and a check read the same, so that what a check accepts
// can be started.
type inputs struct {
	cfg      *configs.Config
	https    *auth.ServerTLS  // nil: plain HTTP
	access   *auth.Settings   // nil: everyone may do everything
	rules    *egress.TLSRules // of callback hosts; without any if there is no file
	id       string
	identity *raftlog.Identity // of the data directory; nil: there is none yet
	keys     *keyring.Store    // nil: the first start creates them
}

// readInputs reads and checks everything. The error names all that is wrong, one line each.
func readInputs(cfg *configs.Config, log *slog.Logger) (*inputs, error) {
	in := &inputs{cfg: cfg}
	return in, errors.Join(in.readHTTPS(log), in.readAccess(), checkEgress(cfg), in.readRules(log), in.readIdentity(), in.readClusterTLS(), in.readKeys())
}

func (in *inputs) readHTTPS(log *slog.Logger) error {
	files := in.cfg.HTTP.TLS
	if files.Cert == "" {
		return nil
	}
	t := &auth.ServerTLS{Cert: files.Cert, Key: files.Key, ClientCA: files.ClientCA, Failed: func(err error) {
		log.Error("cannot load renewed TLS files; still using the previous ones", "error", err)
	}}
	if _, err := t.Config(); err != nil {
		return err
	}
	in.https = t
	return nil
}

func (in *inputs) readAccess() (err error) {
	if in.cfg.Auth.Mode == "required" {
		in.access, err = auth.LoadSettings(in.cfg.Auth.File, in.cfg.Auth.Directory)
	}
	return err
}

func (in *inputs) readRules(log *slog.Logger) (err error) {
	if in.rules, err = loadTLSRules(in.cfg.Delivery.TLSFile); err != nil {
		return err
	}
	in.rules.Failed = func(err error) {
		log.Error("cannot load renewed certificates for callbacks; still using the previous ones", "error", err)
	}
	return nil
}

// readIdentity finds out which node this is: the configured one, else that of the data directory, else a new one.
func (in *inputs) readIdentity() (err error) {
	if in.id, err = ID(in.cfg); err == nil {
		in.identity, err = raftlog.ReadIdentity(in.cfg.DataDir)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("data_dir: %s is not a directory, or is below a file", in.cfg.DataDir)
	}
	if err != nil || in.identity == nil {
		return err
	}
	return in.identity.Check(in.cfg.DataDir, in.id)
}

// used reports whether the node has finished its first start.
func (in *inputs) used() bool { return in.identity != nil && in.identity.ClusterID != "" }

func (in *inputs) readClusterTLS() error {
	files := clusterTLS(in.cfg)
	if files == nil || in.id == "" {
		return nil
	}
	return files.Check(in.id)
}

// clusterTLS returns the files of mutual TLS; nil: the node listens for no other nodes, or without TLS.
func clusterTLS(cfg *configs.Config) *raftlog.TLSFiles {
	c := &cfg.Cluster
	if len(c.Peers) == 0 || c.TLS.Cert == "" {
		return nil
	}
	return &raftlog.TLSFiles{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key}
}

// readKeys opens the sealing keys. Only the first start creates one: a new key in place of a lost one could not open the secret of any
// subscription. Nodes of a cluster share a key, so none of them creates it.
func (in *inputs) readKeys() error {
	keys, err := OpenKeys(in.cfg, false)
	shared := len(in.cfg.Cluster.Peers) > 1
	switch {
	case err == nil:
		in.keys = keys
	case !errors.Is(err, os.ErrNotExist):
		return err
	case shared:
		return fmt.Errorf("%w; all nodes of a cluster share one key: create it once (quorumhub keys new > secrets.key; chmod 600 secrets.key) "+
			"and copy the file to every node", err)
	case in.used():
		return fmt.Errorf("%w; it seals the secrets of this node's subscriptions, so restore the file from a copy", err)
	}
	return nil
}

// checkEgress verifies the policies of outbound requests.
func checkEgress(cfg *configs.Config) error {
	var errs []error
	for _, e := range []struct {
		key string
		configs.Egress
	}{{"delivery.egress", cfg.Delivery.Egress}, {"fetch.egress", cfg.Fetch.Egress}, {"auth.egress", cfg.Auth.Egress}} {
		_, err := egressPolicy(e.key, e.Egress, nil)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// soon is how long before its end a certificate is warned of that nobody has renewed.
const soon = 7 * 24 * time.Hour

// warnings returns what is allowed but cannot be meant, one line each.
func (in *inputs) warnings(now time.Time) (out []string) {
	if in.https != nil {
		leaf := in.https.Leaf()
		if text := validity(leaf, now); text != "" {
			out = append(out, fmt.Sprintf("http.tls.cert: %s %s", in.cfg.HTTP.TLS.Cert, text))
		}
		if u, err := url.Parse(in.cfg.HTTP.PublicURL); err == nil && u.Scheme == "https" && leaf.VerifyHostname(u.Hostname()) != nil {
			out = append(out, fmt.Sprintf("http.tls.cert: %s is not for %s, the host of http.public_url, so callers that reach this node directly refuse it",
				in.cfg.HTTP.TLS.Cert, u.Hostname()))
		}
	}
	for _, text := range in.rules.Expired(now) {
		out = append(out, fmt.Sprintf("delivery.tls_file %s: %s; the hosts will refuse it", in.cfg.Delivery.TLSFile, text))
	}
	if s := in.access; s != nil {
		if len(s.Rules) == 0 {
			out = append(out, "auth.file "+in.cfg.Auth.File+" has no rules: unless some were set with quorumhub auth, nobody may do anything")
		}
		if s.ClientCertificates != nil && in.cfg.HTTP.TLS.ClientCA == "" {
			out = append(out, "auth.file "+in.cfg.Auth.File+" has client_certificates, but http.tls.client_ca is empty, so no client is asked for one")
		}
	}
	return append(append(append(append(in.cfg.Warnings(), out...), in.lostCookies()...), in.exposedSecrets()...), exposedPlaces(in.cfg)...)
}

// lostCookies warns of logins that browsers forget at once.
func (in *inputs) lostCookies() []string {
	public := in.cfg.PublicURL()
	if in.access == nil || len(in.access.IdentityProviders) == 0 || auth.CheckEndpoint(public) == nil {
		return nil
	}
	return []string{"http.public_url: people cannot log in at " + public + ": browsers keep the cookies of logins only with https, or at localhost"}
}

// validity says what is wrong with a certificate's time, or about to be; "": nothing.
func validity(c *x509.Certificate, now time.Time) string {
	switch day := time.RFC3339; {
	case now.After(c.NotAfter):
		return "expired at " + c.NotAfter.UTC().Format(day)
	case now.Before(c.NotBefore):
		return "is not valid before " + c.NotBefore.UTC().Format(day)
	case c.NotAfter.Sub(now) < soon && c.NotAfter.Sub(c.NotBefore) > 2*soon:
		return "expires at " + c.NotAfter.UTC().Format(day)
	}
	return ""
}

// exposedSecrets warns of files with secrets that others can read.
func (in *inputs) exposedSecrets() (out []string) {
	type file struct{ key, path string }
	list := []file{{"auth.file", in.cfg.Auth.File}, {"http.tls.key", in.cfg.HTTP.TLS.Key}}
	if clusterTLS(in.cfg) != nil {
		list = append(list, file{"cluster.tls.key", in.cfg.Cluster.TLS.Key})
	}
	for _, path := range in.rules.Keys() {
		list = append(list, file{"delivery.tls_file " + in.cfg.Delivery.TLSFile + ": key", path})
	}
	if in.access != nil {
		for _, path := range in.access.SecretFiles() {
			list = append(list, file{"auth.file " + in.cfg.Auth.File + ": secret_file", path})
		}
		for _, path := range in.access.ProviderFiles() {
			list = append(list, file{"auth.directory", path})
		}
	}
	for _, f := range list {
		if text := ReadableByOthers(f.path); f.path != "" && text != "" {
			out = append(out, fmt.Sprintf("%s: %s", f.key, text))
		}
	}
	return out
}

// exposedPlaces warns of directories in which others can put files in place of the node's.
func exposedPlaces(cfg *configs.Config) (out []string) {
	if text := WritableByOthers(cfg.DataDir); text != "" {
		out = append(out, "data_dir: "+text)
	}
	for _, f := range []struct{ key, path string }{{"secrets.key_file", cfg.Secrets.KeyFile}, {"auth.file", cfg.Auth.File}, {"auth.directory", cfg.Auth.Directory}} {
		if f.path == "" {
			continue
		}
		if text := WritableByOthers(f.path); text != "" && !strings.Contains(strings.Join(out, "\n"), text) {
			out = append(out, f.key+": "+text)
		}
	}
	return out
}
