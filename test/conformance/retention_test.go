package conformance_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"quorumhub/test/hubtest"
)

// A small retention.max_bytes is kept to while messages come in, not an hour later.
func TestASmallLogStaysSmall(t *testing.T) {
	t.Parallel()
	const limit = 5 << 20
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"retention.max_bytes": "5MiB"}})
	topic := newTopic(t, n)
	used := func() (bytes int64) {
		err := filepath.WalkDir(filepath.Join(n.DataDir, "fsm"), func(path string, d fs.DirEntry, err error) error {
			if err == nil && filepath.Base(filepath.Dir(path)) == "log" {
				if info, err := d.Info(); err == nil { // it may have been dropped meanwhile
					bytes += info.Size()
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	for i := range 60 {
		n.Publish(t, topic, "text/plain", bytes.Repeat([]byte{'a' + byte(i%26)}, 1_000_000))
		if i%5 < 4 {
			continue
		}
		hubtest.Eventually(t, fmt.Sprintf("the log shrinks to its limit after %d messages", i+1), func() error {
			if got := used(); got > limit*3/2 {
				return fmt.Errorf("%d bytes", got)
			}
			return nil
		})
	}
	if got := used(); got < limit/2 {
		t.Errorf("only %d bytes are left, the limit is %d", got, limit)
	}
}
