package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"quorumhub/web/gateway/negotiate"
	"quorumhub/web/problem"
)

// statusGone is what the log shows for a client that did not wait for its answer; it is never sent.
const statusGone = 499

// errorStage tells the caller what went wrong, in the format that it accepts, and nothing that only the log should know.
type errorStage struct{}

func (errorStage) name() string { return "errors" }
func (errorStage) explain(*version) string {
	return "problem details (RFC 9457) in JSON or XML, or a line of text, as Accept says"
}

func (errorStage) do(x *exchange) error {
	err := x.failed
	if err == nil {
		return nil
	}
	switch {
	case x.status != 0:
		x.cut = true // it has begun; only the end of the connection can tell
		return nil
	case x.r.Context().Err() != nil && errors.Is(err, context.Canceled):
		x.status, x.cut = statusGone, true // or net/http would answer 200
		return nil
	}
	d := x.g.describe(err)
	if d == nil {
		d = problem.Internal(x.correlation)
		x.g.Log.Error("a request to the gateway failed", slog.Any("error", err), slog.String("correlation_id", x.correlation))
	}
	x.problem, x.status = d, d.Status
	if x.version != nil && x.choice == d {
		x.version.lifeHeaders(x, x.w.Header())
	}
	x.mayWrite()
	var produces []negotiate.Format
	if x.version != nil && !x.unknown {
		produces = x.version.produces
	}
	d.Write(x.w, x.r, x.correlation, negotiate.ErrorForms(produces)...)
	return nil
}

// logStage writes the access log, and counts.
type logStage struct{}

func (logStage) name() string { return "log" }
func (logStage) explain(*version) string {
	return "one line with the caller, the status and the times; counted by service, version and caller"
}

func (logStage) do(x *exchange) error {
	if x.dry {
		return nil
	}
	took := time.Since(x.start)
	x.g.metrics.count(x, took)
	service, version := "", ""
	if x.version != nil {
		service, version = x.version.service.Name, x.version.Version.Version
		if x.counts() {
			x.g.usage.count(usageKey{service, version, x.consumer()}, x.status, x.g.Clock())
		}
	}
	ctx := context.WithoutCancel(x.ctx())
	if !x.g.Log.Enabled(ctx, slog.LevelInfo) {
		return nil
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("method", x.r.Method), slog.String("service", service), slog.String("version", version), slog.Int("status", x.status),
		slog.String("caller", x.caller.Key), slog.Duration("took", took), slog.Duration("upstream", x.waited), slog.Int64("bytes", x.sent),
		slog.String("correlation_id", x.correlation), slog.String("trace", x.trace.id()))
	if x.problem != nil {
		attrs = append(attrs, slog.String("code", x.problem.Code))
	}
	if x.cut {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	x.g.Log.LogAttrs(ctx, slog.LevelInfo, "gateway", attrs...)
	return nil
}

// id is the part of a trace that all its logs share.
func (t trace) id() string {
	if len(t.parent) < 35 {
		return ""
	}
	return t.parent[3:35]
}

// counts reports whether the exchange says who uses a version: the caller is known, and so is the version.
func (x *exchange) counts() bool {
	return x.choice == nil && x.status != http.StatusUnauthorized
}

// consumer names the caller for the counters. Those without credentials are one.
func (x *exchange) consumer() string {
	if x.caller.Anonymous || x.caller.ID == "" {
		return consumerAnonymous
	}
	return x.caller.ID
}
