package console

import (
	"errors"
	"fmt"
	"html/template"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// navItem is an entry of the navigation.
type navItem struct{ Section, Path, Text string }

// navigation lists the sections. A page belongs to one of them.
var navigation = []navItem{
	{"overview", "/", "Overview"},
	{"topics", "/topics", "Topics"},
	{"subscriptions", "/subscriptions", "Subscriptions"},
	{"requests", "/requests", "Requests"},
	{"messages", "/messages", "Messages"},
	{"letters", "/dead-letters", "Dead letters"},
	{"events", "/events", "Events"},
	{"streams", "/streams", "Streams"},
	{"cluster", "/cluster", "Cluster"},
	{"gateway", "/gateway", "Gateway"},
	{"access", "/access", "Access"},
}

// state is how something is doing. Pages show it as a word and a colour.
type state string

const (
	stateGood state = "good"
	stateWarn state = "warn" // it needs attention
	stateBad  state = "bad"
	stateIdle state = "idle" // neither: paused, absent
	stateInfo state = "info"
)

// badge is a state in one word or two.
type badge struct {
	State state
	Text  string
}

// funcs are the functions of all templates.
func (c *Console) funcs() template.FuncMap {
	return template.FuncMap{
		"asset": func(name string) string { return c.Base + "/console/static/" + c.assets.hashed[name] },
		"at":    c.link,
		// beside is for pages of the hub that are not the console\'s.
		"beside":     func(path string) string { return c.Base + path },
		"dict":       dict,
		"badge":      func(s state, text string) badge { return badge{s, text} },
		"count":      count,
		"bytes":      bytesText,
		"rate":       rateText,
		"took":       tookText,
		"seconds":    secondsText,
		"why":        why,
		"clock":      clockElement,
		"ago":        func(t time.Time) template.HTML { return timeElement(t, c.now()) },
		"utc":        func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"topicPath":  c.topicPath,
		"percent":    func(part, of int) int { return 100 * part / max(of, 1) },
		"words":      strings.Fields,
		"hundredths": func(v float64) int { return int(math.Round(100 * v)) },
		"plural": func(n any, one, many string) string {
			if text := count(n); text != "1" {
				return text + " " + many
			}
			return "1 " + one
		},
	}
}

// link returns the address of a page from its path, whose remaining parts are escaped one by one: at "/topics/" .Name "/publish".
func (c *Console) link(path string, parts ...string) string {
	for i, p := range parts {
		if i%2 == 0 {
			p = escapePath(p)
		}
		path += p
	}
	return c.at(path)
}

// escapePath escapes a name for a path, in which slashes stay as they are: topics have them in their names.
func escapePath(name string) string {
	return strings.ReplaceAll(url.PathEscape(name), "%2F", "/")
}

// dict makes a map from names and values in turn, for templates that need more than one argument.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict: a name without a value")
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

// count writes a whole number with commas: 1,234,567.
func count(n any) string {
	text := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// bytesText writes a number of bytes in the largest unit that leaves a digit: 1.4 GiB.
func bytesText(n any) (string, error) {
	v, err := number(n)
	if err != nil {
		return "", err
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if i == 0 || v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64) + " " + units[i], nil
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[i], nil
}

// rateText writes something per second: 0, 0.3, 12, 1,234.
func rateText(v float64) string {
	switch {
	case v <= 0 || math.IsNaN(v):
		return "0"
	case v < 0.1:
		return "< 0.1"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return count(int64(math.Round(v)))
}

// tookText writes how long something took: 0.8 ms, 12 ms, 3.4 s.
func tookText(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case d <= 0:
		return "–"
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	case ms < 1000:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	}
	return spanText(d)
}

// number converts any kind of number.
func number(n any) (float64, error) {
	v, err := strconv.ParseFloat(fmt.Sprint(n), 64)
	if err != nil {
		return 0, fmt.Errorf("%v is no number", n)
	}
	return v, nil
}

// spanText writes a time span in its largest unit, or the two largest if the first is small: 45 s, 3 min, 2 h, 5 days.
func spanText(d time.Duration) string {
	switch d = d.Abs(); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// timeElement writes a moment relative to now, with the exact one for the pointer. The script puts it in the reader's zone and keeps
// it up to date.
func timeElement(t, now time.Time) template.HTML {
	if t.IsZero() {
		return "<span class=\"none\">never</span>"
	}
	// Seconds would make every live page change all the time; the script knows them.
	text := "just now"
	switch d := now.Sub(t); {
	case d >= time.Minute:
		text = spanText(d) + " ago"
	case d >= 10*time.Second:
		text = "&lt; 1 min ago"
	case d <= -time.Minute:
		text = "in " + spanText(d)
	case d < 0:
		text = "in &lt; 1 min"
	}
	exact := t.UTC().Format(time.RFC3339)
	return template.HTML(`<time datetime="` + exact + `" title="` + t.UTC().Format("2006-01-02 15:04:05 UTC") + `">` + text + `</time>`) //nolint:gosec // made of digits and fixed words
}

// clockElement writes the time of a day. The script puts it in the reader's zone.
func clockElement(t time.Time) template.HTML {
	return template.HTML(`<time data-clock datetime="` + t.UTC().Format(time.RFC3339) + `">` + t.UTC().Format("15:04") + ` UTC</time>`) //nolint:gosec // made of digits and fixed words
}
