package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"hash"
	"net/http"
	"strings"
	"time"

	"quorumhub/web/problem"
)

// maxSignatures bounds the signatures that one request may bring.
const maxSignatures = 16

// signs reports whether one of the signatures is that of one of the keys over the parts. It takes the same time whichever
// it is.
func signs(algorithm func() hash.Hash, keys [][]byte, signatures [][]byte, parts ...[]byte) bool {
	good := false
	for _, key := range keys {
		mac := hmac.New(algorithm, key)
		for _, p := range parts {
			mac.Write(p)
		}
		want := mac.Sum(nil)
		for _, s := range signatures {
			if hmac.Equal(s, want) {
				good = true
			}
		}
	}
	return good
}

func wrongSignature() error {
	return refused("the signature is not that of any of the secrets over this request")
}

// unhex decodes a signature of one length, in lower or upper case.
func unhex(s string, size int) ([]byte, bool) {
	b, err := hex.DecodeString(s)
	return b, err == nil && len(b) == size
}

// github is GitHub's X-Hub-Signature-256, HMAC-SHA256 of the body. Its older X-Hub-Signature, with SHA-1, is not looked at.
// https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
type github struct{ keys [][]byte }

func (v github) Verify(h http.Header, body []byte, _ time.Time) (Delivery, error) {
	header, err := once(h, "X-Hub-Signature-256")
	if err != nil {
		if len(h["X-Hub-Signature"]) > 0 {
			err = refused("X-Hub-Signature-256 is missing; X-Hub-Signature, with SHA-1, does not do")
		}
		return Delivery{}, err
	}
	id, err := once(h, "X-GitHub-Delivery")
	if err != nil {
		return Delivery{}, err
	}
	event, err := once(h, "X-GitHub-Event")
	if err != nil {
		return Delivery{}, err
	}
	if !plain(id, "") || !plain(event, "") {
		return Delivery{}, refused("X-GitHub-Delivery or X-GitHub-Event is longer than %d bytes or has characters other than visible ASCII", maxID)
	}
	text, ok := strings.CutPrefix(header, "sha256=")
	signature, isHex := unhex(text, sha256.Size)
	if !ok || !isHex {
		return Delivery{}, refused("X-Hub-Signature-256 is malformed; expected sha256= and 64 hexadecimal digits")
	}
	if !signs(sha256.New, v.keys, [][]byte{signature}, body) {
		return Delivery{}, wrongSignature()
	}
	return Delivery{ID: id, Event: event, Claim: hashOf(body)}, nil
}

// stripe is the v1 of Stripe-Signature, HMAC-SHA256 of time and body.
// https://docs.stripe.com/webhooks#verify-manually
type stripe struct {
	keys      [][]byte // with their prefix whsec_
	tolerance time.Duration
}

func (v stripe) Verify(h http.Header, body []byte, now time.Time) (Delivery, error) {
	header, err := once(h, "Stripe-Signature")
	if err != nil {
		return Delivery{}, err
	}
	var timestamp string
	var signatures [][]byte
	for item := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(item), "=")
		switch name {
		case "t":
			if timestamp != "" {
				return Delivery{}, refused("Stripe-Signature has two timestamps")
			}
			timestamp = value
		case "v1": // others are of the past (v0) or the future
			if s, ok := unhex(value, sha256.Size); ok {
				signatures = append(signatures, s)
			}
		}
		if len(signatures) > maxSignatures {
			return Delivery{}, refused("Stripe-Signature has more than %d signatures", maxSignatures)
		}
	}
	if timestamp == "" || len(signatures) == 0 {
		return Delivery{}, refused("Stripe-Signature is malformed; expected t= and at least one v1= with 64 hexadecimal digits")
	}
	sent, err := seconds(timestamp)
	if err != nil {
		return Delivery{}, err
	}
	if err := fresh(sent, now, v.tolerance); err != nil {
		return Delivery{}, err
	}
	signed := [][]byte{[]byte(timestamp), []byte("."), body}
	if !signs(sha256.New, v.keys, signatures, signed...) {
		return Delivery{}, wrongSignature()
	}
	told := fields(body, "id", "type")
	d := Delivery{ID: told[0], Event: told[1], SentAt: sent, Claim: claimOf(told[0]), ClaimUntil: sent.Add(v.tolerance)}
	if d.ID == "" {
		d.Claim = hashOf(signed...)
	}
	return d, nil
}

// slack is the v0 of X-Slack-Signature, HMAC-SHA256 of time and body.
// https://api.slack.com/authentication/verifying-requests-from-slack
type slack struct {
	keys      [][]byte
	tolerance time.Duration
}

func (v slack) Verify(h http.Header, body []byte, now time.Time) (Delivery, error) {
	header, err := once(h, "X-Slack-Signature")
	if err != nil {
		return Delivery{}, err
	}
	timestamp, err := once(h, "X-Slack-Request-Timestamp")
	if err != nil {
		return Delivery{}, err
	}
	sent, err := seconds(timestamp)
	if err != nil {
		return Delivery{}, err
	}
	if err := fresh(sent, now, v.tolerance); err != nil {
		return Delivery{}, err
	}
	text, ok := strings.CutPrefix(header, "v0=")
	signature, isHex := unhex(text, sha256.Size)
	if !ok || !isHex {
		return Delivery{}, refused("X-Slack-Signature is malformed; expected v0= and 64 hexadecimal digits")
	}
	signed := [][]byte{[]byte("v0:"), []byte(timestamp), []byte(":"), body}
	if !signs(sha256.New, v.keys, [][]byte{signature}, signed...) {
		return Delivery{}, wrongSignature()
	}
	told := fields(body, "event_id", "type")
	d := Delivery{ID: told[0], Event: told[1], SentAt: sent, Claim: claimOf(told[0]), ClaimUntil: sent.Add(v.tolerance)}
	if d.ID == "" { // of commands and interactions, which are forms
		d.Claim = hashOf(signed...)
	}
	return d, nil
}

// Challenge returns the answer to the question with which Slack checks a URL before it sends events there; ok is false for
// any other body. Verify the request first, then answer 200 with response as application/json, and publish nothing.
// https://api.slack.com/events/url_verification
func Challenge(body []byte) (response []byte, ok bool) {
	var question struct {
		Type      string `json:"type"`
		Challenge string `json:"challenge"`
	}
	if json.Unmarshal(body, &question) != nil || question.Type != "url_verification" || question.Challenge == "" || len(question.Challenge) > maxChallenge {
		return nil, false
	}
	response, err := json.Marshal(map[string]string{"challenge": question.Challenge})
	return response, err == nil
}

// maxChallenge is the length in bytes of the longest challenge that is sent back.
const maxChallenge = 1024

// standard is the v1 (HMAC-SHA256) and v1a (Ed25519) of webhook-signature over id, time and body. Which of the two counts
// is up to the keys. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
type standard struct {
	shared    [][]byte
	public    []ed25519.PublicKey
	tolerance time.Duration
}

func (v standard) Verify(h http.Header, body []byte, now time.Time) (Delivery, error) {
	id, err := once(h, "webhook-id")
	if err != nil {
		return Delivery{}, err
	}
	timestamp, err := once(h, "webhook-timestamp")
	if err != nil {
		return Delivery{}, err
	}
	header, err := once(h, "webhook-signature")
	if err != nil {
		return Delivery{}, err
	}
	if !plain(id, ".") { // a dot ends the id in the signed text
		return Delivery{}, refused("webhook-id is %s; expected at most %d characters of visible ASCII other than the dot", problem.Quote(id), maxID)
	}
	sent, err := seconds(timestamp)
	if err != nil {
		return Delivery{}, err
	}
	if err := fresh(sent, now, v.tolerance); err != nil {
		return Delivery{}, err
	}
	var v1, v1a [][]byte
	for item := range strings.SplitSeq(header, " ") {
		version, text, _ := strings.Cut(item, ",")
		signature, err := base64.StdEncoding.DecodeString(text)
		switch {
		case err != nil:
		case version == "v1" && len(signature) == sha256.Size:
			v1 = append(v1, signature)
		case version == "v1a" && len(signature) == ed25519.SignatureSize:
			v1a = append(v1a, signature)
		}
		if len(v1)+len(v1a) > maxSignatures {
			return Delivery{}, refused("webhook-signature has more than %d signatures", maxSignatures)
		}
	}
	signed := [][]byte{[]byte(id), []byte("."), []byte(timestamp), []byte("."), body}
	if !signs(sha256.New, v.shared, v1, signed...) && !v.signsPublicly(v1a, signed) {
		return Delivery{}, wrongSignature()
	}
	return Delivery{ID: id, Event: fields(body, "type")[0], SentAt: sent, Claim: claimOf(id), ClaimUntil: sent.Add(v.tolerance)}, nil
}

// signsPublicly is signs for the sender's public keys. It has nothing to keep secret.
func (v standard) signsPublicly(signatures, parts [][]byte) bool {
	if len(signatures) == 0 || len(v.public) == 0 {
		return false
	}
	var text []byte
	for _, p := range parts {
		text = append(text, p...)
	}
	for _, key := range v.public {
		for _, s := range signatures {
			if ed25519.Verify(key, text, s) {
				return true
			}
		}
	}
	return false
}
