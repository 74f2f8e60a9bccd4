package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"quorumhub/cli/node"
	"quorumhub/cli/terminal"
	"quorumhub/raftlog"
	"quorumhub/store"
)

type inspectCmd struct {
	DataDir string `arg:"" placeholder:"DIR|FILE" help:"The data_dir of a stopped node, or a backup."`
	JSON    bool   `name:"json" help:"Print JSON."`
	Deep    bool   `help:"Also check every row and message of a backup, which is unpacked to a temporary directory (TMPDIR)."`
	decryptFlags
}

// Run reads a stopped node's files or a backup, verifies every checksum and prints a summary. It changes nothing.
func (c *inspectCmd) Run(s Streams) error {
	if fi, err := os.Stat(c.DataDir); err == nil && fi.Mode().IsRegular() {
		return c.inspectBackup(s)
	}
	log, err := raftlog.Inspect(c.DataDir)
	if err != nil {
		return err
	}
	files, err := store.Inspect(filepath.Join(c.DataDir, node.FSMDir))
	if err != nil {
		return err
	}
	if c.JSON {
		err = writeJSON(s.Out, newInspection(log, files))
	} else {
		err = printInspection(s.Out, log, files)
	}
	if err != nil {
		return err
	}
	if n := len(log.Problems) + len(files.Problems); n > 0 {
		return fmt.Errorf("%s: %d problems found", c.DataDir, n)
	}
	return nil
}

// inspectBackup verifies a whole backup.
func (c *inspectCmd) inspectBackup(s Streams) error {
	file, err := os.Open(c.DataDir)
	if err != nil {
		return err
	}
	defer file.Close()
	in, err := c.open(file)
	if err != nil {
		return err
	}
	var meta *store.BackupMeta
	var deep *store.Report
	if c.Deep {
		meta, deep, err = unpacked(c.DataDir, in)
	} else {
		meta, err = store.VerifyBackup(c.DataDir, in)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = writeJSON(s.Out, meta)
	} else {
		err = printBackup(s.Out, meta, deep)
	}
	if deep != nil && len(deep.Problems) > 0 {
		for _, p := range deep.Problems {
			err = errors.Join(err, p)
		}
		err = errors.Join(err, fmt.Errorf("%s: %d problems found", c.DataDir, len(deep.Problems)))
	}
	return err
}

// unpacked extracts a backup to a temporary directory and checks its files.
func unpacked(name string, in io.Reader) (_ *store.BackupMeta, _ *store.Report, err error) {
	dir, err := os.MkdirTemp("", "quorumhub-inspect-")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fsm := filepath.Join(dir, "fsm")
	meta, err := store.Extract(name, in, fsm)
	if err != nil {
		return nil, nil, err
	}
	report, err := store.Inspect(fsm)
	return meta, report, err
}

func printBackup(w io.Writer, m *store.BackupMeta, deep *store.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }
	line("backup\tformat %d, feature level %d, written by quorumhub %s", m.Format, m.FeatureLevel, terminal.OneLine(m.Program))
	line("taken\t%s from %s", moment(m.TakenAt), terminal.OneLine(m.Node))
	if !m.Complete {
		line("\tthe node had no leader: the last messages that other nodes acknowledged may be missing")
	}
	line("cluster\t%s", terminal.OneLine(m.ClusterID))
	line("state\tas of entry %d of term %d, hash %s, %s", m.Index, m.Term, terminal.OneLine(m.StateHash), moment(m.LogTime))
	keys := m.SecretsKey
	if len(m.SecretsKeys) > 0 {
		keys = strings.Join(m.SecretsKeys, " and ")
	}
	line("secrets\tsealed with key %s, which is not in the backup", terminal.OrDash(keys))
	for _, f := range m.Files {
		line("file\t%s, %s", f.Name, terminal.Bytes(f.Size))
	}
	if deep != nil {
		line("content\t%d topics, %d subscriptions, %d requests, %d dead letters", deep.Counts.Topics, deep.Counts.Subscriptions, deep.Counts.Requests, deep.Counts.DeadLetters)
	}
	if deep == nil || len(deep.Problems) == 0 {
		line("\nAll checksums match.")
	}
	return t.Flush()
}

// inspection is a report as JSON.
type inspection struct {
	Node      string             `json:"node"`
	ClusterID string             `json:"cluster_id"`
	Log       inspectedLog       `json:"log"`
	State     inspectedState     `json:"state"`
	Topics    []inspectedTopic   `json:"topics"`
	Segments  []inspectedSegment `json:"segments"`
	Problems  []string           `json:"problems"`
}

type inspectedLog struct {
	Bytes  int64          `json:"bytes"`
	First  uint64         `json:"first_index"`
	Last   uint64         `json:"last_index"`
	Term   uint64         `json:"term"`
	Newest time.Time      `json:"newest"`
	Events map[string]int `json:"events"`
}

type inspectedState struct {
	Generation    string    `json:"generation"`
	Index         uint64    `json:"index"`
	Term          uint64    `json:"term"`
	Hash          string    `json:"hash"`
	Now           time.Time `json:"now"`
	Bytes         int64     `json:"bytes"`
	Topics        int       `json:"topics"`
	Subscriptions int       `json:"subscriptions"`
	Requests      int       `json:"requests"`
	DeadLetters   int       `json:"dead_letters"`
}

type inspectedTopic struct {
	Name          string `json:"name"`
	First         uint64 `json:"first_offset"`
	Head          uint64 `json:"head_offset"`
	Subscriptions int    `json:"subscriptions"`
}

type inspectedSegment struct {
	File    string    `json:"file"`
	Bytes   int64     `json:"bytes"`
	Records int       `json:"records"`
	Newest  time.Time `json:"newest"`
}

func newInspection(log *raftlog.Report, files *store.Report) inspection {
	in := inspection{
		ClusterID: files.ClusterID,
		Log:       inspectedLog{log.Bytes, log.First, log.Last, log.Term, log.Newest, log.Events},
		State: inspectedState{Generation: files.Generation, Index: files.Position.Index, Term: files.Position.Term,
			Hash: fmt.Sprintf("%016x", files.StateHash), Now: files.Now, Bytes: files.StateFile.Bytes, Topics: files.Counts.Topics,
			Subscriptions: files.Counts.Subscriptions, Requests: files.Counts.Requests, DeadLetters: files.Counts.DeadLetters},
		Topics: []inspectedTopic{}, Segments: []inspectedSegment{}, Problems: []string{},
	}
	if log.Identity != nil {
		in.Node = log.Identity.ID
		if log.Identity.ClusterID != "" { // may be newer than the state's
			in.ClusterID = log.Identity.ClusterID
		}
	}
	for _, t := range files.Topics {
		in.Topics = append(in.Topics, inspectedTopic{t.Name, t.First, t.Head, t.Subscriptions})
	}
	for _, seg := range files.Segments {
		in.Segments = append(in.Segments, inspectedSegment{seg.File, seg.Bytes, seg.Records, seg.Newest})
	}
	for _, p := range slices.Concat(log.Problems, files.Problems) {
		in.Problems = append(in.Problems, p.Error())
	}
	return in
}

func printInspection(w io.Writer, log *raftlog.Report, files *store.Report) error {
	in := newInspection(log, files)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }
	line("node\t%s", terminal.OrDash(in.Node))
	line("cluster\t%s", terminal.OrDash(in.ClusterID))
	line("raft log\t%s, entries %d to %d, term %d, newest %s", terminal.Bytes(in.Log.Bytes), in.Log.First, in.Log.Last, in.Log.Term, moment(in.Log.Newest))
	for _, name := range slices.Sorted(maps.Keys(in.Log.Events)) {
		line("\t%d %s", in.Log.Events[name], name)
	}
	line("state\t%s, %s, as of entry %d of term %d, hash %s, %s", in.State.Generation, terminal.Bytes(in.State.Bytes), in.State.Index, in.State.Term, in.State.Hash, moment(in.State.Now))
	line("\t%d topics, %d subscriptions, %d requests, %d dead letters", in.State.Topics, in.State.Subscriptions, in.State.Requests, in.State.DeadLetters)
	errs := []error{t.Flush()}
	if len(in.Topics) > 0 {
		fmt.Fprintln(t, "\nTOPIC\tFIRST OFFSET\tHEAD OFFSET\tSUBSCRIPTIONS")
		for _, topic := range in.Topics {
			line("%s\t%d\t%d\t%d", terminal.OneLine(topic.Name), topic.First, topic.Head, topic.Subscriptions)
		}
		errs = append(errs, t.Flush())
	}
	if len(in.Segments) > 0 {
		fmt.Fprintln(t, "\nSEGMENT\tSIZE\tMESSAGES\tNEWEST")
		for _, seg := range in.Segments {
			line("%s\t%s\t%d\t%s", terminal.OneLine(seg.File), terminal.Bytes(seg.Bytes), seg.Records, moment(seg.Newest))
		}
		errs = append(errs, t.Flush())
	}
	if len(in.Problems) == 0 {
		line("\nAll checksums match.")
	}
	for _, p := range in.Problems {
		line("PROBLEM\t%s", terminal.OneLine(p))
	}
	return errors.Join(append(errs, t.Flush())...)
}

// moment formats a time for people, and the zero time as a dash.
func moment(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
