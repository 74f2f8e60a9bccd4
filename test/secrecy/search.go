package secrecy

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Secrets maps names to the secrets that must not show.
type Secrets map[string][]byte

// fragment is how many bytes of a long secret count as the whole secret.
const fragment = 16

// Finding is a secret that was found.
type Finding struct {
	Secret, Form string
	Around       string // the text before it, to locate it
}

func (f Finding) String() string {
	return fmt.Sprintf("%s %s, after %q", f.Secret, f.Form, f.Around)
}

// Search looks for all secrets in content, in clear and in the usual encodings, whole or in part.
func (s Secrets) Search(content []byte) (out []Finding) {
	folded := bytes.ToLower(content)
	for _, name := range slices.Sorted(maps.Keys(s)) {
		for _, p := range patterns(s[name]) {
			in, what := content, p.text
			if p.anyCase {
				in, what = folded, bytes.ToLower(what)
			}
			if i := bytes.Index(in, what); i >= 0 {
				out = append(out, Finding{name, p.form, strings.ToValidUTF8(string(content[max(0, i-60):i]), ".")})
			}
		}
	}
	return out
}

type pattern struct {
	form    string
	text    []byte
	anyCase bool
}

func patterns(secret []byte) (out []pattern) {
	seen := map[string]bool{}
	add := func(form string, anyCase bool, text string) {
		// Short texts occur by chance.
		if len(text) >= 8 && !seen[text] {
			seen[text] = true
			out = append(out, pattern{form, []byte(text), anyCase})
		}
	}
	parts := map[string][]byte{"": secret}
	if len(secret) >= fragment+8 {
		parts[", its beginning"], parts[", its end"] = secret[:fragment], secret[len(secret)-fragment:]
	}
	for _, which := range slices.Sorted(maps.Keys(parts)) {
		part := parts[which]
		text := string(part)
		add("in the clear"+which, false, text)
		add("in hex"+which, true, hex.EncodeToString(part))
		add("in hex with spaces"+which, true, fmt.Sprintf("% x", part))
		add("as numbers"+which, false, strings.Trim(fmt.Sprint(part), "[]"))
		add("URL-encoded"+which, true, url.QueryEscape(text))
		add("URL-encoded as a path"+which, true, url.PathEscape(text))
		add("URL-encoded throughout"+which, true, strings.ToLower("%"+strings.ReplaceAll(fmt.Sprintf("% x", part), " ", "%")))
		add("quoted"+which, false, strings.Trim(fmt.Sprintf("%q", text), `"`))
		if j, err := json.Marshal(text); err == nil {
			add("in JSON"+which, false, strings.Trim(string(j), `"`))
		}
		add("in base32"+which, true, base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(part[:len(part)/5*5]))
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			// After 0, 1 or 2 other bytes the encoding differs. Characters at the edges depend on the
			// neighbouring bytes.
			for shift := range 3 {
				b := enc.EncodeToString(append(make([]byte, shift), part...))
				from := (shift*8 + 5) / 6
				to := (shift + len(part)) * 8 / 6
				add("in base64"+which, false, b[from:to])
			}
		}
	}
	return out
}
