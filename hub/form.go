package hub

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"quorumhub/hub/hubpb"
)

// MaxSecretBytes is the longest hub.secret: it must be less than 200 bytes (WebSub 5.1).
const MaxSecretBytes = 199

const maxVerifyTokenBytes = 512

// SubscribeRequest is a subscribe or unsubscribe request that has passed all checks of the request itself.
type SubscribeRequest struct {
	Mode         hubpb.Mode // ModeSubscribe or ModeUnsubscribe
	Topic        string     // topic name
	TopicRaw     string     // as sent
	Callback     string     // as sent
	CallbackURL  *url.URL
	CallbackKey  string
	LeaseSeconds int64
	Secret       []byte // nil: none
	Signature    string // empty: the hub's default
	Scheme       string // SchemeStandardWebhooks, or empty
	VerifyToken  string
	// EncryptionKey is a public key to which deliveries are to be encrypted, as sent; empty: none.
	EncryptionKey string
	Headers       map[string]string // to be sent with every request to the callback, by canonical name
	Options       Options
	Start         *Position // where a new subscription starts; nil: after the newest message
}

// ParseSubscribe parses a subscribe or unsubscribe request from its form body. Unknown parameters are ignored (WebSub
// 5.1). Errors are *Error and name the parameter.
func ParseSubscribe(form url.Values, namer *TopicNamer, leases LeasePolicy) (*SubscribeRequest, error) {
	r := &SubscribeRequest{}
	switch mode, err := single(form, "hub.mode"); {
	case err != nil:
		return nil, err
	case mode == "subscribe":
		r.Mode = ModeSubscribe
	case mode == "unsubscribe":
		r.Mode = ModeUnsubscribe
	default:
		return nil, ParamErrorf("hub.mode", "is %s; expected subscribe or unsubscribe", quote(mode))
	}
	var err error
	if r.Callback, err = single(form, "hub.callback"); err != nil {
		return nil, err
	}
	if r.CallbackURL, err = ParseURL("hub.callback", r.Callback); err != nil {
		return nil, err
	}
	r.CallbackKey = NormalizeURL(r.Callback)
	if r.TopicRaw, err = single(form, "hub.topic"); err != nil {
		return nil, err
	}
	if r.Topic, err = namer.Name("hub.topic", r.TopicRaw); err != nil {
		return nil, err
	}
	if r.VerifyToken, err = single(form, "hub.verify_token"); err != nil {
		return nil, err
	}
	if len(r.VerifyToken) > maxVerifyTokenBytes {
		return nil, ParamErrorf("hub.verify_token", "is %d bytes long; at most %d are accepted", len(r.VerifyToken), maxVerifyTokenBytes)
	}
	if r.Mode == ModeUnsubscribe {
		return r, nil
	}
	return r, r.parseSubscribeOnly(form, leases)
}

// parseSubscribeOnly parses the parameters that an unsubscribe request must ignore, even malformed ones.
func (r *SubscribeRequest) parseSubscribeOnly(form url.Values, leases LeasePolicy) error {
	lease, err := single(form, "hub.lease_seconds")
	if err != nil {
		return err
	}
	if r.LeaseSeconds, err = leases.Grant(lease); err != nil {
		return err
	}
	secret, err := once(form, "hub.secret") // any bytes will do: they key the signature
	if err != nil {
		return err
	}
	if len(secret) > MaxSecretBytes {
		return ParamErrorf("hub.secret", "is %d bytes long; it must be less than 200 bytes", len(secret))
	}
	if secret != "" {
		r.Secret = []byte(secret)
	}
	if r.Signature, err = chooseSignature(form); err != nil {
		return err
	}
	if r.Headers, err = headersOf(form); err != nil {
		return err
	}
	if r.EncryptionKey, err = single(form, encryptionKeyParam); err != nil {
		return err
	}
	if len(r.EncryptionKey) > maxEncryptionKeyBytes {
		return ParamErrorf(encryptionKeyParam, "is %d bytes long; at most %d are accepted", len(r.EncryptionKey), maxEncryptionKeyBytes)
	}
	if err = r.chooseScheme(form); err != nil {
		return err
	}
	return r.parseOptions(form)
}

// SignatureMethods returns the methods of X-Hub-Signature (WebSub 7.1), weakest first.
func SignatureMethods() []string { return []string{"sha1", "sha256", "sha384", "sha512"} }

// chooseSignature returns the method that a subscriber asks for in hub.signature_method, or else the strongest that it
// lists in hub.hash_algorithms: extensions for subscribers that support only some of them. Without either the hub's
// default applies.
func chooseSignature(form url.Values) (string, error) {
	method, err := single(form, signatureMethodParam)
	if err != nil {
		return "", err
	}
	if method, err = ParseSignatureMethod(signatureMethodParam, method); err != nil || method != "" {
		return method, err
	}
	const param = "hub.hash_algorithms"
	list, err := single(form, param)
	if err != nil || !form.Has(param) {
		return "", err
	}
	best := -1
	for _, m := range strings.FieldsFunc(strings.ToLower(list), func(c rune) bool { return c == ',' || c == ' ' }) {
		best = max(best, slices.Index(SignatureMethods(), m))
	}
	if best < 0 {
		return "", ParamErrorf(param, "%s contains no method this hub supports; expected one or more of sha1, sha256, sha384, sha512", quote(list))
	}
	return SignatureMethods()[best], nil
}

// encryptionKeyParam is an extension: a public JWK, or certificates as x5c or PEM.
const encryptionKeyParam = "hub.encryption_key"

const maxEncryptionKeyBytes = 16 << 10

const signatureMethodParam = "hub.signature_method"

// ParseSignatureMethod returns a method of X-Hub-Signature as the hub spells it; an empty one is none. Errors are
// *Error and name param.
func ParseSignatureMethod(param, text string) (string, error) {
	method := strings.ToLower(text)
	if method != "" && !slices.Contains(SignatureMethods(), method) {
		return "", ParamErrorf(param, "is %s; expected sha1, sha256, sha384 or sha512", quote(text))
	}
	return method, nil
}

// ParseTopicForm parses the topic of a register or deregister request from its form body.
func ParseTopicForm(form url.Values, namer *TopicNamer) (string, error) {
	raw, err := single(form, "hub.topic")
	if err != nil {
		return "", err
	}
	return namer.Name("hub.topic", raw)
}

// single returns a parameter's value, or "" if it is missing. A repeated parameter is an error, since guessing which
// value was meant would be worse.
func single(form url.Values, param string) (string, error) {
	v, err := once(form, param)
	if err == nil && !utf8.ValidString(v) {
		return "", ParamErrorf(param, "is not valid UTF-8")
	}
	return v, err
}

func once(form url.Values, param string) (string, error) {
	v := form[param]
	switch len(v) {
	case 0:
		return "", nil
	case 1:
		return v[0], nil
	}
	return "", ParamErrorf(param, "is given %d times; expected once", len(v))
}
