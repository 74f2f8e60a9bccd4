package secrecy_test

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
	"quorumhub/test/secrecy"
)

func TestMain(m *testing.M) { os.Exit(hubtest.Main(m)) }

// A planted secret is found in every encoding, and nothing is found without it.
func TestSearchFindsWhatIsPlanted(t *testing.T) {
	secret := "Pl/+nted? secret=\"of\" 34 bytes & ü"
	s := secrecy.Secrets{"it": []byte(secret)}
	long := strings.Repeat("surrounding text ", 100)
	asJSON, err := json.Marshal(map[string]string{"secret": secret})
	if err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string]string{
		"clear": secret, "hex": hex.EncodeToString([]byte(secret)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"query": url.Values{"x": {secret}}.Encode(), "path": url.PathEscape(secret), "JSON": string(asJSON), "quoted": fmt.Sprintf("%q", secret),
		"bytes": fmt.Sprint([]byte(secret)), "spaced hex": fmt.Sprintf("% X", secret), "base32": base32.StdEncoding.EncodeToString([]byte(secret)),
		"base64": base64.StdEncoding.EncodeToString([]byte(secret)), "base64url": base64.URLEncoding.EncodeToString([]byte(secret)),
		"base64 at offset 5": base64.StdEncoding.EncodeToString([]byte("user:" + secret + ":more")), "base64 at another": base64.StdEncoding.EncodeToString([]byte("name:" + secret + "-")),
		"base64url at offset 3": base64.RawURLEncoding.EncodeToString([]byte("abc" + secret)), "beginning": secret[:20], "end": secret[len(secret)-20:],
		"end in base64": base64.StdEncoding.EncodeToString([]byte(secret[len(secret)-18:])), "beginning in hex": hex.EncodeToString([]byte(secret[:17])),
	} {
		if found := s.Search([]byte(long + text + long)); len(found) == 0 {
			t.Errorf("%s: the secret is not found in %s", form, text)
		}
	}
	if found := s.Search([]byte(long + secret[:8] + long + secret[20:28])); len(found) > 0 {
		t.Errorf("found in text without the secret: %v", found)
	}
}
