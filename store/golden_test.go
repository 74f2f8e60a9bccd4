package store_test

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/hub"
)

var update = flag.Bool("update", false, "write missing golden files")

// A snapshot stream of format 1, as sent by the first version, can still be received and installed. To recreate the file
// before the first release, delete it and run go test ./store -run Golden -update.
func TestGoldenSnapshot(t *testing.T) {
	file := filepath.Join("testdata", "golden", "snapshot-1.gz")
	want := golden{index: 6, term: 1, heads: map[string]uint64{"a": 3, "b": 1}}
	if _, err := os.Stat(file); os.IsNotExist(err) && *update {
		writeGolden(t, file)
	}
	packed, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	s := contentOf(t, stream)
	if p := s.Applied(); p.Index != want.index || p.Term != want.term {
		t.Errorf("the snapshot is at %d in term %d, want %d in term %d", p.Index, p.Term, want.index, want.term)
	}
	s.View(func(st *hub.State) {
		if subs := st.Counts().Subscriptions; subs != 1 {
			t.Errorf("%d subscriptions, want 1", subs)
		}
	})
	for name, head := range want.heads {
		var topic hub.Topic
		s.View(func(st *hub.State) { topic, _ = st.TopicByName(name) })
		if topic.Head != head {
			t.Errorf("topic %s has %d messages, want %d", name, topic.Head, head)
			continue
		}
		messages, err := s.Read(topic.ID, 1, 10, 1<<20)
		if err != nil || uint64(len(messages)) != head {
			t.Errorf("topic %s: %d messages (%v), want %d", name, len(messages), err, head)
		}
		for i, m := range messages {
			if got, want := string(m.Body), fmt.Sprintf("%s %d", name, i+1); got != want || m.ContentType != "text/plain" {
				t.Errorf("message %s is %q of type %s, want %q", m.ID(), got, m.ContentType, want)
			}
		}
	}
}

type golden struct {
	index, term uint64
	heads       map[string]uint64
}

func writeGolden(t *testing.T, file string) {
	t.Helper()
	s := open(t, slow(t.TempDir()))
	w := newWriter()
	for _, text := range []string{"a 1", "a 2", "b 1", "a 3"} {
		topic, _, _ := strings.Cut(text, " ")
		apply(t, s, w.entry(t, publish(topic, []byte(text))))
	}
	apply(t, s, w.entry(t, request("a", "http://a.example/")), w.entry(t, verified(1, 0, w.now)))
	flush(t, s)
	var packed bytes.Buffer
	to := gzip.NewWriter(&packed)
	if _, err := to.Write(snapshot(t, s)); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
