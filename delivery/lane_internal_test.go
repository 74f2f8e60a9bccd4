package delivery

import (
	"testing"
	"unsafe"
)

// TestIdleLaneIsSmall: a hundred thousand idle subscriptions must fit into memory.
func TestIdleLaneIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(lane{}); n > 360 {
		t.Errorf("a lane takes %d bytes, want at most 360", n)
	}
}
