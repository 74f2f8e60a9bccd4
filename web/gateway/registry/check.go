package registry

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"quorumhub/web/gateway/token"
	"quorumhub/web/gateway/webhook"
)

// checker notes what is wrong with a registry's meaning. What is already wrong in its form is passed over.
type checker struct {
	*mistakes
	root     *yaml.Node
	reg      *Registry
	env      Environment
	draft    bool            // references may have been left as they are
	versions map[string]bool // the names of all versions
	routes   map[routeKey]*route1
	patterns map[string]string // by regular expression: what is wrong with it, or ""
}

// fail notes a mistake at a path of keys and indices.
func (c *checker) fail(detail string, path ...any) {
	if len(c.found) >= maxMistakes {
		c.more++
		return
	}
	n, where := find(c.root, path)
	at := positionOf(n)
	if c.flawed[at] {
		return
	}
	c.found = append(c.found, Mistake{Position: at, Path: where.String(), Detail: detail})
}

func (c *checker) failf(path []any, format string, args ...any) {
	c.fail(fmt.Sprintf(format, args...), path...)
}

// in makes a path.
func in(path ...any) []any { return path }

// below extends a path.
func below(path []any, more ...any) []any { return append(path[:len(path):len(path)], more...) }

func (c *checker) registry() {
	c.limitsOfFiles()
	c.defaults()
	for _, name := range slices.Sorted(maps.Keys(c.reg.Upstreams)) {
		c.upstream(name, c.reg.Upstreams[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.reg.Verifiers)) {
		c.verifier(name, c.reg.Verifiers[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.reg.Sequences)) {
		c.sequence(name, c.reg.Sequences[name])
	}
	c.trust()
	c.keys()
	c.services()
	c.topics()
	c.schemas()
}

func (c *checker) limitsOfFiles() {
	if n := len(c.reg.Files); n > MaxFiles {
		c.failf(nil, "names %d files, expected at most %d", n, MaxFiles)
	}
	for _, name := range slices.Sorted(maps.Keys(c.reg.Files)) {
		if n := len(c.reg.Files[name]); n > MaxFileBytes {
			c.failf(nil, "the file %q has %d bytes, expected at most %d", clip(name), n, MaxFileBytes)
		}
	}
}

func (c *checker) defaults() {
	d := c.reg.Defaults
	c.timeout(d.Timeout, in("defaults", "timeout"))
	c.maxBody(d.MaxBody, in("defaults", "max_body"))
	if d.Auth == AuthNone {
		c.fail("none as the default would leave every version open; expected none to be written at each version that needs no credentials", "defaults", "auth")
	} else {
		c.auth(d.Auth, in("defaults", "auth"))
	}
	unique(c, d.Produces, in("defaults", "produces"))
}

func (c *checker) timeout(d time.Duration, path []any) {
	if d < time.Millisecond || d > maxTimeout {
		c.failf(path, "got %s, expected 1ms to %s", d, maxTimeout)
	}
}

func (c *checker) maxBody(n int64, path []any) {
	if n < 1 || n > maxMaxBody {
		c.failf(path, "got %d bytes, expected 1 to %d", n, maxMaxBody)
	}
}

// auth checks the name of a sequence or authenticator.
func (c *checker) auth(name string, path []any) {
	if name == "" || name == AuthDefault || name == AuthNone || c.env == nil {
		return
	}
	if _, is := c.reg.Sequences[name]; is {
		return
	}
	if err := c.env.Authenticator(name); err != nil {
		c.failf(path, "unknown sequence or authenticator %q; %s", clip(name), err)
	}
}

// unique notes values of a list that are given twice.
func unique[T comparable](c *checker, values []T, path []any) {
	seen := make(map[T]bool, len(values))
	for i, v := range values {
		if seen[v] {
			c.failf(below(path, i), "%v is given twice", v)
		}
		seen[v] = true
	}
}

func (c *checker) upstream(name string, u Upstream) {
	path := in("upstreams", name)
	if name == string(TargetTopic) || name == string(TargetHub) {
		c.failf(path, "%s: has a meaning of its own in targets, expected another name", name)
	}
	unique(c, u.URLs, below(path, "urls"))
	for i, text := range u.URLs {
		if c.draft && refers(text) {
			continue
		}
		c.upstreamURL(text, below(path, "urls", i))
	}
	c.headers(u.Headers, below(path, "headers"))
	if u.Timeout != 0 {
		c.timeout(u.Timeout, below(path, "timeout"))
	}
	if u.ConnectTimeout != 0 {
		c.timeout(u.ConnectTimeout, below(path, "connect_timeout"))
	}
	if u.IdleTimeout != 0 {
		c.timeout(u.IdleTimeout, below(path, "idle_timeout"))
	}
	c.timeout(u.Eject.For, below(path, "eject", "for"))
	c.timeout(u.Eject.Max, below(path, "eject", "max"))
	if u.Breaker.Failures > 0 {
		c.timeout(u.Breaker.OpenFor, below(path, "breaker", "open_for"))
	}
	if t := u.Token; t != nil {
		c.token(t, below(path, "token"))
		for name := range u.Headers {
			if strings.EqualFold(name, "Authorization") {
				c.fail("is where the token goes, expected another header or no token", below(path, "headers", name)...)
			}
		}
	}
}

func (c *checker) upstreamURL(text string, path []any) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil {
		c.fail("not a URL, expected one such as http://127.0.0.1:9100 or https://hr.example/api", path...)
		return
	}
	port := u.Port()
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) || strings.HasSuffix(u.Host, ":") {
		c.failf(path, "got the port %q, expected 1 to 65535", clip(port))
		return
	}
	if detail := pathMistake(u.EscapedPath()); detail != "" {
		c.failf(path, "%s", detail)
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		addr = addr.Unmap()
		if addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast() || addr == netip.MustParseAddr("fd00:ec2::254") {
			c.failf(path, "%s is not an address of a service (unspecified, multicast or link-local)", addr)
			return
		}
	}
	if c.env != nil && c.env.OwnAddress(net.JoinHostPort(u.Hostname(), port)) {
		c.fail("is the hub itself, which would call itself without end; expected another service, or a target hub:<operation>", path...)
	}
}

// headers checks headers that the hub adds to what it sends.
func (c *checker) headers(headers map[string]string, path []any) {
	seen := make(map[string]bool, len(headers))
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		at := below(path, name)
		switch {
		case seen[canonical]:
			c.failf(at, "%s is given twice", canonical)
		case ownHeader(canonical):
			c.failf(at, "%s is the hub's to set, expected another header", canonical)
		case secretHeader(canonical):
			if n, _ := find(c.root, at); n != nil && !refers(n.Value) {
				c.fail("a secret in the clear, expected a reference such as ${NAME} or ${file:NAME}, whose value is given when the registry is applied", at...)
			}
		}
		seen[canonical] = true
	}
}

// ownHeader reports whether a header belongs to the connection or the message, or is one the gateway sets.
func ownHeader(name string) bool {
	switch name {
	case "Host", "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length", "Content-Encoding", "Expect",
		"X-Correlation-Id", "Traceparent", "Tracestate", "Forwarded":
		return true
	}
	for _, prefix := range []string{"Proxy-", "X-Gateway-", "X-Principal-", "X-Geo-", "X-Forwarded-"} {
		if strings.HasPrefix(name, prefix) && name != "Proxy-Authorization" {
			return true
		}
	}
	return false
}

// secretHeader reports whether a header's name says that its value is a credential.
func secretHeader(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"auth", "token", "secret", "password", "passwd", "cookie", "credential", "apikey", "api-key", "api_key", "access-key", "private", "signature"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return strings.HasSuffix(name, "-key")
}

func (c *checker) token(t *Token, path []any) {
	if t.TTL < time.Second || t.TTL > time.Hour {
		c.failf(below(path, "ttl"), "got %s, expected 1s to 1h", t.TTL)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Claims)) {
		switch name {
		case "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id":
			c.failf(below(path, "claims", name), "%s is the gateway's to set, expected another claim", name)
		}
		if err := token.CheckClaim(t.Claims[name]); err != nil {
			c.fail(err.Error(), below(path, "claims", name)...)
		}
	}
	switch accounts := t.Accounts; {
	case accounts == "", c.draft && refers(accounts):
	case isURL(accounts):
		c.upstreamURL(accounts, below(path, "accounts"))
	case isTopic(accounts):
		c.topicName(strings.TrimPrefix(accounts, "topic:"), below(path, "accounts"))
	default:
		if list := c.file(accounts, below(path, "accounts")); list != nil {
			if _, err := token.ParseList(list); err != nil {
				c.failf(below(path, "accounts"), "%s: %s", clip(accounts), err)
			}
		}
	}
}

// file returns a file of the document, and notes if it is missing.
func (c *checker) file(name string, path []any) []byte {
	if name == "" {
		return nil
	}
	if !localName(name) {
		c.failf(path, "got %q, expected a file beside or below the registry, such as schemas/order.json", clip(name))
		return nil
	}
	content, ok := c.reg.Files[name]
	if !ok {
		c.failf(path, "the file %q cannot be read, expected it beside the registry", clip(name))
	}
	return content
}

func (c *checker) topicName(name string, path []any) {
	if name == "" {
		c.fail("has no topic, expected topic:<name>", path...)
		return
	}
	if c.env == nil {
		return
	}
	if err := c.env.Topic(name); err != nil {
		c.failf(path, "topic %q: %s", clip(name), err)
	}
}

func (c *checker) verifier(name string, v Verifier) {
	path := in("verifiers", name)
	config := v.Config
	if slices.ContainsFunc(config.Secrets, refers) { // of a draft, or walk says so
		config.Secrets = []string{"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))} // one that every scheme takes
	}
	_, err := webhook.New(config)
	if err == nil {
		return
	}
	// What is wrong begins with the name of a key.
	key, _, _ := strings.Cut(err.Error(), " ")
	key, index, _ := strings.Cut(key, "[")
	at := below(path, key)
	if key == "secrets" {
		at = path
		if n, err := strconv.Atoi(strings.TrimSuffix(index, "]")); err == nil && n < len(v.Secrets) {
			at = below(path, "secrets", n)
			if node, _ := find(c.root, path); valueOf(node, "secret") != nil {
				at = below(path, "secrets", n-1)
				if n == 0 {
					at = below(path, "secret")
				}
			}
		}
	}
	c.failf(at, "%s", err)
}

func (c *checker) sequence(name string, steps []Step) {
	path := in("sequences", name)
	if name == AuthDefault || name == AuthNone {
		c.failf(path, "%s has a meaning of its own, expected another name", name)
	} else if c.env != nil && c.env.Authenticator(name) == nil {
		c.failf(path, "%s is also the name of an authenticator, expected another name", name)
	}
	for i, s := range steps {
		at := below(path, i)
		before := len(c.mistakes.found)
		unique(c, s.Of, below(at, "of"))
		switch n := len(s.Of); {
		case s.Strategy == "single" && n > 1:
			c.failf(below(at, "of"), "%d authenticators, but strategy single takes one; expected one, or another strategy", n)
		case s.Strategy != "single" && n == 1:
			c.failf(below(at, "of"), "one authenticator, but strategy %s needs at least two; expected more, or strategy single", s.Strategy)
		}
		if s.Strategy != "parallel" {
			if s.Require != "" {
				c.fail("is only for strategy parallel", below(at, "require")...)
			}
			if s.Min != 0 {
				c.fail("is only for strategy parallel", below(at, "min")...)
			}
		} else if s.Min != 0 && (s.Require != "" || s.Min > len(s.Of)) {
			c.failf(below(at, "min"), "got %d, expected at most the number of authenticators, and no require beside it", s.Min)
		}
		for j, authenticator := range s.Of {
			c.stepOf(authenticator, below(at, "of", j))
		}
		if c.env != nil && len(c.mistakes.found) == before {
			if err := c.env.Step(&steps[i]); err != nil {
				c.failf(below(at, "of"), "%s", err)
			}
		}
	}
}

func (c *checker) stepOf(name string, path []any) {
	_, nested := c.reg.Sequences[name]
	switch {
	case name == AuthNone, name == AuthDefault, nested:
		c.failf(path, "%s is not an authenticator, expected the name of one", name)
	case c.env != nil:
		if err := c.env.Authenticator(name); err != nil {
			c.failf(path, "unknown authenticator %q; %s", clip(name), err)
		}
	}
}

// regexp checks a regular expression for a whole value.
func (c *checker) regexp(expr string, path []any) {
	detail, known := c.patterns[expr]
	if !known {
		// By itself first: "a)|(?:b" must not close what it is put into, and nobody wrote what is put around it.
		_, err := regexp.Compile(expr)
		if err == nil {
			_, err = regexp.Compile(WholePattern(expr))
		}
		if err != nil {
			detail = strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		}
		if c.patterns == nil {
			c.patterns = map[string]string{}
		}
		c.patterns[expr] = detail
	}
	if detail != "" {
		c.failf(path, "got %q, expected a regular expression (RE2): %s", clip(expr), clip(detail))
	}
}

// WholePattern returns the regular expression that matches what Param.Pattern matches as a whole.
func WholePattern(expr string) string { return `\A(?:` + expr + `)\z` }
