package registry

import (
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"quorumhub/web/gateway/webhook"
)

// Document is a registry as it is applied and replicated: its text and everything the text refers to.
type Document struct {
	// Text is the registry in YAML, JSON or XML.
	Text []byte
	// Files are the files that the text names, by the name it uses: JSON Schemas, certificates, revocation lists, accounts.
	Files map[string][]byte
	// Secrets are the values of the references ${NAME} in the text, by NAME, and of ${file:NAME}, by file:NAME. They are never
	// shown or logged.
	Secrets map[string]string
}

// Registry is a checked registry with all defaults filled in. Treat it as immutable.
type Registry struct {
	Version   int // of the format; 1
	Prefix    string
	Defaults  Defaults
	Upstreams map[string]Upstream
	Verifiers map[string]Verifier
	// Sequences are named sequences of authentication steps. The name of an authenticator alone is a sequence of one step.
	Sequences map[string][]Step
	// Trust are the authorities that certificates of partners are checked against.
	Trust map[string]Trust
	// Keys are the hub's own private keys, which decrypt protected requests.
	Keys     map[string]Key
	Services []Service
	Topics   []TopicPolicy // the first match wins
	// Schemas are the JSON Schemas that bodies and responses name, compiled, by file name.
	Schemas map[string]*jsonschema.Schema
	// Files are the document's.
	Files map[string][]byte
}

// Names that need no entry in Sequences: the hub's own order of authenticators, and nobody's credentials.
const (
	AuthDefault = "default"
	AuthNone    = "none"
)

// Defaults apply to every version that does not say otherwise.
type Defaults struct {
	Timeout  time.Duration
	MaxBody  int64 // bytes
	Produces []Format
	Auth     string
}

// Format is a representation that the gateway reads or produces.
type Format string

// Formats.
const (
	FormatJSON Format = "json"
	FormatXML  Format = "xml"
)

// Upstream is a service behind the gateway, at one or more addresses. Nothing else is ever called.
type Upstream struct {
	Name    string
	URLs    []string // without a slash at the end
	Retry   int      // further attempts of an idempotent request
	Breaker Breaker
	Headers map[string]string // secrets resolved
	// Timeout bounds the connection and the response's header; 0: what is left of the version's Timeout.
	Timeout time.Duration
	// ConnectTimeout bounds the wait for a connection; 0: 3 s. IdleTimeout bounds each wait for the next piece of a response;
	// 0: 30 s.
	ConnectTimeout, IdleTimeout time.Duration
	MaxInFlight                 int // calls under way on a node; 0: 2048
	Eject                       Eject
	Token                       *Token // nil: the service behind gets no token
}

// Breaker opens after Failures consecutive failures, for OpenFor. Failures 0: never.
type Breaker struct {
	Failures int
	OpenFor  time.Duration
}

// Eject takes an address out after Failures consecutive failures, for For, which doubles up to Max while it keeps failing.
// Failures 0: never.
type Eject struct {
	Failures int
	For, Max time.Duration
}

// Token is the token that the gateway mints for the service behind.
type Token struct {
	Audience string
	TTL      time.Duration
	Claims   map[string]any
	// Accounts says where the accounts at the service are listed: a file of the document, topic:<name>, or a URL. Empty: every
	// authenticated caller has one.
	Accounts string
}

// Verifier checks that a webhook comes from its sender.
type Verifier struct {
	Name string
	// Config is what webhook.New takes.
	webhook.Config
}

// Step is one step of a sequence.
type Step struct {
	Strategy string // single, multi, parallel or failover
	Of       []string
	Require  string // of parallel: all or any; empty with Min
	Min      int    // of parallel: at least so many
	Retries  int
}

// Trust is a set of authorities, in PEM.
type Trust struct {
	Name  string
	Roots []byte
	CRL   []byte // PEM or DER; nil: none
}

// Key is a private key of the hub, in PEM or as a JWK.
type Key struct {
	Name    string
	Private string
}

// Service is one entry of the registry: a relative URI and its versions.
type Service struct {
	Name string
	// URI is relative to the prefix, without a leading slash. A segment {name} stands for any one segment. One that ends in /* in the
	// text matches all below it.
	URI      string
	Wildcard bool // the text's URI ends in /*, which is cut off; URI "" is then everything
	Aliases  []Alias
	Default  string // the version of requests that name none
	Versions []Version
	Position Position
}

// Alias is another URI of a service; it is a wildcard if the service's is. Status 0 means that requests are rewritten inside, with a
// Deprecation header.
type Alias struct {
	URI    string
	Status int
}

// Status is the stage of a version's life.
type Status string

// Stages of a version's life.
const (
	StatusActive     Status = "active"
	StatusDeprecated Status = "deprecated"
	StatusRetired    Status = "retired"
)

// Version is one version of a service: what the pipeline does with its requests.
type Version struct {
	Version      string
	Status       Status
	DeprecatedAt time.Time // zero: not said
	SunsetAt     time.Time // zero: not said
	Successor    string    // another version of the service; empty: none
	Target       Target    // a retired version may have none: its Kind is empty
	Methods      []string  // upper case; a HEAD or OPTIONS is only served if it is listed
	Timeout      time.Duration
	MaxBody      int64 // bytes
	Auth         string
	Permission   *Permission // nil: every authenticated caller may
	Params       []Param
	Body         *Body
	Response     Response
	Limits       Limits
	Produces     []Format
	FormatParam  bool   // ?format= chooses the format
	Verifier     string // empty: none
	// Key says where a message's key comes from, such as header:X-GitHub-Delivery; for topic targets.
	Key string
	// CarryHeaders are headers of a webhook that are stored with the message.
	CarryHeaders []string
	Protect      *Protect
	Position     Position
}

// TargetKind is what a version's requests reach.
type TargetKind string

// Kinds of target.
const (
	TargetUpstream TargetKind = "upstream"
	TargetTopic    TargetKind = "topic"
	TargetHub      TargetKind = "hub"
)

// Target is where the requests of a version go.
type Target struct {
	Kind TargetKind
	// Name is the upstream, the topic or the hub's operation.
	Name string
	// Path is the path at the upstream; see Match.UpstreamPath.
	Path string
}

// String returns the target as in the registry's text.
func (t Target) String() string {
	switch t.Kind {
	case TargetUpstream:
		return t.Name + ":" + t.Path
	case "":
		return ""
	default:
		return string(t.Kind) + ":" + t.Name
	}
}

// Permission is what the caller must be allowed.
type Permission struct{ Action, Resource string }

// Param is a parameter of a request.
type Param struct {
	Name     string
	In       string // query, header or path
	Required bool
	Pattern  string // a regular expression (RE2) for the whole value; empty: any
	MaxBytes int    // 0: no limit of its own
}

// Body is what a request's body must be.
type Body struct {
	Schema   string   // name of a JSON Schema among Registry.Schemas; empty: any
	Consumes []Format // empty: any content type
	// Enforce is false for topics where a body that breaks the schema is reported but accepted. Of services it is always true.
	Enforce bool
}

// Response is what happens to an upstream's response.
type Response struct {
	Unwrap     bool
	Arrays     []string
	Strip      []string
	Root       string
	Namespaces bool
	Schema     string
}

// Limits bound what one principal may ask of a version. Zero values: no limit.
type Limits struct {
	Rate         Rate
	Concurrency  int
	PerPrincipal int // of a topic's subscribe: subscriptions
}

// Rate is so many requests in so much time.
type Rate struct {
	Requests int
	Per      time.Duration
}

// Protect says how payloads are protected.
type Protect struct {
	Decrypt string // a key's name
	Verify  *Verify
	// Release lists, by permission, the JSON pointers that pass; "*" is everything.
	Release map[string][]string
	Encrypt string // "recipient" or empty
	Trust   string // of deliveries: whose certificates the keys of subscribers must have; empty: anybody's
}

// Verify is the check of a signed payload.
type Verify struct {
	JWS   bool
	Trust string
}

// TopicPolicy is what the gateway does with a topic's publishes, subscribes and deliveries.
type TopicPolicy struct {
	Match     string // see ParsePattern
	Publish   *PublishPolicy
	Subscribe *SubscribePolicy
	Deliver   *DeliverPolicy
	Position  Position
}

// PublishPolicy is checked before a message is stored.
type PublishPolicy struct {
	Auth   string // empty: whatever the hub accepts
	Body   *Body
	Limits Limits
}

// SubscribePolicy is checked before a subscription is asked for.
type SubscribePolicy struct {
	Auth          string   // empty: whatever the hub accepts
	CallbackHosts []string // host names, *. before one for all names below it; empty: any
	RequireHTTPS  bool
	Limits        Limits
}

// DeliverPolicy changes what is sent to callbacks.
type DeliverPolicy struct {
	Headers map[string]string
	Strip   []string // JSON pointers
	Protect *Protect
}

// Position is a place in the registry's text, counted from 1.
type Position struct{ Line, Column int }

// Mistake is one thing that is wrong with a registry.
type Mistake struct { //nolint:errname // a mistake is data first
	Position
	Path   string // such as services[3].versions[0].target
	Detail string // what is wrong, and what is expected
}
