// Package web is the HTTP face of quorumhub: the WebSub hub endpoint, the topics that the hub hosts, the admin API,
// health and metrics.
//
// Handlers are plain net/http; echo does no more than find them (router.go), so that another router touches one
// file. The room knows the domain (package hub) and interfaces; it imports neither raft, storage nor delivery.
//
// Memory is bounded: headers by size, connections by number, and bodies by one budget of bytes that every
// request draws from before it reads (budget.go). A request that finds it empty gets 503 with Retry-After, a client that has
// used up its share of it 429. What callers may ask in a minute is bounded by class (limits.go).
package web
