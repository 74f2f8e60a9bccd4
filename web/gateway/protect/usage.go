package protect

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"time"
)

// purpose is what a certificate's key is to be used for.
type purpose bool

const (
	forSignatures purpose = false
	forEncryption purpose = true
)

// checkUsage refuses a certificate whose key is weak or for something else (RFC 5280 section 4.2.1.3). One that says nothing
// about its usage is for everything.
func checkUsage(c *x509.Certificate, p purpose) error {
	if c.IsCA {
		return refuse("the certificate is that of an authority; expected the party's own")
	}
	needed, name := x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment, "signatures (digitalSignature)"
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if p == forEncryption {
			needed, name = x509.KeyUsageKeyEncipherment|x509.KeyUsageDataEncipherment, "encryption (keyEncipherment)"
		}
		if err := checkRSA(k); err != nil {
			return err
		}
	case *ecdsa.PublicKey:
		if p == forEncryption {
			needed, name = x509.KeyUsageKeyAgreement, "encryption (keyAgreement)"
		}
		if err := checkCurve(k.Curve); err != nil {
			return err
		}
	case *ecdh.PublicKey:
		needed, name = x509.KeyUsageKeyAgreement, "encryption (keyAgreement)"
	}
	if c.KeyUsage != 0 && c.KeyUsage&needed == 0 {
		return refuse("the certificate is not for %s", name)
	}
	return nil
}

func checkDates(c *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(c.NotBefore):
		return refuse("the certificate is not valid before %s", day(c.NotBefore))
	case now.After(c.NotAfter):
		return refuse("the certificate has ended on %s", day(c.NotAfter))
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Ends is when a certificate ends.
func Ends(c *x509.Certificate) time.Time { return c.NotAfter }

func endOfChain(chain []*x509.Certificate) time.Time {
	first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return first.NotAfter
}

// Notice is how near the end of a certificate is. Each is nearer than those before it, and worth one warning.
type Notice int

// Notices.
const (
	NotSoon     Notice = iota
	WithinMonth        // 30 days
	WithinWeek
	WithinDay
	Ended
)

func (n Notice) String() string {
	switch n {
	case WithinMonth:
		return "month"
	case WithinWeek:
		return "week"
	case WithinDay:
		return "day"
	case Ended:
		return "ended"
	default:
		return ""
	}
}

// NoticeOf returns how near an end is; a zero end never comes.
func NoticeOf(ends, now time.Time) Notice {
	const aDay = 24 * time.Hour
	switch left := ends.Sub(now); {
	case ends.IsZero() || left > 30*aDay:
		return NotSoon
	case left > 7*aDay:
		return WithinMonth
	case left > aDay:
		return WithinWeek
	case left >= 0:
		return WithinDay
	default:
		return Ended
	}
}
