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
	"sync"
	"sync/atomic"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// How an import deals with a hub that is briefly unavailable, such as during an election.
const (
	importPatience = time.Minute
	importPause    = 500 * time.Millisecond
	maxImportBody  = 512 << 10
	// importLanes is how many requests are under way at once: while one waits for the log, the hub checks the next.
	importLanes = 4
)

// Run is an import of records into a hub.
type Run struct {
	Hub            *client.Client
	Verify, DryRun bool
	// Progress is called after each batch with the number of records whose outcome is known. It may be nil.
	Progress func(done int)
	answered atomic.Bool // the hub has responded before
}

// Send sends the records without an outcome in batches, several at a time, topics first, and records the outcomes. It begins no batch
// after one has failed.
func (r *Run) Send(ctx context.Context, records []*Record, batch int) error {
	var topics, subs []*Record
	for _, rec := range records {
		switch {
		case rec.Outcome != "":
		case rec.Kind == kindTopic:
			topics = append(topics, rec)
		default:
			subs = append(subs, rec)
		}
	}
	if len(topics)+len(subs) <= batch {
		topics, subs = append(topics, subs...), nil
	}
	done := 0
	if err := r.sendAll(ctx, topics, batch, &done); err != nil {
		return err
	}
	return r.sendAll(ctx, subs, batch, &done)
}

// sendAll sends records in batches. It adds to done what has been sent.
func (r *Run) sendAll(ctx context.Context, order []*Record, batch int, done *int) error {
	var mu sync.Mutex
	var failed error
	next := func() []*Record { // nil: nothing is left, or nothing more is to be sent
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for size := 0; n < len(order) && n < batch && failed == nil; n++ {
			if size += order[n].size(); n > 0 && size > maxImportBody {
				break
			}
		}
		part := order[:n]
		order = order[n:]
		return part
	}
	var lanes sync.WaitGroup
	for range importLanes {
		lanes.Go(func() {
			for part := next(); len(part) > 0; part = next() {
				err := r.sendBatch(ctx, part)
				mu.Lock()
				if err != nil && failed == nil {
					failed = err
				}
				if *done += len(part); err == nil && r.Progress != nil {
					r.Progress(*done)
				}
				mu.Unlock()
			}
		})
	}
	lanes.Wait()
	return failed
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
			r.answered.Store(true)
			return r.settle(batch, raw)
		}
		if errors.Is(err, client.ErrCannotServe) {
			r.answered.Store(true)
		}
		if ctx.Err() != nil || !r.answered.Load() || exit.CodeOf(err) != exit.Unreachable || time.Now().After(end) {
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

// Open returns how many records are still without an outcome.
func Open(records []*Record) int {
	n := 0
	for _, r := range records {
		if r.Outcome == "" {
			n++
		}
	}
	return n
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
			r.Outcome = outcomeNotSent
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

// maxProblems is how many records that were not imported are listed without verbose.
const maxProblems = 20

// Write prints the report for people: a summary, and which records were not imported and why; with verbose, what became of each.
func (r *Report) Write(w io.Writer, verbose bool) error {
	var b strings.Builder
	problems := 0
	for _, rec := range r.Records {
		if !verbose {
			if rec.Outcome != outcomeRefused && rec.Outcome != outcomeNotSent {
				continue
			}
			if problems++; problems > maxProblems {
				continue
			}
		}
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
	if problems > maxProblems {
		fmt.Fprintf(&b, "and %d more like these; --verbose lists all\n", problems-maxProblems)
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	s := &r.Summary
	fmt.Fprintf(&b, "topics: %s\nsubscriptions: %s\n", s.Topics, s.Subscriptions)
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
