package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"quorumhub/configs"
)

// checkTimeout limits how long Check waits for issuers and the token service.
const checkTimeout = 5 * time.Second

// Check verifies the files that a node with this configuration would read, and starts nothing. Warnings name the issuers and token
// services that do not respond: a hub starts without them, but cannot authenticate their callers.
func Check(ctx context.Context, cfg *configs.Config) (warnings []string, err error) {
	if warnings, err = checkAccess(ctx, cfg); err != nil {
		return nil, err
	}
	if err := checkTLS(cfg); err != nil {
		return nil, err
	}
	if err := checkEgress(cfg); err != nil {
		return nil, err
	}
	if _, err := readGatewayFile(cfg); err != nil {
		return nil, err
	}
	return warnings, checkKeys(cfg)
}

// checkAccess verifies the files of access control and probes issuers and the token service.
func checkAccess(ctx context.Context, cfg *configs.Config) (warnings []string, err error) {
	quiet := slog.New(slog.DiscardHandler)
	if _, err := serverTLS(cfg, quiet); err != nil {
		return nil, err
	}
	a, err := openAccess(cfg, nil)
	if err != nil || a == nil || a.client == nil {
		return nil, err
	}
	defer a.client.Close()
	a.wire(cfg, nil, nil, "", quiet)
	probes := make([]func(context.Context) error, 0, len(a.sources)+1)
	for _, s := range a.sources {
		probes = append(probes, s.Probe)
	}
	if a.remote != nil {
		probes = append(probes, a.remote.Probe)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	failures := make([]error, len(probes))
	var asked sync.WaitGroup
	for i, probe := range probes {
		asked.Go(func() { failures[i] = probe(ctx) })
	}
	asked.Wait()
	for _, err := range failures {
		if err != nil {
			warnings = append(warnings, err.Error()+"; until it responds, its callers get 503")
		}
	}
	return warnings, nil
}

// checkEgress verifies the policies of outbound requests.
func checkEgress(cfg *configs.Config) error {
	for key, e := range map[string]configs.Egress{"delivery.egress": cfg.Delivery.Egress, "fetch.egress": cfg.Fetch.Egress, "auth.egress": cfg.Auth.Egress} {
		if _, err := egressPolicy(key, e, nil); err != nil {
			return err
		}
	}
	return nil
}

// checkTLS verifies the certificates for particular callback hosts.
func checkTLS(cfg *configs.Config) error {
	rules, err := outgoingTLS(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if expired := rules.Expired(time.Now()); len(expired) > 0 {
		return fmt.Errorf("delivery.tls_file %s: %s", cfg.Delivery.TLSFile, strings.Join(expired, "; "))
	}
	return nil
}

// checkKeys verifies the sealing keys, if there are any yet.
func checkKeys(cfg *configs.Config) error {
	if _, err := OpenKeys(cfg, false); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
