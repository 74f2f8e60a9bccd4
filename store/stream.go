package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A snapshot stream is: magic; length (8 bytes, big endian) of the manifest; the manifest (JSON); its
// XXH64; then for each file of the manifest, in order, its bytes and their XXH64. Sums are 8 bytes, big endian.
const (
	streamMagic      = "quorumhub snapshot 1\n"
	manifestMaxBytes = 64 << 20
	streamSumSize    = 8
)

type manifest struct {
	Format    int            `json:"format"`
	ClusterID string         `json:"cluster_id"`
	Position  Position       `json:"position"`
	Files     []manifestFile `json:"files"`
}

type manifestFile struct {
	Name string `json:"name"` // slash separated, below the generation's directory
	Size int64  `json:"size"`
}

// header is the part of the stream before the files.
func (m *manifest) header() ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot manifest: %w", err)
	}
	out := append([]byte(nil), streamMagic...)
	out = binary.BigEndian.AppendUint64(out, uint64(len(body)))
	out = append(out, body...)
	return binary.BigEndian.AppendUint64(out, xxhash.Sum64(body)), nil
}

// size is the length of the whole stream.
func (m *manifest) size(header []byte) int64 {
	n := int64(len(header))
	for _, f := range m.Files {
		n += f.Size + streamSumSize
	}
	return n
}

func readManifest(r io.Reader) (*manifest, error) {
	head := make([]byte, len(streamMagic)+8)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, streamError("its start cannot be read", err)
	}
	if string(head[:len(streamMagic)]) != streamMagic {
		return nil, streamError("it does not begin like a snapshot of this program's version", nil)
	}
	size := binary.BigEndian.Uint64(head[len(streamMagic):])
	if size > manifestMaxBytes {
		return nil, streamError(fmt.Sprintf("its manifest claims to have %d bytes", size), nil)
	}
	body := make([]byte, size+streamSumSize)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, streamError("its manifest cannot be read", err)
	}
	body, sum := body[:size], body[size:]
	if xxhash.Sum64(body) != binary.BigEndian.Uint64(sum) {
		return nil, streamError("its manifest does not match its checksum", nil)
	}
	m := new(manifest)
	if err := json.Unmarshal(body, m); err != nil {
		return nil, streamError("its manifest is damaged", err)
	}
	return m, m.check()
}

// check refuses names that are none of a generation's files: the stream comes from outside.
func (m *manifest) check() error {
	if m.Format != formatVersion {
		return streamError(fmt.Sprintf("it has format version %d, this program knows version %d", m.Format, formatVersion), nil)
	}
	if len(m.Files) == 0 || m.Files[0].Name != stateFile {
		return streamError("it does not begin with "+stateFile, nil)
	}
	var names []string
	for i, f := range m.Files {
		dir, base := path.Split(f.Name)
		_, isSegment := parseSegmentName(base)
		if i > 0 && (dir != logDir+"/" || !isSegment) || f.Size <= 0 || slices.Contains(names, f.Name) {
			return streamError(fmt.Sprintf("its manifest names the file %q of %d bytes", f.Name, f.Size), nil)
		}
		names = append(names, f.Name)
	}
	return nil
}

func streamError(problem string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		problem, err = problem+", it ends too early", nil
	}
	c := &CorruptError{File: "snapshot", Problem: problem, Hint: "take or send it again"}
	if err != nil {
		return fmt.Errorf("%w: %w", c, err)
	}
	return c
}

// copyFile copies size bytes and the sum behind them from r to w, and checks the sum.
func copyFile(w io.Writer, r io.Reader, f manifestFile) error {
	var sum hash.Hash64 = xxhash.New()
	if n, err := io.CopyN(io.MultiWriter(w, sum), r, f.Size); err != nil {
		if n < f.Size && errors.Is(err, io.EOF) {
			return streamError("in "+f.Name, err)
		}
		return fmt.Errorf("copy %s: %w", f.Name, err)
	}
	var want [streamSumSize]byte
	if _, err := io.ReadFull(r, want[:]); err != nil {
		return streamError("behind "+f.Name, err)
	}
	if sum.Sum64() != binary.BigEndian.Uint64(want[:]) {
		return streamError(f.Name+" does not match its checksum", nil)
	}
	return nil
}
