package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/migrate"
	"quorumhub/cli/terminal"
)

// maxSourceBytes limits one file from another hub.
const maxSourceBytes = 256 << 20

type importCmd struct {
	hubFlags
	From            string   `required:"" enum:"ballerina,mosip" help:"The kind of hub the files are from: ballerina (a consolidator's state snapshot, also for WSO2) or mosip (records of its consolidated topics)." placeholder:"HUB"`
	Files           []string `arg:"" optional:"" name:"file" help:"The files, - for standard input (the default)." placeholder:"FILE"`
	URL             string   `name:"url" help:"Read the snapshot from a running consolidator, such as http://consolidator:10001/consolidator/state-snapshot." placeholder:"URL"`
	Verify          bool     `help:"Verify each subscription's intent with its callback, as for a new subscription, before sending it anything."`
	DryRun          bool     `help:"Report what would be done, and change nothing."`
	SecretKeyFile   string   `help:"A file with the key of encrypted secrets (cipher{...}). Default: HUB_SECRET_ENCRYPTION_KEY in the environment." placeholder:"FILE"`
	SecretKeyFormat string   `enum:"auto,alpha-numeric,base64-encoded-bytes" default:"auto" help:"The format of the key; auto tries both." placeholder:"FORMAT"`
	Batch           int      `default:"1000" help:"The number of records per request." placeholder:"N"`
	Verbose         bool     `short:"v" help:"Print what became of each record, not only of those that were not imported."`
	JSON            bool     `name:"json" help:"Print JSON: {\"records\": [...], \"summary\": {...}}."`
}

// Help is shown by --help below the flags.
func (c *importCmd) Help() string {
	return `Imported subscriptions are active immediately, since their hub has already verified their intent. Their secrets are sealed by the node.
Existing topics and subscriptions are left unchanged, so an interrupted import can be repeated. A lease counts from the record's
timestamp if that is a date, else from now. One that would have expired starts over, because those hubs never ended a subscription.

    quorumhub import --from ballerina snapshot.json --dry-run
    quorumhub import --from ballerina --url http://consolidator:10001/consolidator/state-snapshot --hub https://hub.example.org/hub
    kafka-console-consumer --topic consolidated-websub-topics --from-beginning --timeout-ms 10000 … > topics.txt
    kafka-console-consumer --topic consolidated-websub-subscribers --from-beginning --timeout-ms 10000 … > subscribers.txt
    HUB_SECRET_ENCRYPTION_KEY=… quorumhub import --from mosip topics.txt subscribers.txt

A summary follows, with the first records that were not imported; --verbose lists every record.

The exit code is 0 if everything was imported, and 4 if the hub or this command refused some of it; the report says what and why.`
}

func (c *importCmd) Run(ctx context.Context, s Streams) error {
	if c.Batch < 1 || c.Batch > 1000 {
		return exit.Usagef("--batch: got %d, expected 1 to 1000", c.Batch)
	}
	key, err := migrate.ReadSecretKey(c.SecretKeyFile, c.SecretKeyFormat, s.Env)
	if err != nil {
		return err
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	records, err := c.read(ctx, s.In, key)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return exit.Usagef("nothing to import: the files contain no topics and no subscriptions")
	}
	bar := newProgress(s.Err, "importing", migrate.Open(records))
	run := &migrate.Run{Hub: hub, Verify: c.Verify, DryRun: c.DryRun, Progress: bar.at}
	failed := run.Send(ctx, records, c.Batch)
	bar.end()
	report := migrate.Summarize(records, c.DryRun)
	if c.JSON {
		err = writeJSON(s.Out, report)
	} else {
		err = report.Write(s.Out, c.Verbose)
	}
	refused := report.Summary.Topics.Refused + report.Summary.Subscriptions.Refused
	switch {
	case err != nil:
		return err
	case failed != nil:
		return fmt.Errorf("%w; imported records are kept, so run the same command again", failed)
	case refused > 0:
		return exit.With(exit.Refused, fmt.Errorf("%d of %d records were refused; the report says why", refused, len(records)))
	}
	return nil
}

// read reads all sources before anything is sent, so an invalid file leaves the hub unchanged.
func (c *importCmd) read(ctx context.Context, stdin io.Reader, key *migrate.SecretKey) ([]*migrate.Record, error) {
	var records []*migrate.Record
	add := func(name string, in io.Reader) error {
		data, err := io.ReadAll(io.LimitReader(in, maxSourceBytes+1))
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if len(data) > maxSourceBytes {
			return exit.Usagef("%s is larger than %d bytes, the limit", name, maxSourceBytes)
		}
		found, err := migrate.Read(c.From, name, data, key)
		records = append(records, found...)
		return err
	}
	files := c.Files
	if c.URL != "" {
		if len(files) > 0 {
			return nil, exit.Usagef("--url and files are mutually exclusive")
		}
		if err := c.fetch(ctx, add); err != nil {
			return nil, err
		}
	} else if len(files) == 0 {
		if f, ok := stdin.(*os.File); ok && terminal.Is(f) {
			return nil, exit.Usagef("expected one or more files, --url or input on standard input")
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
			return nil, exit.Usagef("%v", err)
		}
		err = add(name, f)
		_ = f.Close() // only read from
		if err != nil {
			return nil, err
		}
	}
	migrate.Settle(c.From, records)
	return records, nil
}

// fetch reads a snapshot from a running consolidator.
func (c *importCmd) fetch(ctx context.Context, add func(string, io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil || req.URL.Host == "" || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return exit.Usagef("--url: got %q, expected a URL such as http://consolidator:10001/consolidator/state-snapshot", c.URL)
	}
	req.Header.Set("Accept", "application/json")
	client := &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: time.Duration(c.Timeout)}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return exit.With(exit.Unreachable, fmt.Errorf("--url: %w", err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return exit.With(exit.Unreachable, fmt.Errorf("--url: %s responded %s, expected 200 with a snapshot", c.URL, terminal.Printable(resp.Status)))
	}
	return add(c.URL, resp.Body)
}
