package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"quorumhub/durable"
)

// Incoming is a received snapshot, verified and durable in a generation of its own that is not current yet. One goroutine
// installs or discards it.
type Incoming struct {
	Position  Position
	ClusterID string

	store   *Store
	gen     *generation
	content *content
}

// Receive writes a snapshot stream to a generation of its own and verifies it: lengths, checksums, rows, and that no message
// is missing. A bad stream is a *CorruptError and leaves nothing behind. Receive does not read beyond the snapshot.
func (s *Store) Receive(r io.Reader) (*Incoming, error) {
	s.mu.Lock()
	s.lastGen++
	number := s.lastGen
	s.mu.Unlock()
	dir := filepath.Join(s.opts.Dir, tmpPrefix+generationName(number))
	in, err := s.opts.receive(r, dir, number)
	if err != nil {
		if rmErr := os.RemoveAll(dir); rmErr != nil {
			s.opts.Logger.Warn("cannot delete a rejected snapshot; it is deleted at the next start", "error", rmErr)
		}
		return nil, fmt.Errorf("receive snapshot: %w", err)
	}
	in.store = s
	return in, nil
}

func (o *Options) receive(r io.Reader, dir string, number uint64) (*Incoming, error) {
	m, err := readManifest(r)
	if err != nil {
		return nil, err
	}
	if err := makeGenerationDir(dir); err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		if err := receiveFile(r, filepath.Join(dir, filepath.FromSlash(path.Clean(f.Name))), f); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{filepath.Join(dir, logDir), dir} {
		if err := durable.SyncDir(d); err != nil {
			return nil, err
		}
	}
	gen, content, err := o.openGeneration(dir, number)
	if err != nil {
		return nil, err
	}
	if p := gen.meta.position; p.Index != m.Position.Index || p.Term != m.Position.Term || p.ConfigurationIndex != m.Position.ConfigurationIndex {
		return nil, errors.Join(streamError(fmt.Sprintf("the manifest is for index %d, but the files are at index %d", m.Position.Index, p.Index), nil), gen.release(content.segments))
	}
	return &Incoming{Position: gen.meta.position, ClusterID: content.state.ClusterID(), gen: gen, content: content}, nil
}

func makeGenerationDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(dir, logDir), 0o700)
}

func receiveFile(r io.Reader, name string, f manifestFile) error {
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = copyFile(w, r, f)
	return errors.Join(err, w.Sync(), w.Close())
}

// Discard deletes what was received. It does nothing after Install.
func (in *Incoming) Discard() error {
	if in.gen == nil {
		return nil
	}
	gen, content := in.gen, in.content
	in.gen, in.content = nil, nil
	gen.removed.Store(true)
	return gen.release(content.segments)
}
