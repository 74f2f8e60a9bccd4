package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func sample() *Report {
	return &Report{
		Machine: Machine{CPUs: 2, MemoryGiB: 24, Kernel: "6.1", Go: "go1.26", Filesystem: "ext4", Fdatasync: 0.4},
		Results: []Result{
			Result{
				Phase: "publish-128", Title: "publish", Value: 20_000, Unit: "publishes/s", Ratio: 0.5,
				Raw: &Spread{Median: 40_000, Min: 38_000, Max: 42_000, Samples: 8}, Aim: atLeast(0.45),
			}.judge(),
			Result{
				Phase: "paced", Title: "end to end", Value: 20, Unit: "ms p99", Aim: atMost(10, ofP99, " ms"),
				Latency: &Quantiles{P50: 1, P99: 20, P999: 30},
			}.judge(),
		},
	}
}

func TestReportsForPeopleReadmeAndScripts(t *testing.T) {
	r := sample()
	var table, markdown, script bytes.Buffer
	for _, err := range []error{r.Table(&table), r.Markdown(&markdown), r.JSON(&script)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"20,000 publishes/s", "40,000/s (±5 %)", "0.50", "≥ 0.45 of raw", "met", "missed", "p50 1.00 ms", "fdatasync of 4 KiB 0.40 ms"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
	if want := "| end to end | p50 1.00 ms, p99 20.0 ms | - | - | p99 ≤ 10 ms | missed |"; !strings.Contains(markdown.String(), want) {
		t.Errorf("the short table lacks %q:\n%s", want, markdown.String())
	}
	var back Report
	if err := json.Unmarshal(script.Bytes(), &back); err != nil || len(back.Results) != 2 || !*back.Results[0].Met || *back.Results[1].Met {
		t.Errorf("JSON: %v\n%s", err, script.String())
	}
}

func TestReportSaysWhenTheMachineWasBusy(t *testing.T) {
	m := Machine{CPUs: 2, Load: 0.9}
	if strings.Contains(m.String(), "other programs") {
		t.Errorf("a load of 0.9 on 2 CPUs is not busy: %s", m)
	}
	m.Load = 3
	if !strings.Contains(m.String(), "other programs were running (load 3.0)") {
		t.Errorf("a load of 3 on 2 CPUs is not reported: %s", m)
	}
}

func TestMissedAimIsNotBroken(t *testing.T) {
	if got := sample().Broken(); len(got) != 0 {
		t.Fatalf("got %v", got)
	}
}

func TestEveryWayToBeBroken(t *testing.T) {
	for want, res := range map[string]Result{
		"2 deliveries lost": {Lost: 2}, "3 duplicate deliveries": {Doubled: 3}, "1 publishes failed (first failure: reset)": {Failed: 1, Note: "first failure: reset"},
		"4 deliveries with a bad signature": {Unsigned: 4}, "5 deliveries of unknown content": {Foreign: 5}, "the hub ended": {Problem: "the hub ended"},
	} {
		r := Report{Results: []Result{res}}
		if got := r.Broken(); len(got) != 1 || !strings.HasSuffix(got[0], want) {
			t.Errorf("got %q, want %q", got, want)
		}
		var table bytes.Buffer
		if err := r.Table(&table); err != nil || !strings.Contains(table.String(), "BROKEN") {
			t.Errorf("the table does not show it: %v\n%s", err, table.String())
		}
	}
	if got := (&Report{Results: []Result{{Unfinished: 9, Refused: 3}}}).Broken(); len(got) != 0 {
		t.Errorf("slow or refused must not count as broken: %v", got)
	}
}
