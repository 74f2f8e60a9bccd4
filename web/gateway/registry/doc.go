// Package registry is the gateway's registry: which services stand behind the gateway, under which URIs and versions, and what the
// gateway does with their requests and responses. It reads a registry (YAML, JSON or XML), checks it, and finds the route of a
// request in it.
//
// A registry is a value: parsed once, then read by any number of goroutines. The package does no I/O; what a registry refers to,
// such as JSON Schemas and certificates, comes with it in a Document.
package registry
