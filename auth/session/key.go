package session

import "crypto/sha256"

// Key returns what Passed.Key is for a subject and a session (sid) of an identity provider: the first half stands for the subject, the
// second for the session. Either may be empty, and its half is zero then.
func Key(subject, sid string) (key [16]byte) {
	for i, s := range []string{subject, sid} {
		if s != "" {
			sum := sha256.Sum256([]byte(s))
			copy(key[8*i:8*i+8], sum[:])
		}
	}
	return key
}

// KeyMatches reports whether a back-channel logout for want ends what was passed with have: a half of want that is zero matches
// anything, but not both.
func KeyMatches(have, want [16]byte) bool {
	named := false
	for i := 0; i < 16; i += 8 {
		half := [8]byte(want[i : i+8])
		if half == ([8]byte{}) {
			continue
		}
		if half != [8]byte(have[i:i+8]) {
			return false
		}
		named = true
	}
	return named
}
