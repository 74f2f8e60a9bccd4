package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Result is one line of a report.
type Result struct {
	Phase string  `json:"phase"`
	Nodes int     `json:"nodes,omitempty"` // size of the cluster; 0 for a single node
	Title string  `json:"title"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`

	// Raw is the rate of the same clients and sink without a hub; Ratio is Value over its median.
	Raw   *Spread `json:"raw,omitempty"`
	Ratio float64 `json:"ratio,omitempty"`
	// Plain and PlainRatio are the same with net/http's client, which other projects measure with. No aim refers to them.
	Plain      *Spread `json:"raw_net_http,omitempty"`
	PlainRatio float64 `json:"ratio_net_http,omitempty"`

	Latency    *Quantiles `json:"latency,omitempty"`
	RawLatency *Quantiles `json:"raw_latency,omitempty"`

	Aim *Aim  `json:"aim,omitempty"`
	Met *bool `json:"met,omitempty"`

	Published  int64   `json:"published,omitempty"`  // accepted messages
	Delivered  int64   `json:"delivered,omitempty"`  // distinct pairs of message and callback
	Lost       int64   `json:"lost"`                 // accepted and never delivered
	Doubled    int64   `json:"doubled"`              // delivered more than once
	Unfinished int64   `json:"unfinished,omitempty"` // still arriving when the time was up
	Refused    int64   `json:"refused,omitempty"`    // 503 responses, after which the message was sent again
	Failed     int64   `json:"failed,omitempty"`     // publishes with another response or none
	Unsigned   int64   `json:"unsigned,omitempty"`   // deliveries without a valid signature
	Foreign    int64   `json:"foreign,omitempty"`    // deliveries of content that nobody published
	CPU        float64 `json:"hub_cpu_us,omitempty"` // processor time of the hub per unit of Value, in µs

	Note    string `json:"note,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// judge compares the result with its aim.
func (r Result) judge() Result {
	if r.Aim == nil || r.Problem != "" {
		return r
	}
	value := r.Value
	switch r.Aim.Of {
	case ofRatio:
		value = r.Ratio
	case ofP99:
		value = r.Latency.P99
	}
	met := r.Aim.Met(value)
	r.Met = &met
	return r
}

// broken describes what is wrong with the result, other than being slow, or returns "".
func (r Result) broken() string {
	if r.Problem != "" {
		return r.Problem
	}
	var what []string
	for _, c := range []struct {
		n    int64
		text string
	}{
		{r.Lost, "deliveries lost"}, {r.Doubled, "duplicate deliveries"}, {r.Failed, "publishes failed"},
		{r.Unsigned, "deliveries with a bad signature"}, {r.Foreign, "deliveries of unknown content"},
	} {
		if c.n > 0 {
			what = append(what, fmt.Sprintf("%d %s", c.n, c.text))
		}
	}
	text := strings.Join(what, ", ")
	if text != "" && r.Note != "" {
		text += " (" + r.Note + ")"
	}
	return text
}

// book copies the counts of a load and a tally.
func (r *Result) book(l *load, t *tally) {
	r.Published, r.Refused, r.Failed = l.accepted.Load(), l.refused.Load(), l.failed.Load()
	if err := l.firstProblem(); err != nil {
		r.Note = join(r.Note, "first failure: "+err.Error())
	}
	if t != nil {
		r.Delivered, r.Doubled = t.first.Load(), t.doubled.Load()
		r.Unsigned, r.Foreign = t.unsigned.Load(), t.foreign.Load()
	}
}

// Report is the outcome of a run.
type Report struct {
	Machine     Machine  `json:"machine"`
	Duration    float64  `json:"duration_s"`
	Quick       bool     `json:"quick"`
	Took        float64  `json:"took_s"`
	Results     []Result `json:"results"`
	NotMeasured []string `json:"not_measured,omitempty"` // phases skipped because the time was up
}

func newReport(o Options) (*Report, error) {
	m, err := thisMachine(o.Dir)
	return &Report{Machine: m, Duration: o.Duration.Seconds(), Quick: o.Quick}, err
}

// Broken describes the phases that lost or duplicated messages or could not be measured. A missed aim does not count.
func (r *Report) Broken() []string {
	var out []string
	for _, res := range r.Results {
		if text := res.broken(); text != "" {
			out = append(out, res.Title+": "+text)
		}
	}
	return out
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// Table writes the report for people.
func (r *Report) Table(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nraw: the same publishers and sink without a hub, measured before and after each phase\n\n", r.Machine)
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "phase\tmeasured\traw (spread)\tof raw\taim\tverdict\t")
	for _, res := range r.Results {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t\n", res.Title, res.value(), res.raw(), res.ofRaw(), res.aim(), res.verdict())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if lines := r.details(); len(lines) > 0 {
		b.WriteString("\n" + strings.Join(lines, "\n") + "\n")
	}
	if len(r.NotMeasured) > 0 {
		fmt.Fprintf(&b, "\nnot measured, because the time was up: %s\n", strings.Join(r.NotMeasured, ", "))
	}
	if broken := r.Broken(); len(broken) > 0 {
		fmt.Fprintf(&b, "\nBROKEN  %s\n", strings.Join(broken, "\nBROKEN  "))
	}
	fmt.Fprintf(&b, "\ntook %.0f s\n", r.Took)
	_, err := io.WriteString(w, b.String())
	return err
}

// details returns the figures that do not fit into the table.
func (r *Report) details() []string {
	var lines []string
	for _, res := range r.Results {
		var parts []string
		if res.Latency != nil {
			parts = append(parts, res.Latency.String())
		}
		if res.RawLatency != nil {
			parts = append(parts, "raw "+res.RawLatency.String())
		}
		if res.Delivered > 0 {
			parts = append(parts, fmt.Sprintf("%s messages, %s deliveries, %d lost, %d duplicates",
				thousands(res.Published), thousands(res.Delivered), res.Lost, res.Doubled))
		}
		if res.Unfinished > 0 {
			parts = append(parts, thousands(res.Unfinished)+" not delivered when the time was up")
		}
		if res.Refused > 0 {
			parts = append(parts, thousands(res.Refused)+" 503 responses")
		}
		if res.Plain != nil {
			parts = append(parts, fmt.Sprintf("%.2f of raw with net/http's client (%s/s)", res.PlainRatio, plain(res.Plain.Median)))
		}
		if res.CPU > 0 {
			parts = append(parts, fmt.Sprintf("hub %.0f µs CPU each", res.CPU))
		}
		if res.Note != "" {
			parts = append(parts, res.Note)
		}
		if len(parts) > 0 {
			lines = append(lines, res.Title+": "+strings.Join(parts, "; "))
		}
	}
	return lines
}

// Markdown writes a short table for a README.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| phase | measured | of raw | of net/http | aim | |\n|---|---|---|---|---|---|\n")
	for _, res := range r.Results {
		measured := res.value()
		if res.Latency != nil && res.Aim != nil && res.Aim.Of == ofP99 {
			measured = fmt.Sprintf("p50 %s, p99 %s", millis(res.Latency.P50), millis(res.Latency.P99))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", res.Title, measured, res.ofRaw(), res.ofPlain(), res.aim(), res.verdict())
	}
	fmt.Fprintf(&b, "\n%s\n", r.Machine)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Result) value() string {
	if r.Problem != "" {
		return "-"
	}
	return plain(r.Value) + " " + r.Unit
}

func (r Result) raw() string {
	if r.Raw == nil {
		return "-"
	}
	return fmt.Sprintf("%s/s (±%.0f %%)", plain(r.Raw.Median), 50*r.Raw.Wobble())
}

func (r Result) ofRaw() string {
	if r.Raw == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", r.Ratio)
}

func (r Result) ofPlain() string {
	if r.Plain == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", r.PlainRatio)
}

func (r Result) aim() string {
	if r.Aim == nil {
		return "-"
	}
	text := r.Aim.String()
	switch r.Aim.Of {
	case ofRatio:
		text += " of raw"
	case ofP99:
		text = "p99 " + text
	}
	return text
}

func (r Result) verdict() string {
	switch {
	case r.broken() != "":
		return "BROKEN"
	case r.Met == nil:
		return ""
	case *r.Met:
		return "met"
	default:
		return "missed"
	}
}
