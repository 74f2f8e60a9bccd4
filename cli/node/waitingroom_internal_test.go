package node

import (
	"net"
	"testing"
	"time"
)

// calledListener is called just when its user wants to stop accepting.
type calledListener struct {
	*net.TCPListener
	accepted chan struct{}
}

func (l *calledListener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	select {
	case l.accepted <- struct{}{}:
	default:
	}
	return c, err
}

func (l *calledListener) SetDeadline(t time.Time) error {
	if !t.IsZero() {
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			defer c.Close()
			<-l.accepted
			time.Sleep(5 * time.Millisecond) // let the accepting goroutine continue
		}
	}
	return l.TCPListener.SetDeadline(t)
}

// TestWaitingRoomLeavesTheAddress checks that the hub can take over the address, even if a caller arrives at that moment.
func TestWaitingRoomLeavesTheAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWaitingRoom(&calledListener{l.(*net.TCPListener), make(chan struct{}, 1)}, nil)
	w.close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := l.Accept()
	if err != nil {
		t.Fatalf("the hub cannot take over its address: %v", err)
	}
	got.Close()
}
