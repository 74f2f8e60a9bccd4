package console

import (
	"bytes"
	"compress/gzip"
	"context"
	"html/template"
	"net/http"
	"strings"

	"quorumhub/web/problem"
)

// sheet describes a page to show.
type sheet struct {
	// template is the name of the page's file in templates/, without .html.
	template string
	// section is the entry of the navigation that the page belongs to.
	section string
	// fragments are the templates in the page's file that live updates replace. Each renders one element whose id is the template's
	// name. Empty: the page does not change by itself.
	fragments []string
	// personal says that what is shown depends on more than whose things the viewer sees, so that only the same viewer shares it.
	personal bool
	// build reads what the page shows. For live pages it is called again and again; what it returns must depend on ctx (the viewer)
	// and the page's URL only. Errors become an error page.
	build func(ctx context.Context) (*content, error)
}

// content is what a page shows.
type content struct {
	Title string
	// Lead is the sentence below the title that says what the page is about, or how things stand.
	Lead   string
	Crumbs []crumb
	Data   any // for the page's template
}

// crumb is a page above the one that is shown.
type crumb struct{ Path, Text string }

// frame is what the layout shows around a page, and the dot of all templates.
type frame struct {
	content
	Section string
	Nav     []navItem
	Viewer  Viewer
	Open    bool // the hub asks for no credentials
	Flash   *flash
	Live    string // URL of the live updates; empty: none
	Node    string
	Version string
}

// show answers with a page, or with its live updates if the URL asks for them.
func (c *Console) show(w http.ResponseWriter, r *http.Request, s sheet) {
	if r.URL.Query().Has(liveParam) && len(s.fragments) > 0 {
		c.live(w, r, s)
		return
	}
	f := c.takeFlash(w, r)
	in, err := s.build(r.Context())
	if err != nil {
		c.fail(w, r, err)
		return
	}
	fr := c.frame(r, s.section, in)
	fr.Flash = f
	if len(s.fragments) > 0 {
		fr.Live = liveURL(r)
	}
	c.write(w, r, http.StatusOK, s.template, fr)
}

func (c *Console) frame(r *http.Request, section string, in *content) *frame {
	v := c.viewer(r.Context())
	return &frame{content: *in, Section: section, Nav: navigation, Viewer: v, Open: v.Name == "", Node: c.Nodes.ID(), Version: c.Version}
}

// fail answers with a page that says what went wrong.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, err error) {
	c.Refuse(w, r, c.Ports.Problem(w, r, err))
}

// Refuse answers with a page about a problem. The server calls it for whoever may not have a page, too.
func (c *Console) Refuse(w http.ResponseWriter, r *http.Request, p *problem.Details) {
	p.SetHeaders(w)
	title := http.StatusText(p.Status)
	switch p.Status {
	case http.StatusUnauthorized:
		title = "You are not logged in"
	case http.StatusForbidden:
		title = "You may not do this"
	case http.StatusNotFound, http.StatusGone:
		title = "There is no such thing here"
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		title = "That cannot be done as it was asked"
	case http.StatusConflict:
		title = "That does not fit how things are now"
	case http.StatusTooManyRequests:
		title = "Too many requests"
	}
	c.write(w, r, p.Status, "refused", c.frame(r, "", &content{Title: title, Data: p}))
}

// contentPolicy allows what pages need: their own stylesheet, script and live updates, and forms to this hub.
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// write renders a page.
func (c *Console) write(w http.ResponseWriter, r *http.Request, status int, name string, fr *frame) {
	c.writePart(w, r, status, name, "layout", fr)
}

// writePart renders one template of a page's file.
func (c *Console) writePart(w http.ResponseWriter, r *http.Request, status int, name, part string, fr *frame) {
	var b bytes.Buffer
	if err := c.pages[name].ExecuteTemplate(&b, part, fr); err != nil {
		c.Log.Error("cannot render a page", "page", name, "error", err)
		http.Error(w, "this page cannot be shown; the log of the node has the reason", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Add("Vary", "Accept-Encoding, Cookie")
	body := b.Bytes()
	if acceptsGzip(r) && len(body) > 1400 {
		var zipped bytes.Buffer
		z, _ := gzip.NewWriterLevel(&zipped, gzip.BestSpeed) // the level is valid
		_, _ = z.Write(body)                                 // to memory
		_ = z.Close()
		h.Set("Content-Encoding", "gzip")
		body = zipped.Bytes()
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // fails only if the client is gone
	}
}

// parse reads the templates. Each page has the layout and the components in common.
func (c *Console) parse() (map[string]*template.Template, error) {
	common, err := template.New("").Funcs(c.funcs()).ParseFS(files, "templates/layout.html", "templates/components.html")
	if err != nil {
		return nil, err
	}
	entries, err := files.ReadDir("templates")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".html")
		if !ok || name == "layout" || name == "components" {
			continue
		}
		own, err := common.Clone()
		if err == nil {
			pages[name], err = own.ParseFS(files, "templates/"+e.Name())
		}
		if err != nil {
			return nil, err
		}
	}
	return pages, nil
}
