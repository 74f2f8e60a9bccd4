package console

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

const (
	// perPage is how many rows a page shows.
	perPage = 50
	// csvParam in a list's URL asks for all its rows as comma-separated values.
	csvParam = "csv"
)

// listing is the part of a list that a page shows, as its URL says: page, sort (with a minus for descending) and filters.
type listing struct {
	// Path is that of the page below /console, escaped.
	Path string
	// Page counts from 1.
	Page int
	Sort string // empty: the list's own order
	Desc bool
	// CSV says that the rows are asked for as comma-separated values.
	CSV     bool
	filters url.Values
	sorts   []string
}

// parseListing reads a list's URL. sorts are the columns it may be sorted by, filters the names of its filters.
func parseListing(r *http.Request, sorts []string, filters ...string) (*listing, error) {
	l := &listing{Path: strings.TrimPrefix(r.URL.EscapedPath(), "/console"), Page: 1, filters: url.Values{}, sorts: sorts}
	for name, v := range queryOf(r) {
		switch {
		case len(v) > 1:
			return nil, hub.ParamErrorf(problem.Quote(name), "is given %d times; expected once", len(v))
		case name == "page":
			n, err := strconv.Atoi(v[0])
			if err != nil || n < 1 || n > 1_000_000 {
				return nil, hub.ParamErrorf("page", "is %s; expected a number from 1", problem.Quote(v[0]))
			}
			l.Page = n
		case name == "sort":
			l.Sort, l.Desc = strings.CutPrefix(v[0], "-")
			if !slices.Contains(sorts, l.Sort) {
				return nil, hub.ParamErrorf("sort", "is %s; expected one of %s", problem.Quote(v[0]), strings.Join(sorts, ", "))
			}
		case name == csvParam:
			l.CSV = true
		case slices.Contains(filters, name):
			if text := strings.TrimSpace(v[0]); text != "" {
				l.filters.Set(name, text)
			}
		default:
			return nil, hub.ParamErrorf(problem.Quote(name), "is not a parameter of this list; expected page, sort, csv, %s", strings.Join(filters, ", "))
		}
	}
	return l, nil
}

// Filter returns the value of a filter, empty without it.
func (l *listing) Filter(name string) string { return l.filters.Get(name) }

// Filtered reports whether any filter is set.
func (l *listing) Filtered() bool { return len(l.filters) > 0 }

// url returns the page's own URL, relative to it, with some parameters changed: names and values in turn; an empty value removes one.
func (l *listing) url(change ...string) string {
	q := url.Values{}
	for name, v := range l.filters {
		q[name] = v
	}
	if l.Page > 1 {
		q.Set("page", strconv.Itoa(l.Page))
	}
	if l.Sort != "" {
		q.Set("sort", map[bool]string{true: "-"}[l.Desc]+l.Sort)
	}
	for i := 0; i+1 < len(change); i += 2 {
		if change[i+1] == "" {
			q.Del(change[i])
		} else {
			q.Set(change[i], change[i+1])
		}
	}
	return "?" + q.Encode()
}

// CSVURL returns the address of the whole list as comma-separated values.
func (l *listing) CSVURL() string { return l.url("page", "", csvParam, "1") }

// SortURL returns the address of the list sorted by a column, in the other direction if it is already.
func (l *listing) SortURL(column string) string {
	by := column
	if l.Sort == column && !l.Desc {
		by = "-" + column
	}
	return l.url("page", "", "sort", by)
}

// AriaSort returns the value of aria-sort for a column.
func (l *listing) AriaSort(column string) string {
	switch {
	case l.Sort != column:
		return "none"
	case l.Desc:
		return "descending"
	}
	return "ascending"
}

// pager leads through the pages of a list.
type pager struct {
	From, To, Total int // rows, from 1; Total < 0: unknown
	Prev, Next      string
}

// pagerOf returns the pager of a page of shown rows out of total.
func (l *listing) pagerOf(shown, total int) pager {
	p := pager{From: (l.Page-1)*perPage + 1, Total: total}
	p.To = p.From + shown - 1
	if l.Page > 1 {
		p.Prev = l.url("page", strconv.Itoa(l.Page-1))
	}
	if p.To < total {
		p.Next = l.url("page", strconv.Itoa(l.Page+1))
	}
	return p
}

// bounds returns which of n rows the page shows: rows[from:to].
func (l *listing) bounds(n int) (from, to int) {
	from = min((l.Page-1)*perPage, n)
	return from, min(from+perPage, n)
}

// writeCSV answers with rows as comma-separated values (RFC 4180), of which the first names the columns. next returns false after the
// last row.
func writeCSV(w http.ResponseWriter, name string, next func() ([]string, bool)) {
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	h.Set("Content-Disposition", `attachment; filename="`+name+`.csv"`)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	out := csv.NewWriter(w)
	for row, ok := next(); ok; row, ok = next() {
		for i, cell := range row {
			row[i] = harmlessCell(cell)
		}
		if out.Write(row) != nil {
			return // the client is gone
		}
	}
	out.Flush()
}

// harmlessCell keeps spreadsheets from taking what others have named for a formula.
func harmlessCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		if _, err := strconv.ParseFloat(s, 64); err != nil {
			return "'" + s
		}
	}
	return s
}
