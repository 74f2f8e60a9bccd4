package console

import (
	"context"
	"net/http"

	"quorumhub/auth"
	"quorumhub/web/problem"
	"quorumhub/web/sse"
)

// Ports is what the console needs of the server. The implementation makes the same decisions as the API, by the same code.
type Ports interface {
	OverviewPorts
	ClusterPorts
	DataPorts
	GatewayPorts
	AccessPorts
	EventPorts

	// Viewer returns who looks at the page.
	Viewer(ctx context.Context) Viewer
	// May reports whether the viewer may take an action on everything, as an operator. It is for deciding what to offer: the routes
	// that act decide for themselves.
	May(ctx context.Context, action auth.Action) bool
	// Problem describes an error to the viewer. The text of an internal one goes to the log.
	Problem(w http.ResponseWriter, r *http.Request, err error) *problem.Details
	// ReadBody reads the body of a request, of at most limit bytes, within the bounds of the server's memory. Release it when it is no
	// longer used.
	ReadBody(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error)
	// OpenStream starts an event stream to the viewer, which counts as one of its streams. The context ends when the viewer leaves,
	// when it may no longer have the page, and when the node stops. Call done before the handler returns. Without an error the
	// response has begun.
	OpenStream(w http.ResponseWriter, r *http.Request) (ctx context.Context, out *sse.Writer, done func(), err error)
	// Written returns an index at or after every acknowledged write through this node, and AwaitIndex waits until this node has
	// applied it.
	Written() uint64
	AwaitIndex(ctx context.Context, index uint64) error
}

// Viewer is who looks at a page.
type Viewer struct {
	// Name names it to itself; empty: the hub asks for no credentials.
	Name string
	// ID is its principal's ID, empty for nobody.
	ID string
	// Session says that it has logged in, and so can log out.
	Session bool
	// Operator sees what others own. So does everybody on a hub that asks for no credentials.
	Operator bool
}

// scope names whose things the viewer sees: viewers of equal scope may share what is rendered.
func (v *Viewer) scope() string {
	if v.Operator {
		return "everybody"
	}
	return "owner " + v.ID
}
