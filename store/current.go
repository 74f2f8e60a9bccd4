package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"quorumhub/durable"
)

const (
	currentFile = "CURRENT"
	genPrefix   = "gen-"
	// tmpPrefix marks generations under construction. Unless one is being written it may be deleted.
	tmpPrefix = "new-"
)

func generationName(number uint64) string { return genPrefix + strconv.FormatUint(number, 10) }

func parseGenerationName(name string) (uint64, bool) {
	s, ok := strings.CutPrefix(name, genPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n > 0 && generationName(n) == name
}

func currentLine(number uint64) string {
	name := generationName(number)
	return fmt.Sprintf("%s %08x\n", name, crc32.Checksum([]byte(name), crc32.MakeTable(crc32.Castagnoli)))
}

// readCurrent returns the number of the current generation, or os.ErrNotExist if CURRENT is missing.
func readCurrent(dir string) (uint64, error) {
	path := filepath.Join(dir, currentFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	name, _, _ := strings.Cut(string(b), " ")
	number, ok := parseGenerationName(name)
	if !ok || string(b) != currentLine(number) {
		return 0, corrupt(path, "the file does not name a generation in the form %q", strings.TrimSuffix(currentLine(1), "\n"))
	}
	return number, nil
}

// writeCurrent atomically and durably makes a generation current.
func writeCurrent(dir string, number uint64) error {
	tmp := filepath.Join(dir, currentFile+".tmp")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(currentLine(number))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, currentFile)); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// sweep removes leftovers of a crash: all generations but the current one.
func sweep(dir string, current uint64) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		number, ok := parseGenerationName(e.Name())
		if (ok && number != current) || strings.HasPrefix(e.Name(), tmpPrefix) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
