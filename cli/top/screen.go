// Package top shows in a terminal how a hub is doing.
package top

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorumhub/cli/terminal"
	"quorumhub/figures"
)

// Figures are what GET /v1/figures answers.
type Figures struct {
	figures.Picture
	Leader   string    `json:"leader"`
	Concerns []Concern `json:"concerns"`
	Counts   struct {
		Topics        int `json:"topics"`
		Subscriptions int `json:"subscriptions"`
		Requests      int `json:"requests"`
		DeadLetters   int `json:"dead_letters"`
	} `json:"counts"`
}

// Concern is something to attend to.
type Concern struct {
	Bad  bool   `json:"bad"`
	Text string `json:"text"`
}

// Order is what nodes are sorted by.
type Order struct {
	// Key chooses it at the keyboard.
	Key  byte
	Name string
	less func(a, b *figures.NodeFigures) int
}

// Orders lists the orders, the first of which holds at the beginning. But for names, the most comes first.
func Orders() []Order {
	most := func(get func(*figures.NodeFigures) float64) func(a, b *figures.NodeFigures) int {
		return func(a, b *figures.NodeFigures) int { return cmp.Compare(get(b), get(a)) }
	}
	return []Order{
		{'n', "name", func(_, _ *figures.NodeFigures) int { return 0 }},
		{'p', "published", most(func(n *figures.NodeFigures) float64 { return n.Published })},
		{'d', "delivered", most(func(n *figures.NodeFigures) float64 { return n.Delivered })},
		{'f', "failed", most(func(n *figures.NodeFigures) float64 { return n.Failed })},
		{'l', "lag", most(func(n *figures.NodeFigures) float64 { return float64(n.Lag) })},
	}
}

// OrderOf returns the order of a name.
func OrderOf(name string) (Order, bool) {
	all := Orders()
	i := slices.IndexFunc(all, func(o Order) bool { return o.Name == name })
	if i < 0 {
		return Order{}, false
	}
	return all[i], true
}

// Page renders the figures as text without control characters but line breaks, unless it is coloured.
func Page(f *Figures, by Order, coloured bool) string {
	var b bytes.Buffer
	paint := func(code, text string) string {
		if !coloured {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	leader := "no node leads"
	if f.Leader != "" {
		leader = terminal.OneLine(f.Leader) + " leads"
	}
	fmt.Fprintf(&b, "%s  %s, %s\n", f.At.Local().Format("15:04:05"), plural(len(f.Nodes)+len(f.Missing), "node", "nodes"), leader)
	if len(f.Concerns) == 0 {
		fmt.Fprintln(&b, paint("32", "All is well."))
	}
	for _, c := range f.Concerns {
		code, mark := "33", "-"
		if c.Bad {
			code, mark = "31", "!"
		}
		fmt.Fprintln(&b, paint(code, mark+" "+terminal.OneLine(c.Text)))
	}
	now := &f.Now
	fmt.Fprintf(&b, "\npublished %s/s   delivered %s/s   failed attempts %s/s\n", rate(now.Published), rate(now.Delivered), rate(now.Failed))
	fmt.Fprintf(&b, "publish p50 %s, p99 %s   delivery p50 %s, p99 %s\n", took(now.PublishP50), took(now.PublishP99), took(now.DeliveryP50), took(now.DeliveryP99))
	oldest := ""
	if now.Oldest > 0 {
		oldest = ", the oldest for " + terminal.Duration(time.Duration(now.Oldest*float64(time.Second)))
	}
	fmt.Fprintf(&b, "lag %d (%s behind%s)\n", now.Lag, plural(now.Behind, "subscription", "subscriptions"), oldest)
	fmt.Fprintf(&b, "topics %d   subscriptions %d (%d failing)   requests %d   dead letters %d   streams %d\n\n",
		f.Counts.Topics, f.Counts.Subscriptions, now.FailingNow, f.Counts.Requests, f.Counts.DeadLetters, now.Streams)
	nodes(&b, f, by, coloured)
	failing(&b, f, coloured)
	return b.String()
}

// nodes writes the table of nodes.
func nodes(b *bytes.Buffer, f *Figures, by Order, coloured bool) {
	sorted := slices.Clone(f.Nodes)
	slices.SortStableFunc(sorted, func(a, c figures.NodeFigures) int { return by.less(&a, &c) })
	t := terminal.Table{Coloured: coloured}
	t.Row("NODE\tROLE\tPUBLISHED/S\tDELIVERED/S\tFAILED/S\tLAG\tFAILING\tAPPLIED ENTRY\tDISK LEFT\tMEMORY")
	for i := range sorted {
		n := &sorted[i]
		disk := "-"
		if n.Status.FreeDiskBytes > 0 {
			disk = terminal.Bytes(n.Status.FreeDiskBytes)
		}
		t.Row(fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s", terminal.OneLine(n.Node), terminal.OneLine(strings.ToLower(n.Status.State)),
			rate(n.Published), rate(n.Delivered), rate(n.Failed), n.Lag, n.FailingNow, n.Status.AppliedIndex, disk, terminal.Bytes(int64(n.Status.HeapBytes))))
	}
	for _, id := range f.Missing {
		t.Row(terminal.OneLine(id) + "\tdown" + strings.Repeat("\t-", 8))
	}
	_ = t.Write(b) // to memory
}

// failing writes the table of subscriptions that fail.
func failing(b *bytes.Buffer, f *Figures, coloured bool) {
	if len(f.Failing) == 0 {
		return
	}
	b.WriteByte('\n')
	t := terminal.Table{Coloured: coloured}
	t.Row("FAILING\tSINCE\tIN A ROW\tWHY\tLAG\tNODE\tTOPIC")
	for i := range f.Failing {
		s := &f.Failing[i]
		why := cmp.Or(s.Reason, "no answer")
		if s.Status > 0 {
			why = "HTTP " + strconv.Itoa(s.Status)
		}
		t.Row(fmt.Sprintf("%s\t%s\t%d\t%s\t%d\t%s\t%s", terminal.OneLine(s.Subscription), terminal.Since(s.Since, f.At), s.Failures, terminal.OneLine(why), s.Lag,
			terminal.OneLine(s.Node), terminal.OneLine(s.Topic)))
	}
	_ = t.Write(b) // to memory
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func rate(v float64) string {
	if v > 0 && v < 9.95 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func took(v figures.Value) string {
	if !v.Known() {
		return "-"
	}
	return terminal.Duration(time.Duration(float64(v) * float64(time.Second)))
}

// fit cuts a page to the size of a terminal, without splitting what colours a line.
func fit(page string, width, height int) []string {
	lines := strings.Split(strings.TrimRight(page, "\n"), "\n")
	lines = lines[:min(len(lines), max(height, 0))]
	for i, l := range lines {
		lines[i] = cut(l, width)
	}
	return lines
}

// cut shortens a line to width characters that are seen.
func cut(line string, width int) string {
	seen, escape := 0, false
	for i, r := range line {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		case seen == width:
			end := ""
			if strings.Contains(line, "\x1b") {
				end = "\x1b[0m"
			}
			return line[:i] + end
		default:
			seen++
		}
	}
	return line
}
