package view

import (
	"context"
	"time"

	"quorumhub/web/gateway/registry"
)

// Gateway is the gateway of this node. Safe for concurrent use.
type Gateway interface {
	// Serving returns what this node serves at present, which may be an earlier registry than the replicated one.
	Serving() GatewayServing
	// Usage returns who calls which version, over all nodes that answer.
	Usage(ctx context.Context) GatewayUsage
}

// GatewayServing is what a node's gateway serves.
type GatewayServing struct {
	Hash     string // of the document; empty: no registry
	Index    uint64 // of the log entry that applied it
	LoadedAt time.Time
	Registry *registry.Registry // nil: none
	// Errors say why the node does not serve the newest registry, or not all of it.
	Errors    []string
	Upstreams []GatewayUpstream
}

// GatewayUpstream is how a service behind the gateway is doing, as this node sees it.
type GatewayUpstream struct {
	Name      string           `json:"name"`
	Breaker   string           `json:"breaker"` // closed, open or half-open
	Addresses []GatewayAddress `json:"addresses"`
}

// GatewayAddress is one address of an upstream.
type GatewayAddress struct {
	URL      string     `json:"url"`
	Healthy  bool       `json:"healthy"`
	Ejected  *time.Time `json:"ejected_until,omitempty"`
	InFlight int        `json:"in_flight"`
	Requests uint64     `json:"requests"`
	Failures uint64     `json:"failures"`
}

// GatewayUsage counts calls since each node started.
type GatewayUsage struct {
	Items []GatewayUse `json:"items"` // most used first
	Nodes []string     `json:"nodes"` // that are counted
	// Missing are nodes that did not answer.
	Missing []string `json:"missing"`
}

// GatewayUse counts the calls of one version by one consumer.
type GatewayUse struct {
	Consumer string    `json:"consumer"` // principal, or "other" for those beyond the bound
	Service  string    `json:"service"`
	Version  string    `json:"version"`
	Requests uint64    `json:"requests"`
	Failures uint64    `json:"failures"` // answered with 5xx
	LastAt   time.Time `json:"last_at"`
}
