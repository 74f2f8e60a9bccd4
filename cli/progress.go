package cli

import "fmt"

// writeProgress prints how far the deliveries have come. The node that delivers knows first. What is replicated, and so known to the
// whole cluster, follows within delivery.cursor_flush; until then another node that took over would repeat the difference.
func (d *subscriptionDetail) writeProgress(line func(name, format string, args ...any)) {
	if d.Delivery == nil || d.Delivery.Progress == nil {
		line("cursor", "%d, lag %d, as last recorded in the cluster", d.Cursor, d.Lag)
		line("delivered", "%d", d.Delivered)
		return
	}
	p := d.Delivery.Progress
	ahead := ""
	if p.Ahead > 0 {
		ahead = fmt.Sprintf(" and %d after it", p.Ahead)
	}
	line("acknowledged", "message %d of %d%s, %d to go", p.Acknowledged, p.Head, ahead, p.Lag)
	switch {
	case p.Delivered > d.Delivered && p.Acknowledged != d.Cursor:
		line("cursor", "%d: the cluster has yet to record %d acknowledgements, which a node that took over now would repeat", d.Cursor, p.Delivered-d.Delivered)
	case p.Acknowledged != d.Cursor:
		line("cursor", "%d: the cluster has yet to record the rest", d.Cursor)
	default:
		line("cursor", "%d, as acknowledged", d.Cursor)
	}
	line("delivered", "%d", p.Delivered)
}
