package console

import (
	"html/template"
	"math"
	"strconv"
	"strings"
)

// plot is a picture of figures over time. It is drawn without text, which the page puts around it, so that it can be as wide as its
// place is. The figures themselves belong in a table behind it.
type plot struct {
	// Label says what is seen, for readers who do not see it.
	Label  string
	Series []series
	// From and To name the ends of the time that is shown.
	From, To string
	// Unit writes a value at the upper edge. nil: as a rate.
	Unit func(float64) string
}

// series is one line of a plot.
type series struct {
	Name   string
	Values []float64 // evenly spaced; NaN: unknown, a hole in the line
}

const plotWidth, plotHeight = 600.0, 120.0

// top returns the value at the upper edge: the largest one, rounded up.
func (p *plot) top() float64 {
	most := 0.0
	for _, s := range p.Series {
		for _, v := range s.Values {
			if !math.IsNaN(v) {
				most = max(most, v)
			}
		}
	}
	return roundUp(most)
}

// roundUp returns the next number of the form 1, 2 or 5 times a power of ten.
func roundUp(v float64) float64 {
	if v <= 0 {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*p >= v {
			return m * p
		}
	}
	return 10 * p
}

// TopText returns the value at the upper edge for people.
func (p *plot) TopText() string {
	if p.Unit != nil {
		return p.Unit(p.top())
	}
	return rateText(p.top())
}

// SVG draws the lines.
func (p *plot) SVG() template.HTML {
	var b strings.Builder
	b.WriteString(`<svg class="plot" viewBox="0 0 600 120" preserveAspectRatio="none" role="img" aria-label="`)
	template.HTMLEscape(&b, []byte(p.Label))
	b.WriteString(`"><path class="grid" d="M0 0.5H600M0 60H600M0 119.5H600" vector-effect="non-scaling-stroke"/>`)
	top := p.top()
	for i, s := range p.Series {
		line, area := s.path(top)
		n := strconv.Itoa(i + 1)
		if i == 0 && area != "" {
			b.WriteString(`<path class="area a` + n + `" d="` + area + `"/>`)
		}
		b.WriteString(`<path class="line l` + n + `" vector-effect="non-scaling-stroke" d="` + line + `"/>`)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // the label is escaped, the rest are numbers
}

// path returns the line, with a hole where a value is unknown, and the area below it.
func (s *series) path(top float64) (line, area string) {
	var l, a []byte
	step := plotWidth / float64(max(len(s.Values)-1, 1))
	drawing, begin, last := false, 0.0, 0.0
	end := func() {
		if drawing {
			a = append(point(point(a, 'L', last, plotHeight), 'L', begin, plotHeight), 'Z')
		}
		drawing = false
	}
	for i, v := range s.Values {
		if math.IsNaN(v) {
			end()
			continue
		}
		x, op := float64(i)*step, byte('L')
		y := 1 + (plotHeight-2)*(1-min(v/top, 1))
		if !drawing {
			op, drawing, begin = 'M', true, x
		}
		l, a, last = point(l, op, x, y), point(a, op, x, y), x
	}
	end()
	return string(l), string(a)
}

// point appends a command of a path, with one digit after the point.
func point(b []byte, op byte, x, y float64) []byte {
	b = strconv.AppendFloat(append(b, op), math.Round(x*10)/10, 'f', -1, 64)
	return strconv.AppendFloat(append(b, ' '), math.Round(y*10)/10, 'f', -1, 64)
}
