// Package screen draws the pages that people see while they log in. They work without scripts, on small screens and for screen
// readers, and refer to nothing elsewhere.
package screen

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
)

// Page is a page. What is empty is not shown. All text is escaped where it is shown, so it may come from anywhere.
type Page struct {
	Status int // of HTTP; 0: 200
	Title  string
	// Alert says what went wrong; it is read out at once.
	Alert string
	Text  []string
	Facts []Fact
	Forms []Form
	Links []Link
	// Small is shown below, in small print.
	Small string
}

// Fact is a line of a list of names and values.
type Fact struct{ Name, Value string }

// Link leads to another page. Its URL must be of the hub's own making.
type Link struct{ URL, Text string }

// Form is sent to its Action, a path on this hub, by POST.
type Form struct {
	Action string
	Title  string // above it
	Facts  []Fact
	Hidden []Hidden
	Fields []Field
	// Buttons send the form, each with its own Name and Value if it has a Name.
	Buttons []Button
}

// Hidden is sent with a form.
type Hidden struct{ Name, Value string }

// Field is filled in.
type Field struct {
	Name, Label, Value string
	Secret             bool
	Autocomplete       string // as in HTML: username, current-password, one-time-code
	Inputmode          string // as in HTML: numeric
	Hint               string
	Focus              bool
}

// Button sends a form.
type Button struct {
	Name, Value, Text string
	Quiet             bool // not the one that is meant to be pressed
}

//go:embed page.html
var text string

//go:embed page.css
var css string

// page and policy are made of files of the program, and never change.
var (
	page   = template.Must(template.New("page").Parse(text))
	policy = policyOf(css)
)

// policyOf allows a page its own style and nothing else. form-action is left open: browsers apply it to the redirects that follow a
// form, and those lead to identity providers and applications.
func policyOf(css string) string {
	sum := sha256.Sum256([]byte(css))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; frame-ancestors 'none'"
}

// Secure sets the headers that pages and the redirects between them need: nobody keeps, frames or misreads them, and what is in their
// URLs goes nowhere else.
func Secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// Write answers with the page.
func (p *Page) Write(w http.ResponseWriter) {
	var body bytes.Buffer
	if err := page.Execute(&body, view{p, template.CSS(css)}); err != nil { //nolint:gosec // the style is the program's own
		panic(err) // the template fits the type
	}
	Secure(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	status := p.Status
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // fails only if the client is gone
}

type view struct {
	*Page
	Style template.CSS
}
