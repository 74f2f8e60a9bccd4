package form

import (
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
)

// totpBytes is the length of a secret: that of SHA-1's output (RFC 4226 section 4).
const totpBytes = 20

// NewTOTP makes a secret for one-time codes. text is what settings keep, in base32, and url what an authenticator app takes, as a QR code
// or typed in.
func NewTOTP(issuer, account string) (text, url string, err error) {
	key, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: account, SecretSize: totpBytes, Period: totpPeriod, Digits: totpDigits, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return "", "", fmt.Errorf("make a secret for one-time codes: %w", err)
	}
	return key.Secret(), key.URL(), nil
}

// totpSecret checks a secret and returns it in the form that is compared by.
func totpSecret(text string) (string, error) {
	text = strings.ToUpper(strings.TrimRight(strings.Join(strings.Fields(text), ""), "="))
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	if err != nil {
		return "", fmt.Errorf("is not in base32; expected the output of quorumhub auth new-totp")
	}
	if len(raw) < 16 {
		return "", fmt.Errorf("has %d bytes; expected at least 16 (RFC 4226 section 4)", len(raw))
	}
	return text, nil
}
