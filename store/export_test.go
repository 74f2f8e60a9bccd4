package store

import "testing"

// Guard names a safeguard that a test takes away to see that its checks notice.
type Guard int

const (
	GuardFlushLock Guard = iota
	GuardGenerationCheck
	GuardOneTransaction
	GuardVersionFlush
	GuardDurableTrim
)

// RemoveGuards takes safeguards of s away. It is called before s is used.
func RemoveGuards(t testing.TB, s *Store, all ...Guard) {
	t.Helper()
	for _, g := range all {
		switch g {
		case GuardFlushLock:
			s.without.flushLock = true
		case GuardGenerationCheck:
			s.without.generationCheck = true
		case GuardOneTransaction:
			s.without.oneTransaction = true
		case GuardVersionFlush:
			s.without.versionFlush = true
		case GuardDurableTrim:
			s.without.durableTrim = true
		default:
			t.Fatalf("no guard %d", g)
		}
	}
}
