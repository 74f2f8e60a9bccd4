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

// checkTimeout is how long quorumhub check waits for those who vouch for callers.
const checkTimeout = 5 * time.Second

// Check opens what a node of the configuration opens at its start, and starts nothing. Warnings name those who vouch for
// callers and do not answer.
func Check(ctx context.Context, cfg *configs.Config) (warnings []string, err error) {
	if warnings, err = checkAccess(ctx, cfg); err != nil {
		return nil, err
	}
	if err := checkTLS(cfg); err != nil {
		return nil, err
	}
	return warnings, checkKeys(cfg)
}

// checkAccess says what is wrong with the files of access control, for quorumhub check; and, as warnings, which of those who
// vouch for callers do not answer from here. A hub starts without them, and lets nobody in on their word until they do.
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
	a.wire(cfg, nil, nil, quiet)
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
			warnings = append(warnings, err.Error()+"; until it answers, its callers get 503")
		}
	}
	return warnings, nil
}

// checkTLS says what is wrong with the certificates for other hosts, for quorumhub check.
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

// checkKeys says what is wrong with the key file for secrets at rest, if there is one.
func checkKeys(cfg *configs.Config) error {
	if _, err := OpenKeys(cfg, false); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
