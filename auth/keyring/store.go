package keyring

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode"

	"quorumhub/durable"
)

// Store is a Ring and the place its keys are kept: a file, which the Store changes on request, or the configuration, which only
// an operator changes. Safe for concurrent use, also by several processes that share the file.
type Store struct {
	path  string   // empty: the keys are from the configuration
	fixed []string // IDs of the keys in the configuration
	ring  *Ring
	mu    sync.Mutex // serialises changes of the file
}

const keyFileHead = "# Sealing keys, which encrypt subscribers' secrets; the first one seals. Keep them: without them nothing can be signed.\n"

// ErrFixed means that the keys are from the configuration, so that the program cannot change them.
var ErrFixed = errors.New("its keys are from the configuration (secrets.key, QUORUMHUB_SECRETS_KEY), which only an operator changes")

// Open reads a key file: one base64 key of 32 bytes a line, the one that seals first; empty lines and lines that begin with #
// are skipped. With create, a missing file is created with one random key, readable by the owner only. Errors name the file and
// the line, and never show a key.
func Open(path string, create bool) (*Store, error) {
	lines, err := readKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err = createKeyFile(path); err == nil {
			lines, err = readKeyFile(path)
		}
	}
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, l := range lines {
		if l.key != nil {
			keys = append(keys, l.key.raw)
		}
	}
	ring, err := New(keys...)
	if err != nil {
		return nil, fmt.Errorf("secrets.key_file %s: %w", path, err)
	}
	return &Store{path: path, ring: ring}, nil
}

// Fixed makes a Store of keys from the configuration: base64, separated by commas or spaces, the one that seals first.
func Fixed(text string) (*Store, error) {
	var keys [][]byte
	for i, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }) {
		raw, err := base64.StdEncoding.DecodeString(word)
		if err != nil || len(raw) != keyBytes {
			return nil, fmt.Errorf("secrets.key: key %d: expected base64 of %d bytes", i+1, keyBytes)
		}
		keys = append(keys, raw)
	}
	ring, err := New(keys...)
	if err != nil {
		return nil, fmt.Errorf("secrets.key: %w", err)
	}
	return &Store{ring: ring, fixed: ring.IDs()}, nil
}

// Ring returns the keys to seal and open with.
func (s *Store) Ring() *Ring { return s.ring }

// Fixed reports whether the keys are from the configuration.
func (s *Store) Fixed() bool { return s.path == "" }

// Where names the place of the keys, for messages.
func (s *Store) Where() string {
	if s.Fixed() {
		return "secrets.key"
	}
	return "secrets.key_file " + s.path
}

// Kept returns the IDs of the keys that the next start of the process will find, in order. Keys added to the file by hand open
// from now on.
func (s *Store) Kept() ([]string, error) {
	if s.Fixed() {
		return slices.Clone(s.fixed), nil // also those that the ring has dropped
	}
	lines, err := readKeyFile(s.path)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, l := range lines {
		if l.key != nil {
			ids = append(ids, l.key.id)
			s.ring.add(*l.key)
		}
	}
	return ids, nil
}

// Add adds a key that opens. It is durable when Add returns.
func (s *Store) Add(raw []byte) error {
	key, err := newSealingKey(raw)
	if err != nil {
		return fmt.Errorf("the key %w", err)
	}
	err = s.change(func(lines []keyLine) []keyLine {
		if slices.ContainsFunc(lines, func(l keyLine) bool { return l.is(key.id) }) {
			return lines
		}
		return append(lines, keyLine{base64.StdEncoding.EncodeToString(raw), &key})
	})
	if err == nil {
		s.ring.add(key)
	}
	return err
}

// Prefer makes one of the keys the one that seals, at once in memory, and moves it to the front of the file.
func (s *Store) Prefer(id string) error {
	s.ring.prefer(id)
	if s.Fixed() {
		return nil
	}
	return s.change(func(lines []keyLine) []keyLine {
		first := slices.IndexFunc(lines, func(l keyLine) bool { return l.key != nil })
		at := slices.IndexFunc(lines, func(l keyLine) bool { return l.is(id) })
		if first < 0 || at <= first {
			return lines
		}
		l := lines[at]
		return slices.Insert(slices.Delete(lines, at, at+1), first, l)
	})
}

// Remove removes a key, unless it is the one that seals. A key from the configuration is back after the next start, and Remove
// returns ErrFixed.
func (s *Store) Remove(id string) error {
	err := s.change(func(lines []keyLine) []keyLine {
		return slices.DeleteFunc(lines, func(l keyLine) bool { return l.is(id) })
	})
	if err == nil || errors.Is(err, ErrFixed) {
		s.ring.remove(id)
	}
	return err
}

// change rewrites the file if f changes anything. A lock keeps other processes out.
func (s *Store) change(f func([]keyLine) []keyLine) error {
	if s.Fixed() {
		return ErrFixed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return fmt.Errorf("secrets.key_file: %w", err)
	}
	unlock, err := durable.LockDir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("secrets.key_file: %w", err)
	}
	defer unlock()
	lines, err := readKeyFile(path)
	if err != nil {
		return err
	}
	before := keyFileText(lines)
	after := keyFileText(f(lines))
	if after == before {
		return nil
	}
	err = replace(path, after)
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("cannot write secrets.key_file; change it by hand (see quorumhub keys rotate --help): %w", err)
	}
	return nil
}

// keyLine is a line of a key file. key is nil for comments and empty lines.
type keyLine struct {
	text string
	key  *sealingKey
}

func (l keyLine) is(id string) bool { return l.key != nil && l.key.id == id }

func keyFileText(lines []keyLine) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return b.String()
}

func readKeyFile(path string) ([]keyLine, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("secrets.key_file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("secrets.key_file: %w", err)
	}
	// The group may read it, for keys that root keeps for a service; a file system without such modes shows all bits.
	if info.Mode().Perm()&0o037 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("secrets.key_file %s: mode %04o lets others read it; expected 0600, or 0640 (chmod 600)", path, info.Mode().Perm())
	}
	if info.Size() > maxKeyFileBytes {
		return nil, fmt.Errorf("secrets.key_file %s has %d bytes; expected one base64 key of %d bytes a line", path, info.Size(), keyBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("secrets.key_file %s: %w", path, err)
	}
	var lines []keyLine
	keys := 0
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, "#") {
			lines = append(lines, keyLine{text: text})
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(text)
		var key sealingKey
		if err == nil {
			key, err = newSealingKey(raw)
		}
		if err != nil {
			return nil, fmt.Errorf("secrets.key_file %s line %d: expected one base64 key of %d bytes", path, i+1, keyBytes)
		}
		lines = append(lines, keyLine{text, &key})
		keys++
	}
	if keys == 0 {
		return nil, fmt.Errorf("secrets.key_file %s contains no key; expected one base64 key of %d bytes a line", path, keyBytes)
	}
	return lines, nil
}

const maxKeyFileBytes = 64 << 10

// replace writes a file as a whole. An error names the file, not the temporary one that is written first.
func replace(path, text string) error {
	err := durable.WriteFile(path, []byte(text), 0o600)
	var at *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &at):
		return fmt.Errorf("%s: %w", path, at.Err)
	case errors.As(err, &link):
		return fmt.Errorf("%s: %w", path, link.Err)
	}
	return err
}

func createKeyFile(path string) error {
	_, key, err := GenerateKey()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("secrets.key_file: %w", err)
	}
	if err := replace(path, keyFileHead+key+"\n"); err != nil {
		return fmt.Errorf("secrets.key_file: %w", err)
	}
	return nil
}
