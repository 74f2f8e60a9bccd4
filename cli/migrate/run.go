package migrate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// How an import deals with a hub that is briefly unavailable, such as during an election.
const (
	importPatience = time.Minute
	importPause    = 500 * time.Millisecond
	maxImportBody  = 1 << 20
)

// Run is an import of records into a hub.
type Run struct {
	Hub            *client.Client
	Verify, DryRun bool
	answered       bool // the hub has responded before
}

// Send sends the records without an outcome in batches, topics first, and records the outcomes. It stops at the first batch that fails.
func (r *Run) Send(ctx context.Context, records []*Record, batch int) error {
	var order []*Record
	for _, kind := range []string{kindTopic, kindSubscription} {
		for _, rec := range records {
			if rec.Kind == kind && rec.Outcome == "" {
				order = append(order, rec)
			}
		}
	}
	for len(order) > 0 {
		n, size := 0, 0
		for n < len(order) && n < batch {
			size += order[n].size()
			if n > 0 && size > maxImportBody {
				break
			}
			n++
		}
		if err := r.sendBatch(ctx, order[:n]); err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}

// sendBatch sends one batch. It retries for importPatience if the hub has responded before and is now unavailable or unreachable.
func (r *Run) sendBatch(ctx context.Context, batch []*Record) error {
	body := map[string]any{"verify": r.Verify, "dry_run": r.DryRun}
	topics, subs := []string{}, []*payload{}
	for _, rec := range batch {
		if rec.Kind == kindTopic {
			topics = append(topics, rec.Topic)
		} else {
			subs = append(subs, rec.payload)
		}
	}
	body["topics"], body["subscriptions"] = topics, subs
	end := time.Now().Add(importPatience)
	for {
		raw, err := r.Hub.Call(ctx, http.MethodPost, "/v1/import", body, "topics", "subscriptions")
		if err == nil {
			r.answered = true
			return r.settle(batch, raw)
		}
		r.answered = r.answered || errors.Is(err, client.ErrCannotServe)
		if ctx.Err() != nil || !r.answered || exit.CodeOf(err) != exit.Unreachable || time.Now().After(end) {
			return err
		}
		timer := time.NewTimer(importPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// settle records the outcome of each record.
func (r *Run) settle(batch []*Record, raw json.RawMessage) error {
	type item struct {
		Topic, Callback, Outcome, ID, Param, Reason string
		FreshLease                                  bool `json:"fresh_lease"`
	}
	var answer struct{ Topics, Subscriptions []item }
	err := json.Unmarshal(raw, &answer)
	items := append(answer.Topics, answer.Subscriptions...) // in the order they were sent
	if err != nil || len(items) != len(batch) {
		return r.Hub.Unexpected("/v1/import", cmp.Or(err, errors.New("it does not match the records sent")))
	}
	for i, rec := range batch {
		rec.Outcome, rec.ID, rec.FreshLease = items[i].Outcome, items[i].ID, items[i].FreshLease
		rec.Field, rec.Reason = fieldName(rec.Kind, items[i].Param), items[i].Reason
	}
	return nil
}

// fieldName returns the name that a parameter has in the files.
func fieldName(kind, param string) string {
	switch {
	case param == "hub.topic" && kind == kindTopic:
		return "topic"
	case param == "hub.lease_seconds":
		return "hubLeaseSeconds"
	case strings.HasPrefix(param, "hub.") && len(param) > 4:
		return "hub" + strings.ToUpper(param[4:5]) + param[5:]
	}
	return param
}

// Report is the result of an import.
type Report struct {
	DryRun  bool      `json:"dry_run"`
	Records []*Record `json:"records"`
	Summary struct {
		Topics        counts `json:"topics"`
		Subscriptions counts `json:"subscriptions"`
		Stale         int    `json:"stale"`        // imported subscriptions to which their old hub had stopped delivering
		FreshLeases   int    `json:"fresh_leases"` // imported subscriptions whose lease had expired
	} `json:"summary"`
}

type counts struct {
	Created   int `json:"created"`
	Unchanged int `json:"unchanged"`
	Requested int `json:"requested"`
	Skipped   int `json:"skipped"`
	Refused   int `json:"refused"`
	NotSent   int `json:"not_sent"`
}

func (c *counts) count(outcome string) {
	switch outcome {
	case "created":
		c.Created++
	case "unchanged":
		c.Unchanged++
	case "requested":
		c.Requested++
	case outcomeSkipped:
		c.Skipped++
	case outcomeRefused:
		c.Refused++
	default:
		c.NotSent++
	}
}

func (c counts) String() string {
	out := fmt.Sprintf("%d created, %d unchanged", c.Created, c.Unchanged)
	for _, more := range []struct {
		n    int
		word string
	}{{c.Requested, "awaiting verification"}, {c.Skipped, "skipped"}, {c.Refused, "refused"}, {c.NotSent, "not sent"}} {
		if more.n > 0 {
			out += fmt.Sprintf(", %d %s", more.n, more.word)
		}
	}
	return out
}

// Summarize returns the report of an import. Records that were never sent are marked so.
func Summarize(records []*Record, dryRun bool) *Report {
	out := &Report{DryRun: dryRun, Records: records}
	for _, r := range records {
		if r.Outcome == "" {
			r.Outcome = "not sent"
		}
		if r.Kind == kindTopic {
			out.Summary.Topics.count(r.Outcome)
			continue
		}
		out.Summary.Subscriptions.count(r.Outcome)
		in := r.Outcome == "created" || r.Outcome == "unchanged" || r.Outcome == "requested"
		if r.Stale && in {
			out.Summary.Stale++
		}
		if r.FreshLease {
			out.Summary.FreshLeases++
		}
	}
	return out
}

// Write prints the report for people.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	for _, rec := range r.Records {
		what := rec.Kind + " " + terminal.OrDash(rec.Topic)
		if rec.Kind == kindSubscription {
			what += " to " + terminal.OrDash(rec.Callback)
		}
		if rec.ID != "" {
			what += " (" + terminal.OneLine(rec.ID) + ")"
		}
		if rec.Stale {
			what += ", stale at the old hub"
		}
		if rec.FreshLease {
			what += ", with a fresh lease"
		}
		if rec.Reason != "" {
			where := rec.Where
			if rec.Field != "" {
				where += ": " + rec.Field
			}
			what += "; " + terminal.OneLine(where+": "+rec.Reason)
		}
		fmt.Fprintf(&b, "%-9s %s\n", rec.Outcome, what)
	}
	s := &r.Summary
	fmt.Fprintf(&b, "\ntopics: %s\nsubscriptions: %s\n", s.Topics, s.Subscriptions)
	if s.Stale > 0 {
		fmt.Fprintf(&b, "stale at the old hub: %d; this hub resumes deliveries\n", s.Stale)
	}
	if s.FreshLeases > 0 {
		fmt.Fprintf(&b, "expired leases renewed: %d\n", s.FreshLeases)
	}
	if r.DryRun {
		b.WriteString("dry run: nothing was changed\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
