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

// A snapshot stream consists of: magic; length (8 bytes, big endian) of the manifest; the manifest (JSON); its XXH64; then for
// each file of the manifest, in order, its bytes and their XXH64. Sums are 8 bytes, big endian.
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

// header returns the part of the stream before the files.
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

// size returns the length of the whole stream.
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
		return nil, streamError("its header cannot be read", err)
	}
	if string(head[:len(streamMagic)]) != streamMagic {
		return nil, streamError("it does not start like a snapshot of this program's version", nil)
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

// check refuses names that do not belong to a generation: the stream is untrusted.
func (m *manifest) check() error {
	if m.Format != formatVersion {
		return streamError(fmt.Sprintf("it has format version %d, but this program supports version %d", m.Format, formatVersion), nil)
	}
	if len(m.Files) == 0 || m.Files[0].Name != stateFile {
		return streamError("it does not start with "+stateFile, nil)
	}
	var names []string
	for i, f := range m.Files {
		dir, base := path.Split(f.Name)
		_, isSegment := parseSegmentName(base)
		if i > 0 && (dir != logDir+"/" || !isSegment) || f.Size <= 0 || slices.Contains(names, f.Name) {
			return streamError(fmt.Sprintf("its manifest lists an invalid file %q of %d bytes", f.Name, f.Size), nil)
		}
		names = append(names, f.Name)
	}
	return nil
}

func streamError(problem string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		problem, err = problem+", it is truncated", nil
	}
	c := &CorruptError{File: "snapshot", Problem: problem, Hint: "take or send the snapshot again"}
	if err != nil {
		return fmt.Errorf("%w: %w", c, err)
	}
	return c
}

// copyFile copies a file's bytes from r to w, then reads and verifies the sum that follows.
func copyFile(w io.Writer, r io.Reader, f manifestFile) error {
	var sum hash.Hash64 = xxhash.New()
	if n, err := io.CopyN(io.MultiWriter(w, sum), r, f.Size); err != nil {
		if n < f.Size && errors.Is(err, io.EOF) {
			return streamError("reading "+f.Name, err)
		}
		return fmt.Errorf("copy %s: %w", f.Name, err)
	}
	var want [streamSumSize]byte
	if _, err := io.ReadFull(r, want[:]); err != nil {
		return streamError("reading the checksum of "+f.Name, err)
	}
	if sum.Sum64() != binary.BigEndian.Uint64(want[:]) {
		return streamError(f.Name+" does not match its checksum", nil)
	}
	return nil
}
