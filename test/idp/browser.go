package idp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// Browser goes from page to page as a person's does, without scripts: it follows redirects, keeps cookies and sends forms.
type Browser struct{ http.Client }

// NewBrowser returns one without cookies. It does not follow redirects by itself.
func NewBrowser(tb testing.TB) *Browser {
	tb.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return &Browser{http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Page is what a browser shows.
type Page struct {
	URL    *url.URL
	Status int
	Body   string
	Header http.Header
	Forms  []Form
}

// Form is a form of a Page.
type Form struct {
	Action *url.URL
	Method string
	Values url.Values
	// Fields are the names of the fields that a person fills in.
	Fields []string
}

func (p *Page) String() string { return fmt.Sprintf("%s: %d\n%s", p.URL, p.Status, p.Body) }

// maxSteps bounds how often a browser is sent on.
const maxSteps = 20

// Go opens a URL and follows redirects, until stop says that it should not open the next one; nil: never. Then the page has only its URL.
func (b *Browser) Go(tb testing.TB, at string, stop func(*url.URL) bool) *Page {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, at, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return b.do(tb, req, stop)
}

// Send fills in a form and sends it, as Go.
func (b *Browser) Send(tb testing.TB, f Form, fill url.Values, stop func(*url.URL) bool) *Page {
	tb.Helper()
	for name, values := range fill {
		f.Values[name] = values
	}
	if f.Method == http.MethodGet {
		to := *f.Action
		to.RawQuery = f.Values.Encode()
		return b.Go(tb, to.String(), stop)
	}
	req, err := http.NewRequestWithContext(tb.Context(), f.Method, f.Action.String(), strings.NewReader(f.Values.Encode()))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Origin", f.Action.Scheme+"://"+f.Action.Host)
	return b.do(tb, req, stop)
}

// LogIn goes on from a page of a provider until a page of another host, filling in name and password wherever they are asked for.
func (b *Browser) LogIn(tb testing.TB, p *Page, name, password string, stop func(*url.URL) bool) *Page {
	tb.Helper()
	host := p.URL.Host
	for range maxSteps {
		if p.URL.Host != host || p.Status == 0 {
			return p
		}
		if len(p.Forms) == 0 {
			tb.Fatalf("no form to go on with: %s", p)
		}
		fill := url.Values{}
		for _, field := range p.Forms[0].Fields {
			switch field {
			case "username", "login":
				fill.Set(field, name)
			case "password":
				fill.Set(field, password)
			}
		}
		p = b.Send(tb, p.Forms[0], fill, stop)
	}
	tb.Fatalf("still not logged in after %d pages: %s", maxSteps, p)
	return nil
}

func (b *Browser) do(tb testing.TB, req *http.Request, stop func(*url.URL) bool) *Page {
	tb.Helper()
	for range maxSteps {
		if stop != nil && stop(req.URL) {
			return &Page{URL: req.URL}
		}
		if req.Header.Get("Accept") == "" {
			req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
		}
		resp, err := b.Do(req)
		if err != nil {
			tb.Fatal(err)
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		_ = resp.Body.Close()
		if err != nil {
			tb.Fatal(err)
		}
		to, err := resp.Location()
		if errors.Is(err, http.ErrNoLocation) || resp.StatusCode < 300 || resp.StatusCode > 399 {
			return &Page{URL: req.URL, Status: resp.StatusCode, Body: string(body), Header: resp.Header, Forms: forms(req.URL, string(body))}
		}
		if err != nil {
			tb.Fatal(err)
		}
		if req, err = http.NewRequestWithContext(tb.Context(), http.MethodGet, to.String(), nil); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Fatalf("sent on %d times, at last to %s", maxSteps, req.URL)
	return nil
}

// forms returns the forms of a page.
func forms(at *url.URL, body string) (out []Form) {
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		return nil
	}
	var in *Form
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		attr := func(name string) string {
			for _, a := range n.Attr {
				if a.Key == name {
					return a.Val
				}
			}
			return ""
		}
		outer := in
		if n.Type == html.ElementNode {
			switch n.Data {
			case "form":
				to, err := at.Parse(attr("action"))
				if err != nil {
					return
				}
				method := http.MethodGet
				if strings.EqualFold(attr("method"), http.MethodPost) {
					method = http.MethodPost
				}
				out = append(out, Form{Action: to, Method: method, Values: url.Values{}})
				in = &out[len(out)-1]
			case "input", "button":
				name, kind := attr("name"), strings.ToLower(attr("type"))
				if in == nil || name == "" {
					break
				}
				if n.Data == "input" && kind != "hidden" && kind != "submit" && kind != "checkbox" {
					in.Fields = append(in.Fields, name)
				}
				if value := attr("value"); value != "" && kind != "checkbox" {
					in.Values.Add(name, value)
				}
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
		if in != outer && n.Data == "form" {
			in = outer
		}
	}
	walk(doc)
	return out
}
