package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"quorumhub/durable"
	"quorumhub/hub"
)

// A backup is a tar archive that tar and sha256sum can inspect: meta.json (BackupMeta), the files of a generation under fsm/
// as of one transaction, and SHA256SUMS, which comes last and proves that nothing is missing.
const (
	backupFormat   = 1
	backupMetaFile = "meta.json"
	backupSumsFile = "SHA256SUMS"
	backupFiles    = "fsm/"
	tarBlock       = 512
)

// BackupMeta is a backup's meta.json.
type BackupMeta struct {
	Format       int       `json:"format"`
	FeatureLevel uint32    `json:"feature_level"` // of the cluster: a program with a lower one cannot read its state
	Program      string    `json:"program"`       // version of quorumhub that wrote the backup
	Node         string    `json:"node"`          // from which it was read
	ClusterID    string    `json:"cluster_id"`
	Index        uint64    `json:"index"` // last entry of raft's log it includes
	Term         uint64    `json:"term"`  // of that entry
	StateHash    string    `json:"state_hash"`
	LogTime      time.Time `json:"log_time"` // of that entry, or of the last one before it with a time
	TakenAt      time.Time `json:"taken_at"`
	// Complete: the backup includes everything that any node acknowledged before TakenAt. Otherwise the node had no leader,
	// and the backup includes only what the node had.
	Complete bool `json:"complete"`
	// SecretsKey names the sealing key in use when the backup was taken, SecretsKeys all keys that sealed secrets in it. The
	// keys themselves are not included.
	SecretsKey  string         `json:"secrets_key,omitempty"`
	SecretsKeys []string       `json:"secrets_keys,omitempty"`
	Files       []manifestFile `json:"files"`
}

// BackupInfo is what the caller of Backup contributes to BackupMeta.
type BackupInfo struct {
	Program, Node, SecretsKey string
	// SecretsKeys is called once the content is fixed. It returns the keys that its secrets may be sealed with. nil:
	// SecretsKey alone.
	SecretsKeys func() []string
	TakenAt     time.Time
	Complete    bool
}

// Backup is a backup being read from a store. Its pages are not reused until Close.
type Backup struct {
	Meta BackupMeta
	Size int64 // exact number of bytes that WriteTo writes
	snap *Snapshot
	head []byte // meta.json
}

// Backup begins a backup of what is durable. Ending ctx aborts it.
func (s *Store) Backup(ctx context.Context, info BackupInfo) (_ *Backup, err error) {
	snap, err := s.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, snap.Close())
		}
	}()
	m, err := readManifest(snap)
	if err != nil {
		return nil, err
	}
	b := &Backup{snap: snap, Meta: BackupMeta{
		Format: backupFormat, FeatureLevel: max(snap.Level, 1), Program: info.Program, Node: info.Node, ClusterID: snap.ClusterID,
		Index: snap.Position.Index, Term: snap.Position.Term, StateHash: fmt.Sprintf("%016x", snap.StateHash), LogTime: snap.LogTime.UTC(),
		TakenAt: info.TakenAt.UTC(), Complete: info.Complete, SecretsKey: info.SecretsKey, Files: m.Files,
	}}
	if info.SecretsKeys != nil {
		keys := info.SecretsKeys()
		slices.Sort(keys)
		b.Meta.SecretsKeys = slices.Compact(keys)
	}
	if b.head, err = json.MarshalIndent(&b.Meta, "", "  "); err != nil {
		return nil, fmt.Errorf("encode %s: %w", backupMetaFile, err)
	}
	b.head = append(b.head, '\n')
	padded := func(n int64) int64 { return tarBlock + (n+tarBlock-1)/tarBlock*tarBlock }
	sums := sumLine("", backupMetaFile)
	b.Size = padded(int64(len(b.head)))
	for _, f := range m.Files {
		b.Size += padded(f.Size)
		sums += sumLine("", backupFiles+f.Name)
	}
	b.Size += padded(int64(len(sums))) + 2*tarBlock
	return b, nil
}

// sumLine returns a line of SHA256SUMS, as sha256sum writes and checks it. An empty sum is replaced by zeros.
func sumLine(sum, name string) string {
	if sum == "" {
		sum = strings.Repeat("0", 2*sha256.Size)
	}
	return sum + "  " + name + "\n"
}

// Close ends the backup and releases its files.
func (b *Backup) Close() error { return b.snap.Close() }

// WriteTo implements io.WriterTo. It may be called once.
func (b *Backup) WriteTo(w io.Writer) (int64, error) {
	out := &counter{w: w}
	archive := tar.NewWriter(out)
	var sums strings.Builder
	add := func(name string, size int64, copy func(io.Writer) error) error {
		// The GNU format allows sizes above 8 GiB in the same header.
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: b.Meta.TakenAt.Truncate(time.Second), Format: tar.FormatGNU}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		sum := sha256.New()
		if err := copy(io.MultiWriter(archive, sum)); err != nil {
			return err
		}
		sums.WriteString(sumLine(hex.EncodeToString(sum.Sum(nil)), name))
		return nil
	}
	err := add(backupMetaFile, int64(len(b.head)), func(w io.Writer) error { _, err := w.Write(b.head); return err })
	for _, f := range b.Meta.Files {
		if err == nil {
			err = add(backupFiles+f.Name, f.Size, func(w io.Writer) error { return copyFile(w, b.snap, f) })
		}
	}
	if err == nil {
		text := sums.String()
		err = add(backupSumsFile, int64(len(text)), func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
	}
	if err == nil {
		err = archive.Close()
	}
	if err != nil {
		return out.n, fmt.Errorf("write backup: %w", err)
	}
	return out.n, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// VerifyBackup reads a backup to its end and checks that it is complete and unchanged. name is for messages. A bad backup is a
// *CorruptError.
func VerifyBackup(name string, r io.Reader) (*BackupMeta, error) {
	return readBackup(name, r, func(string) (io.WriteCloser, error) { return discard{io.Discard}, nil })
}

type discard struct{ io.Writer }

func (discard) Close() error { return nil }

// backupProblem returns an error about a bad backup.
func backupProblem(name string, err error, format string, args ...any) error {
	c := &CorruptError{File: name, Problem: fmt.Sprintf(format, args...), Hint: "take another backup, or use an older one"}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		c.Problem += ": it is truncated"
		return c
	}
	if err != nil {
		c.Problem += ": " + err.Error()
	}
	return c
}

// readBackup reads a backup to its end and writes each file to what create returns for it.
func readBackup(name string, r io.Reader, create func(file string) (io.WriteCloser, error)) (*BackupMeta, error) {
	archive := tar.NewReader(r)
	next := func(want string, limit int64) (int64, error) {
		h, err := archive.Next()
		if err != nil {
			return 0, backupProblem(name, err, "not a complete quorumhub backup: reading %s", want)
		}
		if h.Typeflag != tar.TypeReg || h.Name != want || limit > 0 && h.Size > limit {
			return 0, backupProblem(name, nil, "not a quorumhub backup: found %q of %d bytes, expected %s", h.Name, h.Size, want)
		}
		return h.Size, nil
	}
	var sums strings.Builder
	read := func(file string, size int64, w io.Writer) error {
		sum := sha256.New()
		if _, err := io.CopyN(io.MultiWriter(w, sum), archive, size); err != nil {
			return backupProblem(name, err, "reading %s", file)
		}
		sums.WriteString(sumLine(hex.EncodeToString(sum.Sum(nil)), file))
		return nil
	}
	var head bytes.Buffer
	size, err := next(backupMetaFile, manifestMaxBytes)
	if err == nil {
		err = read(backupMetaFile, size, &head)
	}
	if err != nil {
		return nil, err
	}
	m := new(BackupMeta)
	if err := json.Unmarshal(head.Bytes(), m); err != nil {
		return nil, backupProblem(name, err, "%s is damaged", backupMetaFile)
	}
	if err := m.check(name); err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		size, err := next(backupFiles+f.Name, 0)
		if err != nil {
			return nil, err
		}
		if size != f.Size {
			return nil, backupProblem(name, nil, "%s has %d bytes, but %d according to %s", f.Name, size, f.Size, backupMetaFile)
		}
		w, err := create(f.Name)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(read(backupFiles+f.Name, size, w), w.Close()); err != nil {
			return nil, err
		}
	}
	want := sums.String()
	var got bytes.Buffer
	if size, err = next(backupSumsFile, manifestMaxBytes); err == nil {
		err = read(backupSumsFile, size, &got)
	}
	if err != nil {
		return nil, err
	}
	if got.String() != want {
		return nil, backupProblem(name, nil, "%s", differs(got.String(), want))
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		return nil, backupProblem(name, nil, "unexpected data after %s", backupSumsFile)
	}
	// The underlying reader may notice only at its own end that it was cut off.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, backupProblem(name, err, "reading its end")
	}
	return m, nil
}

// differs describes the first difference between two SHA256SUMS.
func differs(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range w {
		if i >= len(g) || g[i] != w[i] {
			_, file, _ := strings.Cut(w[i], "  ")
			if file == "" {
				break
			}
			return file + " does not match its checksum in " + backupSumsFile
		}
	}
	return backupSumsFile + " does not list exactly the files in the backup"
}

func (m *BackupMeta) check(name string) error {
	switch {
	case m.Format != backupFormat:
		return fmt.Errorf("%s has backup format %d, but this program supports format %d; use the version of quorumhub that wrote it, %s", name, m.Format, backupFormat, m.Program)
	case m.FeatureLevel > hub.FeatureLevel:
		return fmt.Errorf("%s has feature level %d, but this program supports level %d; use the version of quorumhub that wrote it, %s", name, m.FeatureLevel, hub.FeatureLevel, m.Program)
	case m.ClusterID == "" || m.Index == 0:
		return backupProblem(name, nil, "it belongs to no cluster")
	}
	manifest := manifest{Format: formatVersion, Files: m.Files}
	if err := manifest.check(); err != nil {
		return backupProblem(name, nil, "%s lists files that do not belong to a store", backupMetaFile)
	}
	return nil
}

// Extract creates a store from a backup in dir, which must be empty or not exist. It verifies the backup, opens its files and
// checks all rows; only then does the store get a current generation. name is for messages.
func Extract(name string, r io.Reader, dir string) (*BackupMeta, error) {
	const number = 1
	o := Options{Dir: dir}.withDefaults()
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return nil, errors.Join(fmt.Errorf("%s is not empty", dir), err)
	}
	tmp := filepath.Join(dir, tmpPrefix+generationName(number))
	if err := makeGenerationDir(tmp); err != nil {
		return nil, err
	}
	m, err := readBackup(name, r, func(file string) (io.WriteCloser, error) {
		f, err := os.OpenFile(filepath.Join(tmp, filepath.FromSlash(path.Clean(file))), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		return syncedFile{f}, nil
	})
	if err != nil {
		return nil, err
	}
	if err := durable.SyncDir(filepath.Join(tmp, logDir)); err != nil {
		return nil, err
	}
	gen, content, err := o.openGeneration(tmp, number)
	if err != nil {
		return nil, err
	}
	pos, hash, cluster := gen.meta.position, content.state.Hash(), content.state.ClusterID()
	if err := gen.release(content.segments); err != nil {
		return nil, err
	}
	if pos.Index != m.Index || pos.Term != m.Term || fmt.Sprintf("%016x", hash) != m.StateHash || cluster != m.ClusterID {
		return nil, backupProblem(name, nil, "%s is for entry %d of cluster %s, but its files are at entry %d of cluster %s", backupMetaFile, m.Index, m.ClusterID, pos.Index, cluster)
	}
	return m, o.makeCurrent(tmp, number)
}

// syncedFile is a file that Close makes durable.
type syncedFile struct{ *os.File }

func (f syncedFile) Close() error { return errors.Join(f.Sync(), f.File.Close()) }
