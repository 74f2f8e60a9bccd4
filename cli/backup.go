package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/google/renameio/v2"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
	"quorumhub/store"
)

type backupCmd struct {
	hubFlags
	To             string   `help:"The file to write, with mode 0600; it must not exist. - is standard output. The default is quorumhub-backup-<time>.tar in the working directory." placeholder:"FILE"`
	Recipient      []string `short:"r" help:"Encrypt for a public key of age (age1...) or ssh (ssh-ed25519 ...). May be repeated." placeholder:"KEY"`
	PassphraseFile string   `help:"Encrypt with a passphrase, the first line of this file." placeholder:"FILE"`
}

// Help is the longer text of --help.
func (*backupCmd) Help() string {
	return "Any running node will do. The backup is consistent: topics, messages, subscriptions and cursors as of one moment, with everything acknowledged before the command began. " +
		"The node serves meanwhile. It is a tar archive with meta.json, the files and SHA256SUMS; --recipient or --passphrase-file encrypt it on this side.\n\n" +
		"The messages are in it as they were published, so encrypt it or keep it where only you can read it. The subscribers' secrets are in it as they are in the files: sealed. THE KEY THAT OPENS THEM IS NOT IN IT. Keep a copy of the nodes' secrets.key " +
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
		return errors.Join(exit.Usagef("--to: %s exists, and is not overwritten", c.To), err)
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
		fmt.Fprintf(s.Err, "warning: %s had no leader, so what other nodes acknowledged last may not be in this backup\n", meta.Node)
	}
	say := s.Out
	if c.To == "-" {
		say = s.Err
	}
	_, err = fmt.Fprintf(say, "%s: %d bytes read from %s, cluster %s up to entry %d, %s; keep the key file %s apart from it\n", c.To, in.read, meta.Node,
		meta.ClusterID, meta.Index, moment(meta.LogTime), meta.SecretsKey)
	return err
}

// writeBackup writes a backup to a file that is there when it is whole, and not before.
func writeBackup(in io.Reader, name string, to []age.Recipient) (_ *store.BackupMeta, err error) {
	f, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o600), renameio.WithTempDir(filepath.Dir(name)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	meta, err := copyBackup(in, f, to)
	if err != nil {
		return nil, err
	}
	return meta, f.CloseAtomicallyReplace()
}

// copyBackup checks a backup while it copies it, encrypted for those in to if there are any.
func copyBackup(in io.Reader, out io.Writer, to []age.Recipient) (*store.BackupMeta, error) {
	if len(to) == 0 {
		return store.VerifyBackup("the answer", io.TeeReader(in, out))
	}
	sealed, err := age.Encrypt(out, to...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	meta, err := store.VerifyBackup("the answer", io.TeeReader(in, sealed))
	return meta, errors.Join(err, sealed.Close())
}

// bodyReader keeps why the answer ended early: what reads it only sees that it did.
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
		b.err = exit.With(exit.Unreachable, fmt.Errorf("the hub ended the transfer after %d of %d bytes and %v (%w); it allows a reader %s seconds, and none that stalls",
			b.read, b.size, time.Since(b.began).Round(time.Second), err, terminal.Printable(b.limit)))
	}
	return n, err
}
