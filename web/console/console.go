package console

import (
	"cmp"
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"quorumhub/hub"
	"quorumhub/web/view"
)

// Options configures a Console. Ports, Service, State and Nodes are required.
type Options struct {
	Ports   Ports
	Service *hub.Service
	State   hub.StateReader
	Nodes   view.Cluster
	// Messages reads the message log. nil: pages do not say when a message was published.
	Messages hub.MessageReader

	// Base is the path of the hub's public URL, without a slash at its end.
	Base    string
	Version string
	// Refresh is how often what live pages show is read again. 0: 2 s.
	Refresh time.Duration
	// Heartbeat is how often an idle live page is sent something. 0: 15 s.
	Heartbeat time.Duration
	Clock     hub.Clock    // nil: the system clock
	Log       *slog.Logger // nil: nothing is logged
}

// Console serves the pages. Make it with New and Close it at the end. Safe for concurrent use.
type Console struct {
	Options
	assets  *assets
	pages   map[string]*template.Template
	studios studios
	doings  doings
	catalog catalog
}

// New makes a Console.
func New(o Options) (*Console, error) {
	if o.Ports == nil || o.Service == nil || o.State == nil || o.Nodes == nil {
		return nil, errors.New("console: Ports, Service, State and Nodes are required")
	}
	if o.Clock == nil {
		o.Clock = hub.SystemClock{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Refresh = cmp.Or(o.Refresh, 2*time.Second)
	o.Heartbeat = cmp.Or(o.Heartbeat, 15*time.Second)
	c := &Console{Options: o}
	var err error
	if c.assets, err = newAssets(); err != nil {
		return nil, err
	}
	if c.pages, err = c.parse(); err != nil {
		return nil, err
	}
	c.studios.init(c)
	c.doings.init()
	return c, nil
}

// Close ends the producers of live pages and what goes on in the background, and waits for both.
func (c *Console) Close() {
	c.studios.close()
	c.doings.close()
}

// Index sends visitors of /console to the overview, whose address ends in a slash.
func (c *Console) Index(w http.ResponseWriter, _ *http.Request) {
	c.redirect(w, "/")
}

// redirect sends a browser to another page of the console.
func (c *Console) redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", c.at(to))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}

// at returns the address of a page by its path below /console.
func (c *Console) at(path string) string { return c.Base + "/console" + path }

// now returns the cluster's time.
func (c *Console) now() time.Time { return c.Clock.Now() }

// viewer returns who looks.
func (c *Console) viewer(ctx context.Context) Viewer { return c.Ports.Viewer(ctx) }
