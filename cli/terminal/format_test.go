package terminal_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"quorumhub/cli/terminal"
)

func TestDurationsHaveOneUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 5080513: "5.08 ms", 12500 * time.Microsecond: "12.5 ms", 999900 * time.Microsecond: "1 s", 9999 * time.Microsecond: "10 ms", time.Microsecond: "0 ms",
		1500 * time.Millisecond: "1.5 s", 9960 * time.Millisecond: "10 s", 59 * time.Second: "59 s", 90 * time.Second: "90 s", 2 * time.Minute: "2 min",
		119 * time.Minute: "119 min", 2 * time.Hour: "2 h", 47 * time.Hour: "47 h", 10*24*time.Hour - time.Minute: "10 d", -90 * time.Second: "-90 s",
		1000 * 24 * time.Hour: "1000 d",
	} {
		if got := terminal.Duration(d); got != want {
			t.Errorf("%d ns: got %q, want %q", d, got, want)
		}
	}
}

func TestTimesAreRelative(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-12-11T11:59:59.999999999Z": "in 10 d", "2026-12-01T11:59:58Z": "2 s ago", "2026-12-01T13:00:00+01:00": "now",
		"2026-12-01T12:00:00.3Z": "now", "": "-", "1970-01-01T00:00:00Z": "-", "soon\x1b[2J": "soon·[2J",
	} {
		if got := terminal.When(text, now); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestSizesHaveBinaryUnits(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1: "1 byte", 1023: "1023 bytes", 1024: "1 KiB", 1258291: "1.2 MiB", 1<<20 - 1: "1 MiB", 5 << 30: "5 GiB", 1 << 50: "1024 TiB", -2048: "-2 KiB",
	} {
		if got := terminal.Bytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestATableIsAlignedWithAndWithoutColour(t *testing.T) {
	rows := []string{"ID\tSTATE\tTOPIC", "s-1\tactive\tü", "s-100\tpaused\tactive", "s-2\tdown\t-"}
	write := func(coloured bool) string {
		table := terminal.Table{Coloured: coloured}
		for _, r := range rows {
			table.Row(r)
		}
		var out bytes.Buffer
		if err := table.Write(&out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	plain, coloured := write(false), write(true)
	const want = "ID     STATE   TOPIC\ns-1    active  ü\ns-100  paused  active\ns-2    down    -\n"
	if plain != want {
		t.Errorf("got\n%s\nwant\n%s", plain, want)
	}
	if strings.Count(coloured, "\x1b[") != 2*(3+3) || !strings.Contains(coloured, "\x1b[32mactive\x1b[0m  ü") || !strings.Contains(coloured, "\x1b[33mpaused\x1b[0m  active\n") {
		t.Errorf("got %q", coloured)
	}
	if bare := strings.NewReplacer("\x1b[0m", "", "\x1b[1m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "").Replace(coloured); bare != want {
		t.Errorf("colours move columns:\n%s", bare)
	}
}
