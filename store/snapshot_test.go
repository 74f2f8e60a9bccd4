package store_test

import (
	"bytes"
	"io"
	"testing"

	"quorumhub/store"
)

// snapshot takes a snapshot and reads all of it.
func snapshot(t testing.TB, s *store.Store) []byte {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	b, err := io.ReadAll(snap)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != snap.Size {
		t.Fatalf("snapshot of %d bytes, announced %d", len(b), snap.Size)
	}
	return b
}

func receive(t testing.TB, s *store.Store, stream []byte) *store.Incoming {
	t.Helper()
	in, err := s.Receive(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	return in
}
