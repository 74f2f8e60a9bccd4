package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/cli"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/raftlog"
	"quorumhub/store"
)

// stoppedNode creates the files of a node with n messages.
func stoppedNode(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(store.Options{Dir: filepath.Join(dir, "fsm")})
	if err != nil {
		t.Fatal(err)
	}
	node, err := raftlog.Open(t.Context(), raftlog.Options{ID: "node-1", Dir: dir, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		ev := &hubpb.MessagePublished{Topic: "news", ContentType: "text/plain", Body: []byte("a body that is easy to find"), AutoRegister: true}
		res, err := node.Propose(t.Context(), &hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: ev}})
		if err != nil || res[0].Outcome != hub.OutcomeOK {
			t.Fatal(res, err)
		}
	}
	if err := node.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func inspect(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Run(t.Context(), append([]string{"inspect"}, args...), cli.Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return code, stdout.String(), stderr.String()
}

func TestInspectSaysWhatAStoppedNodeHolds(t *testing.T) {
	dir := stoppedNode(t, 3)
	code, out, errs := inspect(t, dir)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	for _, want := range []string{"node-1", "3 message_published", "news", "All checksums match."} {
		if !strings.Contains(out, want) {
			t.Errorf("the report lacks %q:\n%s", want, out)
		}
	}
	code, out, _ = inspect(t, "--json", dir)
	var report struct {
		Node   string
		Topics []struct {
			Name string
			Head uint64 `json:"head_offset"`
		}
		Problems []string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	if report.Node != "node-1" || len(report.Topics) != 1 || report.Topics[0].Head != 3 || report.Problems == nil || len(report.Problems) > 0 {
		t.Errorf("report %+v", report)
	}
}

func TestInspectFindsAFlippedBit(t *testing.T) {
	for name, file := range map[string]string{"log": "raft.db", "segment": "fsm/gen-1/log/1.db"} {
		t.Run(name, func(t *testing.T) {
			dir := stoppedNode(t, 1)
			path := filepath.Join(dir, file)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.LastIndex(data, []byte("a body that is easy to find"))
			if at < 0 {
				t.Fatal("the message is not in the file")
			}
			for ; at >= 0; at = bytes.LastIndex(data[:at], []byte("a body that is easy to find")) {
				data[at] ^= 1
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			code, out, errs := inspect(t, dir)
			if code == 0 || !strings.Contains(out, "PROBLEM") || !strings.Contains(out, filepath.Base(path)) {
				t.Errorf("exit code %d, report:\n%s%s", code, out, errs)
			}
		})
	}
}

func TestInspectOfNothing(t *testing.T) {
	dir := t.TempDir()
	code, _, errs := inspect(t, dir)
	if code == 0 || !strings.Contains(errs, dir) {
		t.Errorf("exit code %d, %q: expected the directory to be named", code, errs)
	}
}
