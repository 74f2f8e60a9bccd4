// Package openapi makes registries of OpenAPI documents, and OpenAPI documents of registries.
//
// What a registry says and OpenAPI has no word for, such as the name of a service, stands in the member x-quorumhub of an operation.
package openapi

// extension is the member of an operation with what OpenAPI has no word for.
const extension = "x-quorumhub"

// origin is the content of the extension.
type origin struct {
	Service      string   `json:"service"`
	Version      string   `json:"version"`
	Default      bool     `json:"default,omitempty"`
	Auth         string   `json:"auth,omitempty"`
	Wildcard     bool     `json:"wildcard,omitempty"`
	Aliases      []alias  `json:"aliases,omitempty"`
	DeprecatedAt string   `json:"deprecated_at,omitempty"`
	SunsetAt     string   `json:"sunset_at,omitempty"`
	Successor    string   `json:"successor,omitempty"`
	Produces     []string `json:"produces,omitempty"`
}

type alias struct {
	URI    string `json:"uri" yaml:"uri"`
	Status int    `json:"status,omitempty" yaml:"status,omitempty"`
}

// below is the name of the path parameter that stands for what a wildcard matches.
const below = "below"
