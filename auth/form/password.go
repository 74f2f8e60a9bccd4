package form

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Cost is what it takes to try a password (RFC 9106).
type Cost struct {
	MemoryKiB, Passes uint32
	Lanes             uint8
}

// DefaultCost is the second recommendation of RFC 9106 section 4, for machines with little memory.
func DefaultCost() Cost { return Cost{MemoryKiB: 64 << 10, Passes: 3, Lanes: 4} }

// MaxPassword is the longest password, in bytes.
const MaxPassword = 1024

const (
	saltBytes = 16
	hashBytes = 32
)

// password is what an account's settings keep of a password.
type password struct {
	Cost
	salt, hash []byte
}

// HashPassword returns what settings keep of a password: $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func HashPassword(text string, c Cost) (string, error) {
	if text == "" || len(text) > MaxPassword {
		return "", fmt.Errorf("password of %d bytes; expected 1 to %d", len(text), MaxPassword)
	}
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	hash := argon2.IDKey([]byte(text), salt, c.Passes, c.MemoryKiB, c.Lanes, hashBytes)
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.MemoryKiB, c.Passes, c.Lanes, enc.EncodeToString(salt), enc.EncodeToString(hash)), nil
}

// parsePassword reads what HashPassword returns. Errors do not show the text.
func parsePassword(text string) (*password, error) {
	p := &password{}
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return nil, fmt.Errorf("is no hash by argon2id; expected the output of quorumhub auth hash-password")
	}
	var canonical string
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.MemoryKiB, &p.Passes, &p.Lanes); err == nil && n == 3 {
		canonical = fmt.Sprintf("m=%d,t=%d,p=%d", p.MemoryKiB, p.Passes, p.Lanes)
	}
	if canonical != parts[3] || p.Passes == 0 || p.Lanes == 0 {
		return nil, fmt.Errorf("has costs that are not understood; expected m=…,t=…,p=…")
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4]); err != nil || len(p.salt) < 8 {
		return nil, fmt.Errorf("has no salt; expected at least 8 bytes in base64 without padding")
	}
	if p.hash, err = base64.RawStdEncoding.Strict().DecodeString(parts[5]); err != nil || len(p.hash) < 16 {
		return nil, fmt.Errorf("has no hash; expected at least 16 bytes in base64 without padding")
	}
	return p, nil
}

// is reports whether a text is the password. It takes as long for a wrong one.
func (p *password) is(text string) bool {
	got := argon2.IDKey([]byte(text), p.salt, p.Passes, p.MemoryKiB, p.Lanes, uint32(len(p.hash)))
	return subtle.ConstantTimeCompare(got, p.hash) == 1
}
