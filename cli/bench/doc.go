// Package bench measures a running hub from the outside and reports each figure as a ratio to what the machine can do without a hub.
// It may import hub and delivery, for the HTTP client, and auth, for the API key of a caller.
//
// The hub runs in a child process; publishers and subscribers run in the measuring process. Subscribers use plain net/http. Publishers
// use the client that the hub delivers with: net/http's client costs three times as much, and a raw limit measured with it would
// flatter the hub. Because machines drift, the raw limit is measured immediately before and after each phase, with the same publishers
// posting directly to the same sink. The ratio uses the median, and the report shows the spread.
//
// Every delivery is counted by (message, callback), based on a number in the body rather than on what the hub says about it, so that
// lost and duplicate messages are noticed. Latency counts from the scheduled time of a message, not from when a publisher got around
// to sending it.
//
// The gateway is compared with httputil.ReverseProxy in front of the same service. Hub, proxy and service are processes of their own, and
// the windows of the measurements take turns, so that each ratio is of windows that ran one after the other.
package bench
