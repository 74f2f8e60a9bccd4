package hub

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what is sent with requests to a callback.
const (
	MaxCallbackHeaders     = 16
	maxCallbackHeaderBytes = 4 << 10 // names and values together
	maxCredentialBytes     = 2 << 10 // of each other text
)

// headerParam precedes the name of a header in a subscribe request, an extension.
const headerParam = "hub.header."

// Credentials is what the hub sends with each request to a callback so that the callback accepts it: headers, and at most one
// kind of Authorization.
type Credentials struct {
	Headers map[string]string  `json:"headers,omitempty"` // by canonical name, once checked
	Basic   *BasicCredentials  `json:"basic,omitempty"`
	Bearer  string             `json:"bearer,omitempty"`
	OAuth2  *ClientCredentials `json:"oauth2,omitempty"`
}

// BasicCredentials are sent as Basic authentication (RFC 7617).
type BasicCredentials struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// ClientCredentials obtain an access token (RFC 6749 section 4.4), which is then sent as a Bearer token.
type ClientCredentials struct {
	TokenURL     string `json:"token_url"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	Scope        string `json:"scope,omitempty"`
	Audience     string `json:"audience,omitempty"`
}

// Check validates the credentials and puts the names of headers into canonical form. Errors are *Error, name the field, and
// contain no values.
func (c *Credentials) Check() error {
	headers := make(map[string]string, len(c.Headers))
	size := 0
	for name, value := range c.Headers {
		canonical, err := checkHeader("headers", name, value)
		if err != nil {
			return err
		}
		if _, twice := headers[canonical]; twice {
			return ParamErrorf("headers", "contains %s twice; expected each name once", quote(canonical))
		}
		headers[canonical] = value
		size += len(name) + len(value)
	}
	if len(headers) > MaxCallbackHeaders || size > maxCallbackHeaderBytes {
		return tooManyHeaders("headers", len(headers), size)
	}
	c.Headers = headers
	kinds := 0
	for _, given := range []bool{headers["Authorization"] != "", c.Basic != nil, c.Bearer != "", c.OAuth2 != nil} {
		if given {
			kinds++
		}
	}
	if kinds > 1 {
		return Errorf(CodeInvalid, "several kinds of Authorization are given; expected one of basic, bearer, oauth2 and the header Authorization")
	}
	if kinds == 0 && len(headers) == 0 {
		return Errorf(CodeInvalid, "nothing to send is given; expected headers, basic, bearer or oauth2")
	}
	return c.checkAuthorization()
}

func tooManyHeaders(param string, n, size int) error {
	return ParamErrorf(param, "are %d headers of %d bytes; expected at most %d of %d bytes in all", n, size, MaxCallbackHeaders, maxCallbackHeaderBytes)
}

func (c *Credentials) checkAuthorization() error {
	texts := map[string]string{"bearer": c.Bearer}
	if b := c.Basic; b != nil {
		if b.User == "" || strings.Contains(b.User, ":") {
			return ParamErrorf("basic.user", "is empty or contains a colon; expected a user name")
		}
		texts["basic.user"], texts["basic.password"] = b.User, b.Password
	}
	if o := c.OAuth2; o != nil {
		if o.ClientID == "" || o.ClientSecret == "" {
			return ParamErrorf("oauth2", "lacks client_id or client_secret; expected both")
		}
		u, err := ParseURL("oauth2.token_url", o.TokenURL)
		if err != nil {
			return err
		}
		if addr, _ := netip.ParseAddr(u.Hostname()); u.Scheme != "https" && !addr.IsLoopback() && u.Hostname() != "localhost" {
			return ParamErrorf("oauth2.token_url", "is %s; expected https, because the client's secret is sent there", quote(o.TokenURL))
		}
		for name, v := range map[string]string{"client_id": o.ClientID, "client_secret": o.ClientSecret, "scope": o.Scope, "audience": o.Audience} {
			texts["oauth2."+name] = v
		}
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if v := texts[name]; len(v) > maxCredentialBytes || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return ParamErrorf(name, "is longer than %d bytes or contains a control character", maxCredentialBytes)
		}
	}
	return nil
}

// Kind describes credentials without revealing them: basic, bearer, oauth2 or "".
func (c *Credentials) Kind() string {
	switch {
	case c.Basic != nil:
		return "basic"
	case c.Bearer != "":
		return "bearer"
	case c.OAuth2 != nil:
		return "oauth2"
	}
	return ""
}

// reservedHeaders are what the hub itself, HTTP or the way to a callback decides about.
func reservedHeader(name string) bool {
	switch name {
	case "Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade",
		"Expect", "Link", "User-Agent", "Accept", "Accept-Encoding", "Date", "Via", "Forwarded", "X-Idempotency-Key", "Idempotency-Key":
		return true
	}
	for _, prefix := range []string{"X-Hub-", "Webhook-", "Proxy-", "X-Forwarded-", "Sec-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// checkHeader returns the canonical name of a header that may be sent. Errors do not contain the value.
func checkHeader(param, name, value string) (string, error) {
	const punctuation = "!#$%&'*+-.^_`|~" // in a token (RFC 9110 section 5.6.2)
	for i := range len(name) {
		if c := name[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte(punctuation, c) < 0 {
			return "", ParamErrorf(param, "has the name %s; expected a name of letters, digits and hyphens", quote(name))
		}
	}
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case name == "":
		return "", ParamErrorf(param, "has no name; expected a name of letters, digits and hyphens")
	case reservedHeader(canonical):
		return "", ParamErrorf(param, "is %s, which the hub sends itself; expected another header", quote(canonical))
	case value == "" || strings.TrimSpace(value) != value || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f }):
		return "", ParamErrorf(param, "has an empty value, or one with control characters, bytes beyond ASCII or blanks around it; expected printable ASCII")
	}
	return canonical, nil
}

// headersOf returns the headers that a subscribe request wants with its deliveries, by canonical name; nil: none.
func headersOf(form url.Values) (map[string]string, error) {
	var out map[string]string
	size := 0
	for _, param := range slices.Sorted(maps.Keys(form)) {
		name, ok := strings.CutPrefix(param, headerParam)
		if !ok {
			continue
		}
		value, err := single(form, param)
		if err != nil {
			return nil, err
		}
		canonical, err := checkHeader(param, name, value)
		if err != nil {
			return nil, err
		}
		if _, twice := out[canonical]; twice {
			return nil, ParamErrorf(param, "is given in two spellings; expected once")
		}
		if out == nil {
			out = map[string]string{}
		}
		out[canonical] = value
		if size += len(name) + len(value); len(out) > MaxCallbackHeaders || size > maxCallbackHeaderBytes {
			return nil, tooManyHeaders(param, len(out), size)
		}
	}
	return out, nil
}

// HeadersBinding is SecretBinding for the headers of a subscription.
func HeadersBinding(topicName, callbackKey string) string {
	return "hub.header\x00" + topicName + "\x00" + callbackKey
}

// CallbackBinding is SecretBinding for the credentials that an operator has set.
func CallbackBinding(pattern string) string { return "callback\x00" + pattern }

// ParseCredentials is the inverse of Credentials.Encode.
func ParseCredentials(b []byte) (Credentials, error) {
	var c Credentials
	err := json.Unmarshal(b, &c)
	return c, err
}

// Encode returns the credentials as they are sealed.
func (c *Credentials) Encode() ([]byte, error) { return json.Marshal(c) }

// ParseCallbackPattern checks what credentials are for: a callback's URL, or a host, with or without a port:
// hooks.example.org, *.example.org (every name below), hooks.example.org:8443, [fd00::1]. It returns the canonical form.
func ParseCallbackPattern(s string) (string, error) {
	const param = "callback"
	if strings.Contains(s, "://") {
		if _, err := ParseURL(param, s); err != nil {
			return "", err
		}
		return NormalizeURL(s), nil
	}
	s = strings.ToLower(s)
	wrong := ParamErrorf(param, "is %s; expected the URL of a callback, or a host such as hooks.example.org, *.example.org or hooks.example.org:8443", quote(s))
	u, err := url.Parse("http://" + strings.TrimPrefix(s, "*."))
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil || len(s) > 300 {
		return "", wrong
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", wrong
		}
	}
	if host := u.Hostname(); strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		if addr, err := netip.ParseAddr(host); err != nil || addr.Zone() != "" {
			return "", wrong
		}
	}
	return s, nil
}

// callbackPatterns returns the patterns that match a callback, the most specific first.
func callbackPatterns(callback string) []string {
	u, err := url.Parse(callback)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host := strings.ToLower(u.Hostname())
	name := host
	if strings.Contains(host, ":") {
		name = "[" + host + "]"
	}
	out := []string{NormalizeURL(callback), name + ":" + port, name}
	if _, err := netip.ParseAddr(host); err == nil {
		return out
	}
	for {
		_, below, ok := strings.Cut(host, ".")
		if !ok {
			return out
		}
		host = below
		out = append(out, "*."+host+":"+port, "*."+host)
	}
}

// CallbackCredentials describes credentials that an operator has set, without revealing them.
type CallbackCredentials struct {
	Pattern string   // see ParseCallbackPattern
	Kind    string   // basic, bearer, oauth2 or "": headers only
	Headers []string // names, sorted
	Sealed  []byte
	SetAt   int64 // Unix nanoseconds
	By      string
}

// CallbackCredentials returns what operators have set, in order of pattern.
func (s *State) CallbackCredentials() []CallbackCredentials {
	out := make([]CallbackCredentials, 0, len(s.callbacks))
	for _, r := range s.callbacks {
		e := r.GetSet()
		out = append(out, CallbackCredentials{e.GetCallback(), e.GetKind(), e.GetHeaders(), e.GetSealed(), r.GetSetAt(), e.GetBy()})
	}
	slices.SortFunc(out, func(a, b CallbackCredentials) int { return cmp.Compare(a.Pattern, b.Pattern) })
	return out
}

// CredentialsFor returns the sealed credentials of the most specific pattern that matches a callback.
func (s *State) CredentialsFor(callback string) (pattern string, sealed []byte, ok bool) {
	if len(s.callbacks) == 0 {
		return "", nil, false
	}
	for _, p := range callbackPatterns(callback) {
		if r := s.callbacks[p]; r != nil {
			return p, r.GetSet().GetSealed(), true
		}
	}
	return "", nil, false
}

// HasCallbackCredentials reports whether operators have set any.
func (s *State) HasCallbackCredentials() bool { return len(s.callbacks) > 0 }
