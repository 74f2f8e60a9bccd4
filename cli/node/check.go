package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"quorumhub/configs"
)

// checkTimeout limits how long Check waits for issuers, the token service and the name service.
const checkTimeout = 5 * time.Second

// Check verifies what a node with this configuration would read and take, and starts nothing. The error names everything for which it
// would not start. Warnings name what cannot be meant, and who does not respond: a hub starts without its issuers, but cannot
// authenticate their callers.
func Check(ctx context.Context, cfg *configs.Config) (warnings []string, err error) {
	quiet := slog.New(slog.DiscardHandler)
	in, err := readInputs(cfg, quiet)
	running, placeErr := checkPlaces(ctx, cfg)
	_, registryErr := readGatewayFile(cfg)
	if err := errors.Join(err, placeErr, registryErr); err != nil {
		return nil, err
	}
	warnings = append(in.warnings(time.Now()), running...)
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	silent, err := in.askAuthorities(ctx, quiet)
	if err != nil {
		return nil, err
	}
	return append(append(warnings, silent...), unknownHosts(ctx, cfg)...), nil
}

// askAuthorities returns a line for each issuer and token service that does not respond.
func (in *inputs) askAuthorities(ctx context.Context, log *slog.Logger) (silent []string, err error) {
	if in.access == nil {
		return nil, nil
	}
	a := newAccessControl(in.cfg, in.access, nil, log)
	defer a.close()
	if err := a.open(); err != nil {
		return nil, err
	}
	for _, err := range inParallel(a.probes(), func(probe func(context.Context) error) error { return probe(ctx) }) {
		if err != nil {
			silent = append(silent, err.Error()+"; until it responds, its callers get 503")
		}
	}
	return silent, nil
}

// unknownHosts returns a line for each host in the configuration whose name cannot be resolved.
func unknownHosts(ctx context.Context, cfg *configs.Config) (out []string) {
	type host struct{ key, name string }
	var list []host
	for _, p := range cfg.Cluster.Peers {
		if name, _, err := net.SplitHostPort(p.Addr); err == nil {
			list = append(list, host{"cluster.peers: " + p.String(), name})
		}
	}
	for key, raw := range map[string]string{"delivery.egress.proxy": cfg.Delivery.Egress.Proxy, "fetch.egress.proxy": cfg.Fetch.Egress.Proxy, "auth.egress.proxy": cfg.Auth.Egress.Proxy} {
		if u, err := url.Parse(raw); err == nil && raw != "" {
			list = append(list, host{key, u.Hostname()})
		}
	}
	for i, err := range inParallel(list, func(h host) error {
		_, err := net.DefaultResolver.LookupHost(ctx, h.name)
		return err
	}) {
		if err != nil {
			out = append(out, fmt.Sprintf("%s: %v", list[i].key, err))
		}
	}
	return out
}

// inParallel calls f for each item and returns the errors in their order.
func inParallel[T any](items []T, f func(T) error) []error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { errs[i] = f(item) })
	}
	wg.Wait()
	return errs
}
