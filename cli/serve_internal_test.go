package cli

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"quorumhub/configs"
)

// Wherever a duration stands in a line of the JSON log, it has a unit; everything else stays as it is.
func TestDurationsInJSONLogsHaveUnits(t *testing.T) {
	cfg, err := configs.Load(configs.Source{Set: []string{"log.format=json"}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	took := 5080513 * time.Nanosecond
	newLogger(cfg, new(slog.LevelVar), &out).With("since", time.Minute).WithGroup("node").Info("handed over", "took", took, slog.Group("raft", "lease", 2*time.Second),
		"at", &took, "none", (*time.Duration)(nil), "waits", []time.Duration{time.Second, time.Minute}, "n", 7, "size_bytes", 5080513)
	var line struct {
		Since string
		Node  struct {
			Took, At, Waits string
			None            *string
			Raft            struct{ Lease string }
			N               int
			SizeBytes       int `json:"size_bytes"`
		}
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if line.Since != "1m0s" || line.Node.Took != "5.080513ms" || line.Node.At != "5.080513ms" || line.Node.Waits != "[1s 1m0s]" || line.Node.Raft.Lease != "2s" ||
		line.Node.None != nil || line.Node.N != 7 || line.Node.SizeBytes != 5080513 {
		t.Errorf("got %s", out.String())
	}
}
