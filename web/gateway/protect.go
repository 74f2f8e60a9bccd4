package gateway

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"quorumhub/web/gateway/protect"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/problem"
)

// releaseHeader tells the caller which permissions let through what it sees.
const releaseHeader = "X-Gateway-Release"

// protection is how payloads of a version are protected.
type protection struct {
	keys    protect.Keys   // empty: requests are not encrypted
	verify  bool           // requests are signed
	trust   *protect.Trust // of signers and recipients; nil: no authority in particular
	release []policy       // empty: everything is released
	encrypt bool           // responses are encrypted
}

// policy is what one permission lets through.
type policy struct {
	permission string
	pointers   []string
}

func compileProtect(reg *registry.Registry, p *registry.Protect) (*protection, error) {
	if p == nil {
		return nil, nil //nolint:nilnil // nil means no protection
	}
	out := &protection{encrypt: p.Encrypt != ""}
	if p.Decrypt != "" {
		key, err := protect.ParseKey([]byte(reg.Keys[p.Decrypt].Private))
		if err != nil {
			return nil, fmt.Errorf("keys.%s: %w", p.Decrypt, err)
		}
		out.keys = protect.Keys{key}
	}
	if p.Verify != nil {
		t := reg.Trust[p.Verify.Trust]
		trust, err := protect.NewTrust(t.Roots, t.CRL)
		if err != nil {
			return nil, fmt.Errorf("trust.%s: %w", p.Verify.Trust, err)
		}
		out.verify, out.trust = p.Verify.JWS, trust
	}
	for _, name := range sortedNames(p.Release) {
		if err := protect.CheckPointers(p.Release[name]); err != nil {
			return nil, fmt.Errorf("release.%s: %w", name, err)
		}
		out.release = append(out.release, policy{name, p.Release[name]})
	}
	return out, nil
}

// decryptStage opens what the caller has encrypted, checks who has signed it, and makes sure that the answer may be given: that something
// may be released, and that there is somebody to encrypt it to.
type decryptStage struct{}

func (decryptStage) name() string { return "decrypt" }
func (decryptStage) explain(v *version) string {
	p := v.protection
	if p == nil {
		return ""
	}
	var parts []string
	if len(p.keys) > 0 {
		parts = append(parts, "JWE to the key "+v.Protect.Decrypt)
	}
	if p.verify {
		parts = append(parts, "JWS by a certificate of "+v.Protect.Verify.Trust+" that names the caller")
	}
	return strings.Join(parts, "; ")
}

func (decryptStage) do(x *exchange) error {
	p := x.version.protection
	if p == nil {
		return nil
	}
	if x.body.there && (len(p.keys) > 0 || p.verify) {
		if err := x.unprotect(p); err != nil {
			return err
		}
	}
	if len(p.release) > 0 {
		for _, one := range p.release {
			if x.g.Callers.Holds(x.ctx(), "call", one.permission) {
				x.released = append(x.released, one.permission)
				x.pointers = append(x.pointers, one.pointers...)
			}
		}
		if x.released == nil {
			return fault(http.StatusForbidden, codeForbidden, "nothing of this route may be released to this caller; it needs call on one of %s", strings.Join(x.version.policies(), ", "))
		}
	}
	if !p.encrypt {
		return nil
	}
	key := x.recipientKey()
	if key == nil {
		return fault(http.StatusForbidden, codeForbidden, "answers of this route are encrypted, and there is no key to encrypt to; sign the request, use a client certificate, or have an operator put your certificate on record (encryption_keys)")
	}
	to, err := protect.ParseRecipient(key, p.trust, x.g.Clock())
	if err != nil {
		return protectProblem(http.StatusForbidden, codeForbidden, err)
	}
	x.recipient = to
	return nil
}

// recipientKey returns whom the response is encrypted to: whoever signed the request, else the holder of the connection's certificate, else
// the key on record for the caller; nil: nobody.
func (x *exchange) recipientKey() []byte {
	for _, c := range []*x509.Certificate{x.signer, x.caller.Certificate} {
		if c != nil {
			return []byte(base64.StdEncoding.EncodeToString(c.Raw))
		}
	}
	return x.caller.EncryptionKey
}

func (v *version) policies() []string {
	var out []string
	for _, p := range v.protection.release {
		out = append(out, p.permission)
	}
	return out
}

// unprotect replaces the body by what is inside.
func (x *exchange) unprotect(p *protection) error {
	if kind, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type")); err != nil || kind != protect.ContentType {
		d := fault(http.StatusUnsupportedMediaType, codeUnsupported, "is %s; expected %s", problem.Quote(x.r.Header.Get("Content-Type")), protect.ContentType)
		d.Param = "Content-Type"
		return d
	}
	if err := x.hold(); err != nil {
		return err
	}
	inside, kind := x.body.held, ""
	var err error
	if len(p.keys) > 0 {
		if inside, kind, _, err = protect.Decrypt(inside, p.keys); err != nil {
			return protectProblem(http.StatusBadRequest, codeInvalid, err)
		}
	}
	if p.verify {
		if inside, kind, x.signer, err = protect.Verify(inside, p.trust, x.caller.Subject, x.g.Clock()); err != nil {
			return protectProblem(http.StatusForbidden, codeForbidden, err)
		}
	}
	if kind == "" {
		kind = "application/json"
	}
	if int64(len(inside)) > x.version.MaxBody {
		return tooLarge(x.version.MaxBody)
	}
	x.body.held, x.body.kind = inside, kind
	return x.checkContent()
}

// protectProblem tells what is wrong with a protected payload, without its cause.
func protectProblem(status int, code string, err error) error {
	var refused *protect.Error
	if !errors.As(err, &refused) {
		return err
	}
	return fault(status, code, "%s", refused.Detail)
}

// releaseStage removes what the caller has no permission for.
type releaseStage struct{}

func (releaseStage) name() string { return "release" }
func (releaseStage) explain(v *version) string {
	if v.protection == nil || len(v.protection.release) == 0 {
		return ""
	}
	var parts []string
	for _, p := range v.protection.release {
		parts = append(parts, p.permission+": "+strings.Join(p.pointers, ", "))
	}
	return strings.Join(parts, "; ")
}

func (releaseStage) do(x *exchange) error {
	if x.released == nil || x.resp.final {
		return nil
	}
	x.resp.header[releaseHeader] = slices.Clone(x.released)
	if x.resp.body == nil {
		return nil
	}
	doc, err := x.open()
	switch {
	case err != nil:
		return err
	case doc == nil:
		return x.documentFault(fmt.Errorf("%w: of what is neither JSON nor XML nothing can be released", errUpstreamBody))
	case len(doc.text) == 0:
		return nil
	}
	if err := x.turn(registry.FormatJSON); err != nil {
		return err
	}
	if doc.text, err = protect.Release(doc.text, x.pointers); err != nil {
		return x.documentFault(err)
	}
	return nil
}

// encryptStage encrypts the response for its recipient.
type encryptStage struct{}

func (encryptStage) name() string { return "encrypt" }
func (encryptStage) explain(v *version) string {
	if v.protection == nil || !v.protection.encrypt {
		return ""
	}
	return "JWE to the certificate of who signed the request, else to the client certificate"
}

func (encryptStage) do(x *exchange) error {
	resp := x.resp
	if x.recipient == nil || resp.final || resp.body == nil {
		return nil
	}
	text, err := x.holdResponse(maxDocument)
	if err != nil {
		return x.documentFault(err)
	}
	sealed, err := protect.Encrypt(text, resp.header.Get("Content-Type"), x.recipient)
	if err != nil {
		return err
	}
	forgetBytes(resp)
	delete(resp.header, "Content-Encoding")
	resp.header["Content-Type"] = []string{protect.ContentType}
	resp.body, resp.length = readerOf(sealed), int64(len(sealed))
	return nil
}
