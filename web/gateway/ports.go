package gateway

import (
	"context"
	"crypto/x509"
	"net/http"
	"time"

	"quorumhub/web/gateway/registry"
	"quorumhub/web/problem"
)

// Source supplies the registry in force. Safe for concurrent use.
type Source interface {
	// Current returns the registry in force, or false if there is none.
	Current() (Active, bool)
	// Changed receives after the registry in force has changed. Several changes may be one.
	Changed() <-chan struct{}
}

// Active is a registry in force.
type Active struct {
	Document registry.Document
	Hash     string // hex SHA-256 of the document
	Index    uint64 // place in the log
	// AppliedAt is when it was applied, the same on all nodes.
	AppliedAt time.Time
}

// Caller is who sent a request.
type Caller struct {
	ID        string // <authority>/<subject>; empty: nobody
	Issuer    string // the authority that vouches for Subject
	Subject   string
	Method    string
	Anonymous bool
	// Key identifies the caller for limits and usage: the ID, or the address of an anonymous caller.
	Key string
	// Address is the client's, and Scheme http or https, as far as trusted proxies tell.
	Address, Scheme string
	Geo             *Geo // of signed callers that name systems
	// Certificate is the client certificate of the connection, if it was verified.
	Certificate *x509.Certificate
	// EncryptionKey is the certificate (PEM) or JWK that answers to the caller are encrypted to, if one is on record.
	EncryptionKey []byte
	// Settle uses up credentials that are for one use; nil for others.
	Settle func(context.Context) error
}

// Geo names whom a request with GEO-Auth speaks for, and between which systems.
type Geo struct{ Username, SourceSystem, TargetSystem string }

// Way is how the callers of a version must prove who they are. Safe for concurrent use.
type Way interface {
	// Authenticate finds out who sent a request. The request it returns carries the caller in its context; it is to be used from
	// then on. A caller without credentials is Anonymous. A body that a signature covers has at most maxBody bytes.
	Authenticate(w http.ResponseWriter, r *http.Request, maxBody int64) (*http.Request, Caller, error)
	// Required reports whether anonymous callers are to be refused.
	Required() bool
	// Challenges are the WWW-Authenticate values that advertise what it accepts.
	Challenges() []string
	// LogIn returns the URL at which the sender of a request without credentials can log in, and come back; empty: the sender cannot,
	// because it is a program, or because there is nothing that a person could do.
	LogIn(w http.ResponseWriter, r *http.Request) string
}

// Callers identifies callers and decides what they may do. Safe for concurrent use.
type Callers interface {
	// Way returns the way of an authenticator's name, registry.AuthDefault or registry.AuthNone or, with steps, of a sequence. The
	// error says what this node lacks for it.
	Way(name string, steps []registry.Step) (Way, error)
	// Sender makes the sender of webhooks that a verifier has vouched for the caller.
	Sender(w http.ResponseWriter, r *http.Request, verifier string) (*http.Request, Caller)
	// Allowed returns nil if the caller of ctx may perform an action on a resource. It does not settle credentials.
	Allowed(ctx context.Context, action, resource string) error
	// Holds is Allowed for what is no request: nothing is audited.
	Holds(ctx context.Context, action, resource string) bool
	// Problem describes an error of this or another port to a client, or returns nil for an internal one.
	Problem(err error) *problem.Details
}

// Bodies counts the bodies in memory. Safe for concurrent use; the writer identifies the caller whose share is taken.
type Bodies interface {
	// Hold reads the whole body of at most limit bytes. Errors are *problem.Details. Call release even after an error.
	Hold(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error)
	// Stream says that the body will be read as it arrives, for as long as deadline allows. ended says that all of it was read.
	Stream(w http.ResponseWriter, r *http.Request, deadline time.Time) (ended func())
	// Take reserves bytes for a response, until Give.
	Take(w http.ResponseWriter, bytes int64) error
	Give(w http.ResponseWriter, bytes int64)
}

// Publication is a message for a topic.
type Publication struct {
	ContentType    string
	Body           []byte
	IdempotencyKey string
	Headers        []Header
	// Granted: the registry itself grants the sender the topic, because a verifier vouches for it.
	Granted bool
}

// Header is a header that is kept with a message.
type Header struct {
	Name, Value string
	Carried     bool // sent with deliveries
}

// Publisher publishes to topics. When Publish returns without an error, the message is durable on a quorum.
type Publisher interface {
	Publish(w http.ResponseWriter, r *http.Request, topic string, p Publication) (id string, duplicate bool, err error)
	// MaxBytes is the largest message.
	MaxBytes() int64
}

// Nonces remembers what was used once, on all nodes. Of several claims of one nonce exactly one is fresh.
type Nonces interface {
	Claim(ctx context.Context, scope string, nonce [32]byte, until time.Time) (fresh bool, err error)
}

// Operations are the operations of the hub that a registry can offer. Each asks for the same permission as in the API.
type Operations interface {
	// Operation returns an operation, which writes its answer to w; rest is what follows the service's URI in the path, and outer
	// the writer of the response, which identifies the caller.
	Operation(name string) (func(outer, w http.ResponseWriter, r *http.Request, rest string), bool)
}

// Transports opens the way to an upstream, and to nothing else. Close it when it is no longer used.
type Transports func(registry.Upstream) (http.RoundTripper, error)
