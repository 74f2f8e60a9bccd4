package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"filippo.io/age"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
	"quorumhub/durable"
	"quorumhub/store"
)

type backupCmd struct {
	hubFlags
	To             string   `help:"The file to write (mode 0600), which must not exist, or - for standard output. Default: quorumhub-backup-<time>.tar in the current directory." placeholder:"FILE"`
	Recipient      []string `short:"r" help:"Encrypt for an age (age1...) or SSH (ssh-ed25519 ...) public key. Repeatable." placeholder:"KEY"`
	PassphraseFile string   `help:"Encrypt with the passphrase in the first line of this file." placeholder:"FILE"`
}

// Help is shown by --help below the flags.
func (*backupCmd) Help() string {
	return "Any running node can take the backup, and keeps serving meanwhile. The backup is consistent: it holds topics, messages, subscriptions and cursors as of one moment, including everything acknowledged before the command started. " +
		"It is a tar archive of meta.json, the data files and SHA256SUMS. --recipient and --passphrase-file encrypt it on this machine.\n\n" +
		"Messages are stored in plain text, so encrypt the backup or keep it private. Subscribers' secrets are stored sealed, and THE SEALING KEYS ARE NOT INCLUDED. Keep a copy of the nodes' secrets.key " +
		"(secrets.key_file) apart from the backups; without it a backup cannot be restored."
}

func (c *backupCmd) Run(ctx context.Context, s Streams) error {
	to, err := recipients(c.Recipient, c.PassphraseFile)
	if err != nil {
		return err
	}
	now := time.Now()
	if c.To == "" {
		c.To = "quorumhub-backup-" + now.UTC().Format("20060102T150405Z") + ".tar"
		if len(to) > 0 {
			c.To += ".age"
		}
	}
	if _, err := os.Lstat(c.To); c.To != "-" && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(exit.Usagef("--to: %s already exists; expected a new file", c.To), err)
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	resp, err := hub.OpenBackup(ctx)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := &bodyReader{body: resp.Body, size: resp.ContentLength, began: now, limit: resp.Header.Get("X-Backup-Time-Limit")}
	var meta *store.BackupMeta
	if c.To == "-" {
		meta, err = copyBackup(in, s.Out, to)
	} else {
		meta, err = writeBackup(in, c.To, to)
	}
	if err != nil {
		if in.err != nil {
			err = in.err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("no backup was written: %w", err)
	}
	if !meta.Complete {
		fmt.Fprintf(s.Err, "warning: %s had no leader, so the backup may lack the last messages that other nodes acknowledged\n", meta.Node)
	}
	say := s.Out
	if c.To == "-" {
		say = s.Err
	}
	_, err = fmt.Fprintf(say, "%s: %s from %s, cluster %s up to entry %d, %s; keep sealing key %s in a separate place\n", c.To, terminal.Bytes(in.read), meta.Node,
		meta.ClusterID, meta.Index, moment(meta.LogTime), meta.SecretsKey)
	return err
}

// writeBackup writes a backup to a file that appears only once it is complete.
func writeBackup(in io.Reader, name string, to []age.Recipient) (_ *store.BackupMeta, err error) {
	f, err := durable.NewPending(name, 0o600)
	if err != nil {
		return nil, atFile("--to", name, err)
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	meta, err := copyBackup(in, f, to)
	if at := (*fs.PathError)(nil); errors.As(err, &at) && at.Path == f.Name() {
		return nil, atFile("--to", name, err)
	}
	if err != nil {
		return nil, err
	}
	return meta, atFile("--to", name, f.CloseAtomicallyReplace())
}

// copyBackup verifies a backup while copying it, encrypted for the recipients in to if there are any.
func copyBackup(in io.Reader, out io.Writer, to []age.Recipient) (*store.BackupMeta, error) {
	if len(to) == 0 {
		return store.VerifyBackup("the response", io.TeeReader(in, out))
	}
	sealed, err := age.Encrypt(out, to...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	meta, err := store.VerifyBackup("the response", io.TeeReader(in, sealed))
	return meta, errors.Join(err, sealed.Close())
}

// bodyReader remembers why the response body ended early; its readers only see that it did.
type bodyReader struct {
	body  io.Reader
	size  int64
	began time.Time
	limit string
	read  int64
	err   error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.read += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = exit.With(exit.Unreachable, fmt.Errorf("the transfer ended after %s of %s and %s (%w); the hub limits a backup to %s seconds and drops readers that stall",
			terminal.Bytes(b.read), terminal.Bytes(b.size), terminal.Duration(time.Since(b.began).Round(time.Second)), err, terminal.Printable(b.limit)))
	}
	return n, err
}
