package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// maxSourceBytes is the most that is read of one file of another hub.
const maxSourceBytes = 256 << 20

// How an import meets a hub that cannot serve for a while, as one that is choosing a leader.
const (
	importPatience = time.Minute
	importPause    = 500 * time.Millisecond
	maxImportBody  = 1 << 20
)

type importCmd struct {
	hubFlags
	From            string   `required:"" enum:"ballerina,mosip" help:"Where the files come from: ballerina (a consolidator's state snapshot, of WSO2's hub too) or mosip (records of its consolidated topics)." placeholder:"HUB"`
	Files           []string `arg:"" optional:"" name:"file" help:"The files, - for standard input (the default)." placeholder:"FILE"`
	URL             string   `name:"url" help:"Read the snapshot from a running consolidator, such as http://consolidator:10001/consolidator/state-snapshot." placeholder:"URL"`
	Verify          bool     `help:"Ask every callback whether it meant it, as for any subscription, before anything is sent to it."`
	DryRun          bool     `help:"Change nothing; print what would be done."`
	SecretKeyFile   string   `help:"The key of encrypted secrets (cipher{...}); without it, HUB_SECRET_ENCRYPTION_KEY in the environment." placeholder:"FILE"`
	SecretKeyFormat string   `enum:"auto,alpha-numeric,base64-encoded-bytes" default:"auto" help:"What the key's text is; auto tries both." placeholder:"FORMAT"`
	Batch           int      `default:"100" help:"Records in one request." placeholder:"N"`
	JSON            bool     `name:"json" help:"Print JSON: {\"records\": [...], \"summary\": {...}}."`
}

// Help is shown by --help below the flags.
func (c *importCmd) Help() string {
	return `Subscriptions are active at once, since their hub had asked the callbacks already; their secrets are sealed by the node. What is there
already is left as it is, so an import that was cut short is repeated with the same command. A lease counts from the record's
timestamp when that is a date, else from now; one that would be over gets a fresh lease, for those hubs never ended any.

    quorumhub import --from ballerina snapshot.json --dry-run
    quorumhub import --from ballerina --url http://consolidator:10001/consolidator/state-snapshot --hub https://hub.example.org/hub
    kafka-console-consumer --topic consolidated-websub-topics --from-beginning --timeout-ms 10000 … > topics.txt
    kafka-console-consumer --topic consolidated-websub-subscribers --from-beginning --timeout-ms 10000 … > subscribers.txt
    HUB_SECRET_ENCRYPTION_KEY=… quorumhub import --from mosip topics.txt subscribers.txt

Ends with 0 when everything is in, with 4 when the hub or this command refused some of it; the report says what and why.`
}

func (c *importCmd) Run(ctx context.Context, s Streams) error {
	if c.Batch < 1 || c.Batch > 1000 {
		return usageError(fmt.Sprintf("--batch: got %d, expected 1 to 1000", c.Batch))
	}
	key, err := c.secretKey(s.Env)
	if err != nil {
		return err
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.close()
	records, err := c.read(ctx, s.In, key)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return usageError("there is nothing to import: no file holds a topic or a subscription")
	}
	run := &importRun{hub: hub, verify: c.Verify, dryRun: c.DryRun}
	failed := run.sendAll(ctx, records, c.Batch)
	report := summarize(records, c.DryRun)
	if c.JSON {
		err = writeJSON(s.Out, report)
	} else {
		err = report.write(s.Out)
	}
	refused := report.Summary.Topics.Refused + report.Summary.Subscriptions.Refused
	switch {
	case err != nil:
		return err
	case failed != nil:
		return fmt.Errorf("%w; what is in stays as it is, so run the same command again", failed)
	case refused > 0:
		return withCode(codeRefused, fmt.Errorf("%d of %d records did not go in; the report says why", refused, len(records)))
	}
	return nil
}

// read reads all sources before anything is sent, so that a file that is wrong leaves the hub as it is.
func (c *importCmd) read(ctx context.Context, stdin io.Reader, key *secretKey) ([]*importRecord, error) {
	var records []*importRecord
	add := func(name string, in io.Reader) error {
		data, err := io.ReadAll(io.LimitReader(in, maxSourceBytes+1))
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if len(data) > maxSourceBytes {
			return usageError(fmt.Sprintf("%s has more than %d bytes, more than any such file", name, maxSourceBytes))
		}
		found, err := readImport(c.From, name, data, key)
		records = append(records, found...)
		return err
	}
	files := c.Files
	if c.URL != "" {
		if len(files) > 0 {
			return nil, usageError("--url and files do not go together")
		}
		if err := c.fetch(ctx, add); err != nil {
			return nil, err
		}
	} else if len(files) == 0 {
		if f, ok := stdin.(*os.File); ok && isTerminal(f) {
			return nil, usageError("no file; give one or more, --url, or pipe one in")
		}
		files = []string{"-"}
	}
	for _, name := range files {
		if name == "-" {
			if err := add("standard input", stdin); err != nil {
				return nil, err
			}
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, usageError(err.Error())
		}
		err = add(name, f)
		_ = f.Close() // it was only read
		if err != nil {
			return nil, err
		}
	}
	settleDuplicates(records)
	if c.From == fromMOSIP {
		settleAliases(records)
	}
	return records, nil
}

// fetch reads a snapshot from a running consolidator.
func (c *importCmd) fetch(ctx context.Context, add func(string, io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil || req.URL.Host == "" || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return usageError(fmt.Sprintf("--url: got %q, expected one such as http://consolidator:10001/consolidator/state-snapshot", c.URL))
	}
	req.Header.Set("Accept", "application/json")
	client := &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: time.Duration(c.Timeout)}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return withCode(codeUnreachable, fmt.Errorf("--url: %w", err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return withCode(codeUnreachable, fmt.Errorf("--url: %s answers %s; expected 200 with a snapshot", c.URL, printable(resp.Status)))
	}
	return add(c.URL, resp.Body)
}

// importRun sends records to a hub.
type importRun struct {
	hub            *hubClient
	verify, dryRun bool
	answered       bool // it has answered once
}

// sendAll sends what is not settled yet, topics first.
func (r *importRun) sendAll(ctx context.Context, records []*importRecord, batch int) error {
	var order []*importRecord
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
		if err := r.send(ctx, order[:n]); err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}

// send sends one batch, again and again while a hub that has answered before cannot serve or be reached.
func (r *importRun) send(ctx context.Context, batch []*importRecord) error {
	body := map[string]any{"verify": r.verify, "dry_run": r.dryRun}
	topics, subs := []string{}, []*importPayload{}
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
		raw, err := r.hub.operate(ctx, http.MethodPost, "/v1/import", body)
		if err == nil {
			r.answered = true
			return r.settle(batch, raw)
		}
		r.answered = r.answered || errors.Is(err, errCannotServe)
		if ctx.Err() != nil || !r.answered || exitCode(err) != codeUnreachable || time.Now().After(end) {
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

// settle writes down what the hub says about each record.
func (r *importRun) settle(batch []*importRecord, raw json.RawMessage) error {
	type item struct {
		Topic, Callback, Outcome, ID, Param, Reason string
		FreshLease                                  bool `json:"fresh_lease"`
	}
	var answer struct{ Topics, Subscriptions []item }
	err := json.Unmarshal(raw, &answer)
	items := append(answer.Topics, answer.Subscriptions...) // as they were sent, topics first
	if err != nil || len(items) != len(batch) {
		return fmt.Errorf("the answer of %s is not what a hub says to an import", r.hub.base)
	}
	for i, rec := range batch {
		rec.Outcome, rec.ID, rec.FreshLease = items[i].Outcome, items[i].ID, items[i].FreshLease
		rec.Field, rec.Reason = fieldName(rec.Kind, items[i].Param), items[i].Reason
	}
	return nil
}

// fieldName is a parameter as the files call it.
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

// importReport is what an import came to.
type importReport struct {
	DryRun  bool            `json:"dry_run"`
	Records []*importRecord `json:"records"`
	Summary struct {
		Topics        importCounts `json:"topics"`
		Subscriptions importCounts `json:"subscriptions"`
		Stale         int          `json:"stale"`        // of the subscriptions that are in, those that got nothing any more where they come from
		FreshLeases   int          `json:"fresh_leases"` // of those, whose lease was over
	} `json:"summary"`
}

type importCounts struct {
	Created   int `json:"created"`
	Unchanged int `json:"unchanged"`
	Requested int `json:"requested"`
	Skipped   int `json:"skipped"`
	Refused   int `json:"refused"`
	NotSent   int `json:"not_sent"`
}

func (c *importCounts) count(outcome string) {
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

func (c importCounts) String() string {
	out := fmt.Sprintf("%d created, %d unchanged", c.Created, c.Unchanged)
	for _, more := range []struct {
		n    int
		word string
	}{{c.Requested, "asked for"}, {c.Skipped, "skipped"}, {c.Refused, "refused"}, {c.NotSent, "not sent"}} {
		if more.n > 0 {
			out += fmt.Sprintf(", %d %s", more.n, more.word)
		}
	}
	return out
}

func summarize(records []*importRecord, dryRun bool) *importReport {
	out := &importReport{DryRun: dryRun, Records: records}
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

func (r *importReport) write(w io.Writer) error {
	var b strings.Builder
	for _, rec := range r.Records {
		what := rec.Kind + " " + orDash(oneLine(rec.Topic))
		if rec.Kind == kindSubscription {
			what += " to " + orDash(oneLine(rec.Callback))
		}
		if rec.ID != "" {
			what += " (" + oneLine(rec.ID) + ")"
		}
		if rec.Stale {
			what += ", stale there"
		}
		if rec.FreshLease {
			what += ", with a fresh lease"
		}
		if rec.Reason != "" {
			where := rec.Where
			if rec.Field != "" {
				where += ": " + rec.Field
			}
			what += "; " + oneLine(where+": "+rec.Reason)
		}
		fmt.Fprintf(&b, "%-9s %s\n", rec.Outcome, what)
	}
	s := &r.Summary
	fmt.Fprintf(&b, "\ntopics: %s\nsubscriptions: %s\n", s.Topics, s.Subscriptions)
	if s.Stale > 0 {
		fmt.Fprintf(&b, "stale there: %d; this hub goes on trying\n", s.Stale)
	}
	if s.FreshLeases > 0 {
		fmt.Fprintf(&b, "leases that were over and begin anew: %d\n", s.FreshLeases)
	}
	if r.DryRun {
		b.WriteString("dry run: nothing was changed\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
