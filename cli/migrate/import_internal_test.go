package migrate

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// sealAs encrypts like MOSIP's hub.
func sealAs(t testing.TB, key []byte, secret string) string {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	box, err := cipher.NewGCMWithNonceSize(block, secretIV)
	if err != nil {
		t.Fatal(err)
	}
	iv := []byte("0123456789abcdef")
	return "cipher{" + base64.StdEncoding.EncodeToString(append(box.Seal(nil, iv, []byte(secret), nil), iv...)) + "}"
}

// Secrets can be decrypted with keys of both formats, from the environment or a file, and with no other key.
func TestImportSecrets(t *testing.T) {
	raw := "0123456789abcdef01234567" // 24 characters, and base64 of 18 bytes
	bytes32 := []byte("\x00\x01\xfeabcdefghijklmnopqrstuvwxyz012")
	encoded := base64.StdEncoding.EncodeToString(bytes32)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(raw+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		format string
		file   string
		env    string
		sealed string
		want   string // the secret, or words of the error
	}{
		"text":                      {"alpha-numeric", "", raw, sealAs(t, []byte(raw), "s3cret"), "s3cret"},
		"text, detected":            {"auto", "", raw, sealAs(t, []byte(raw), "s3cret"), "s3cret"},
		"a file":                    {"auto", file, "other", sealAs(t, []byte(raw), "s3cret"), "s3cret"},
		"base64":                    {"base64-encoded-bytes", "", encoded, sealAs(t, bytes32, "s3cret"), "s3cret"},
		"base64, detected":          {"auto", "", encoded, sealAs(t, bytes32, "s3cret"), "s3cret"},
		"base64 taken for text":     {"alpha-numeric", "", encoded, sealAs(t, bytes32, "s3cret"), "44 characters; expected a key of 16, 24 or 32 bytes"},
		"text taken for base64":     {"base64-encoded-bytes", "", raw, sealAs(t, []byte(raw), "s3cret"), "24 characters; expected a key of 16, 24 or 32 bytes"},
		"another key":               {"auto", "", "fedcba9876543210", sealAs(t, []byte(raw), "s3cret"), "cannot be decrypted with the key"},
		"changed":                   {"auto", "", raw, strings.Replace(sealAs(t, []byte(raw), "s3cret"), "cipher{", "cipher{AA", 1), "is damaged"},
		"cut off":                   {"auto", "", raw, "cipher{AAAA}", "is damaged"},
		"not base64":                {"auto", "", raw, "cipher{???}", "is damaged"},
		"not text":                  {"auto", "", raw, sealAs(t, []byte(raw), "\xff\xfe"), "decrypts to something other than text"},
		"without a key":             {"auto", "", "", sealAs(t, []byte(raw), "s3cret"), "is encrypted; expected the key"},
		"plain text":                {"auto", "", "", "s3cret", "s3cret"},
		"plain text, like a cipher": {"auto", "", "", "cipher{s3cret", "cipher{s3cret"},
		"none":                      {"auto", "", raw, "", ""},
		"a missing file":            {"auto", file + "x", raw, "", "no such file"},
	} {
		key, err := ReadSecretKey(c.file, c.format, []string{"X=1", secretKeyVariable + "=" + c.env})
		got := ""
		if err == nil {
			got, err = key.open(c.sealed)
		}
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != c.want || err != nil && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if err != nil && (strings.Contains(got, raw) || strings.Contains(got, encoded)) {
			t.Errorf("%s: the message shows the key: %s", name, got)
		}
	}
}

func TestImportTimestamps(t *testing.T) {
	for text, want := range map[string]string{
		`"2021-08-30T12:39:23.511Z"`:      "2021-08-30T12:39:23.511Z",
		`"2021-08-30T12:39:23+05:30"`:     "2021-08-30T07:09:23Z",
		`1630327163`:                      "2021-08-30T12:39:23Z",
		`"1630327163511"`:                 "2021-08-30T12:39:23.511Z",
		`"[1234567,0.5d]"`:                "", // time since the start of a machine
		`1234567`:                         "",
		`1.5`:                             "",
		`null`:                            "",
		`{}`:                              "",
		`"99999999999999999999999999999"`: "",
	} {
		fields, err := readFields(json.RawMessage(`{"timestamp":` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if at := dateOf(fields["timestamp"]); at != nil {
			got = at.UTC().Format(time.RFC3339Nano)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// Reading any file yields records that are complete or refused with a reason, or an error of one line that names the file. The report never
// contains an encrypted secret.
func FuzzReadImport(f *testing.F) {
	for _, name := range []string{"snapshot.json", "mosip-topics.txt", "mosip-subscribers.txt"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "test", "compat", "testdata", "import", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data), strings.HasPrefix(name, "mosip"))
		f.Add(string(data[:len(data)/2]), strings.HasPrefix(name, "mosip"))
	}
	for _, text := range []string{"", "{}", "[]", "[][{}]", `{"topics":[null],"subscriptions":[1]}`, `[{"topic":"a"}]` + "\n" + `[{"topic":"b"}]`, "\xef\xbb\xbf[]", `{"topics":[],"subscriptions":[{"hubTopic":"t","hubCallback":"http://x/","x":1e999}]}`} {
		f.Add(text, true)
		f.Add(text, false)
	}
	const secret = "a-secret-nobody-may-see"
	sealed := sealAs(f, []byte("0123456789abcdef"), secret)
	f.Add(fmt.Sprintf(`[{"hubTopic":"t","hubCallback":"http://x/","hubSecret":%q}]`, sealed), true)
	key, err := ReadSecretKey("", "auto", []string{secretKeyVariable + "=0123456789abcdef"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string, mosip bool) {
		from := fromBallerina
		if mosip {
			from = fromMOSIP
		}
		records, err := Read(from, "the-file", []byte(text), key)
		if err != nil {
			if msg := err.Error(); !strings.Contains(msg, "the-file") || strings.Contains(msg, "\n") || len(records) > 0 {
				t.Errorf("%d records and %q", len(records), msg)
			}
			return
		}
		settleDuplicates(records)
		settleAliases(records)
		for _, r := range records {
			switch {
			case r.Outcome == outcomeRefused && r.Reason == "", r.Outcome == "" && r.Topic == "", !strings.Contains(r.Where, "the-file"):
				t.Errorf("%+v", r)
			case r.Kind == kindSubscription && r.Outcome == "" && (r.payload == nil || r.Callback == "" || !utf8.ValidString(r.payload.Secret)):
				t.Errorf("%+v", r)
			}
			r.size()
		}
		var out strings.Builder
		if err := Summarize(records, false).Write(&out, true); err != nil {
			t.Error(err)
		}
		if strings.Contains(out.String(), secret) && !strings.Contains(text, secret) {
			t.Errorf("the report shows the secret:\n%s", out.String())
		}
	})
}
