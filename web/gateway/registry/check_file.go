package registry

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// trust reads the files of authorities.
func (c *checker) trust() {
	n := valueOf(c.root, "trust")
	if n == nil {
		return
	}
	pairs(n, func(name string, v *yaml.Node) {
		at := in("trust", name)
		t := Trust{Name: name}
		if roots := valueOf(v, "roots"); roots != nil {
			t.Roots = c.file(text(roots), below(at, "roots"))
			if err := certificates(t.Roots); t.Roots != nil && err != nil {
				c.failf(below(at, "roots"), "%s: %s", clip(text(roots)), err)
			}
		}
		if crl := valueOf(v, "crl"); crl != nil {
			t.CRL = c.file(text(crl), below(at, "crl"))
			if err := revocations(t.CRL); t.CRL != nil && err != nil {
				c.failf(below(at, "crl"), "%s: %s", clip(text(crl)), err)
			}
		}
		c.reg.Trust[name] = t
	})
}

// certificates checks PEM text of certificates.
func certificates(text []byte) error {
	count := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("block %d is a %s, expected only certificates", count+1, clip(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("block %d is not a certificate: %w", count+1, err)
		}
		count++
	}
	if count == 0 {
		return errors.New("no certificate, expected PEM")
	}
	return nil
}

func revocations(text []byte) error {
	der := text
	if block, _ := pem.Decode(text); block != nil {
		der = block.Bytes
	}
	if _, err := x509.ParseRevocationList(der); err != nil {
		return errors.New("not a revocation list, expected one in PEM or DER")
	}
	return nil
}

// keys checks private keys, as far as they are known.
func (c *checker) keys() {
	for _, name := range slices.Sorted(maps.Keys(c.reg.Keys)) {
		text := c.reg.Keys[name].Private
		if text == "" || c.draft && refers(text) {
			continue
		}
		if !privateKey(text) {
			c.fail("not a private key, expected one in PEM (PKCS #8, PKCS #1 or SEC 1) or as a JWK", "keys", name, "private")
		}
	}
}

func privateKey(text string) bool {
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		var jwk struct {
			Type    string `json:"kty"`
			Private string `json:"d"`
		}
		return json.Unmarshal([]byte(text), &jwk) == nil && jwk.Type != "" && jwk.Private != ""
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return false
	}
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		_, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		_, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		_, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	return err == nil
}

// schemaBase is where the document's files are for the schema compiler.
const schemaBase = "registry:///"

// fileLoader gives schemas the document's files, and nothing else.
type fileLoader map[string][]byte

func (l fileLoader) Load(address string) (any, error) {
	name, ours := strings.CutPrefix(address, schemaBase)
	if unescaped, err := url.PathUnescape(name); err == nil {
		name = unescaped
	}
	content, ok := l[name]
	if !ours || !ok {
		return nil, fmt.Errorf("refers to %q, expected only files beside the registry", clip(address))
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(content))
}

// schemas compiles the JSON Schemas that the registry names.
func (c *checker) schemas() {
	c.reg.Schemas = map[string]*jsonschema.Schema{}
	failed := map[string]bool{}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(fileLoader(c.reg.Files))
	compile := func(name string, path []any) {
		if _, have := c.reg.Files[name]; name == "" || !have || c.reg.Schemas[name] != nil || failed[name] {
			return
		}
		schema, err := compiler.Compile(schemaBase + (&url.URL{Path: name}).EscapedPath())
		if err != nil {
			failed[name] = true
			c.failf(path, "%s is not a JSON Schema: %s", clip(name), schemaMessage(err))
			return
		}
		c.reg.Schemas[name] = schema
	}
	for i := range c.reg.Services {
		for j := range c.reg.Services[i].Versions {
			v := &c.reg.Services[i].Versions[j]
			if v.Body != nil {
				compile(v.Body.Schema, in("services", i, "versions", j, "body", "schema"))
			}
			compile(v.Response.Schema, in("services", i, "versions", j, "response", "schema"))
		}
	}
	for i, t := range c.reg.Topics {
		if t.Publish != nil && t.Publish.Body != nil {
			compile(t.Publish.Body.Schema, in("topics", i, "publish", "body", "schema"))
		}
	}
}

// schemaMessage says in one line why a schema does not compile.
func schemaMessage(err error) string {
	var invalid *jsonschema.SchemaValidationError
	if errors.As(err, &invalid) {
		err = invalid.Err
	}
	var broken *jsonschema.ValidationError
	if errors.As(err, &broken) {
		for len(broken.Causes) > 0 {
			broken = broken.Causes[0]
		}
		lines := strings.Split(broken.Error(), "\n")
		return clip(strings.TrimSpace(strings.TrimPrefix(lines[len(lines)-1], "- ")))
	}
	message := strings.ReplaceAll(err.Error(), schemaBase, "")
	message, _, _ = strings.Cut(message, "\n")
	const most = 300
	return strings.ToValidUTF8(message[:min(len(message), most)], "")
}

// schemaFiles returns the files that the JSON Schema in a file refers to.
func schemaFiles(name string, content []byte) []string {
	var schema any
	if json.Unmarshal(content, &schema) != nil {
		return nil
	}
	var out []string
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				if ref, is := v[key].(string); is && (key == "$ref" || key == "$dynamicRef") {
					if u, err := url.Parse(ref); err == nil && u.Scheme == "" && u.Host == "" && u.Path != "" {
						out = append(out, path.Join(path.Dir(name), u.Path))
					}
					continue
				}
				visit(v[key])
			}
		case []any:
			for _, item := range v {
				visit(item)
			}
		}
	}
	visit(schema)
	return out
}
