package hub

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"quorumhub/hub/hubpb"
)

// Bounds of a gateway's registry.
const (
	MaxGatewayBytes       = 8 << 20 // text and files together
	MaxGatewayFiles       = 1000
	MaxGatewaySecretBytes = 64 << 10 // names and values together
	maxGatewayNameBytes   = 255      // of a file or a secret
	gatewaySaltBytes      = 32
)

// GatewayDocument is the gateway's registry with all it refers to. What it says is up to the GatewayChecker and those who
// load it.
type GatewayDocument struct {
	// Text is the registry in YAML, JSON or XML.
	Text []byte
	// Files are the files that the text names, by the name it uses.
	Files map[string][]byte
	// Secrets are the values of the references in the text, by name. They are sealed before they enter the log, and never
	// shown (invariant I10).
	Secrets map[string]string
}

// GatewayMistake is one thing that is wrong with a registry.
type GatewayMistake struct {
	Line, Column int    // in the text, from 1; 0: unknown
	Path         string // such as services[3].versions[0].target
	Detail       string // what is wrong, and what is expected
}

// String returns the mistake as one line.
func (m GatewayMistake) String() string {
	text := m.Detail
	if m.Path != "" {
		text = m.Path + ": " + text
	}
	if m.Line > 0 {
		text = fmt.Sprintf("%d:%d: %s", m.Line, m.Column, text)
	}
	return text
}

// InvalidGatewayError is the error for a registry that was refused.
type InvalidGatewayError struct {
	Mistakes []GatewayMistake // at least one
}

func (e *InvalidGatewayError) Error() string {
	text := "the registry is refused: " + e.Mistakes[0].String()
	switch n := len(e.Mistakes) - 1; n {
	case 0:
	case 1:
		text += " (and 1 more mistake)"
	default:
		text += fmt.Sprintf(" (and %d more mistakes)", n)
	}
	return text
}

// GatewayChecker checks a registry before it is applied. Safe for concurrent use.
type GatewayChecker interface {
	// CheckGateway returns everything that is wrong with a registry.
	CheckGateway(d *GatewayDocument) []GatewayMistake
}

// SecretNames returns the names of the secrets, in order.
func (d *GatewayDocument) SecretNames() []string { return slices.Sorted(maps.Keys(d.Secrets)) }

// checkSize returns an error for a document over one of the bounds.
func (d *GatewayDocument) checkSize() error {
	size := len(d.Text)
	for name, data := range d.Files {
		if name == "" || len(name) > maxGatewayNameBytes {
			return ParamErrorf("files", "have the name %s; expected 1 to %d bytes", quote(name), maxGatewayNameBytes)
		}
		size += len(name) + len(data)
	}
	secrets := 0
	for name, value := range d.Secrets {
		if name == "" || len(name) > maxGatewayNameBytes {
			return ParamErrorf("secrets", "have the name %s; expected 1 to %d bytes", quote(name), maxGatewayNameBytes)
		}
		secrets += len(name) + len(value)
	}
	switch {
	case len(d.Text) == 0:
		return ParamErrorf("text", "is empty; expected a registry")
	case len(d.Files) > MaxGatewayFiles:
		return Errorf(CodeTooLarge, "the registry has %d files; at most %d are accepted", len(d.Files), MaxGatewayFiles)
	case size > MaxGatewayBytes:
		return Errorf(CodeTooLarge, "the registry and its files are %d bytes; at most %d are accepted", size, MaxGatewayBytes)
	case secrets > MaxGatewaySecretBytes:
		return Errorf(CodeTooLarge, "the secrets of the registry are %d bytes; at most %d are accepted", secrets, MaxGatewaySecretBytes)
	}
	return nil
}

// hash returns the identity of the document. The secrets enter it with a salt that is secret too, so that the hash does not
// help to guess them.
func (d *GatewayDocument) hash(salt []byte) string {
	h := sha256.New()
	var n [8]byte
	put := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	put(d.Text)
	for _, name := range slices.Sorted(maps.Keys(d.Files)) {
		put([]byte(name))
		put(d.Files[name])
	}
	h.Write([]byte("secrets"))
	for _, name := range slices.Sorted(maps.Keys(d.Secrets)) {
		put([]byte(name))
		digest := hmac.New(sha256.New, salt)
		digest.Write([]byte(name))
		digest.Write([]byte{0})
		digest.Write([]byte(d.Secrets[name]))
		h.Write(digest.Sum(nil))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// pack encodes text and files as they are stored.
func (d *GatewayDocument) pack() ([]byte, error) {
	p := &hubpb.GatewayDocument{Text: d.Text}
	for _, name := range slices.Sorted(maps.Keys(d.Files)) {
		p.Files = append(p.Files, &hubpb.GatewayDocument_File{Name: name, Data: d.Files[name]})
	}
	raw, err := proto.Marshal(p)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// maxGatewayPacked bounds what a stored document unpacks to: its envelope takes some bytes per file.
const maxGatewayPacked = MaxGatewayBytes + 1<<20

// unpackGateway is the inverse of pack.
func unpackGateway(packed io.Reader) (GatewayDocument, error) {
	var d GatewayDocument
	r, err := gzip.NewReader(packed)
	if err != nil {
		return d, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxGatewayPacked+1))
	if err != nil {
		return d, err
	}
	if len(raw) > maxGatewayPacked {
		return d, fmt.Errorf("it unpacks to more than %d bytes", maxGatewayPacked)
	}
	p := new(hubpb.GatewayDocument)
	if err := proto.Unmarshal(raw, p); err != nil {
		return d, err
	}
	d.Text, d.Files, d.Secrets = p.GetText(), map[string][]byte{}, map[string]string{}
	for _, f := range p.GetFiles() {
		d.Files[f.GetName()] = f.GetData()
	}
	return d, nil
}

// packSecrets encodes the secrets as they are sealed.
func (d *GatewayDocument) packSecrets(salt []byte) ([]byte, error) {
	p := &hubpb.GatewaySecrets{Salt: salt}
	for _, name := range slices.Sorted(maps.Keys(d.Secrets)) {
		p.Secrets = append(p.Secrets, &hubpb.GatewaySecrets_Secret{Name: name, Value: d.Secrets[name]})
	}
	return proto.Marshal(p)
}

// unpackSecrets is the inverse of packSecrets.
func unpackSecrets(b []byte) (salt []byte, secrets map[string]string, err error) {
	p := new(hubpb.GatewaySecrets)
	if err := proto.Unmarshal(b, p); err != nil {
		return nil, nil, err
	}
	secrets = map[string]string{}
	for _, s := range p.GetSecrets() {
		secrets[s.GetName()] = s.GetValue()
	}
	return p.GetSalt(), secrets, nil
}
