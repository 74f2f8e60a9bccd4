// Package web serves HTTP: the WebSub hub endpoint, hosted topics, the admin API, health and metrics.
//
// Handlers are plain net/http; only router.go knows echo. Problem details are in web/problem, server-sent events in web/sse. The
// package imports hub and auth, and reaches the cluster, storage and delivery through interfaces (options.go).
//
// Memory is bounded: headers in size and number, connections in number, and bodies by one budget of bytes that every request
// draws on as they arrive (budget.go). A request that finds it empty gets 503 with Retry-After; a caller that has used up its
// share gets 429. Whoever may not do what a request asks is refused before its body is read. Rate limits apply by caller and class of request (limits.go).
package web
