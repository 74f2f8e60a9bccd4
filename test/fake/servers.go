package fake

import (
	"context"
	"encoding/binary"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"quorumhub/delivery/egress"
)

// Recorder is an HTTP server on loopback that records every request.
type Recorder struct {
	*httptest.Server
	mu       sync.Mutex
	requests []Recorded
}

// Recorded is a request as the server received it.
type Recorded struct {
	Method, URI string
	Header      http.Header
	Body        []byte
}

// Record starts a server that answers with h and ends with the test.
func Record(t testing.TB, h http.HandlerFunc) *Recorder {
	t.Helper()
	r := &Recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.requests = append(r.requests, Recorded{req.Method, req.RequestURI, req.Header.Clone(), body})
		r.mu.Unlock()
		h(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

// All returns the requests so far.
func (r *Recorder) All() []Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Recorded(nil), r.requests...)
}

// DNS is a DNS server that answers every A question with the next address of a list, repeating the last one, and every
// AAAA question with nothing.
type DNS struct {
	mu      sync.Mutex
	Answers []netip.Addr
	asked   int
}

// Install makes this server answer all lookups of the process until the test ends.
func (f *DNS) Install(t testing.TB) {
	t.Helper()
	system := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = system })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go f.serve(server)
		return client, nil
	}}
}

// Asked returns how many questions for an A record have come.
func (f *DNS) Asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *DNS) serve(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		q := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, q); err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(q); err != nil {
			return
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		if m.Questions[0].Type == dnsmessage.TypeA {
			f.mu.Lock()
			a := f.Answers[min(f.asked, len(f.Answers)-1)]
			f.asked++
			f.mu.Unlock()
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: a.As4()},
			}}
		}
		out, err := m.AppendPack(make([]byte, 2, 512))
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(out, uint16(len(out)-2))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// DevClient returns a client that may call loopback addresses and is closed with the test.
func DevClient(t testing.TB) *egress.Client {
	t.Helper()
	c := egress.NewClient(Policy(t, egress.PolicyOptions{Mode: egress.ModeDevLoopback}), egress.ClientOptions{})
	t.Cleanup(c.Close)
	return c
}

// Trust returns rules under which clients trust the certificate of a server that listens on this machine.
func Trust(t testing.TB, s *httptest.Server) *egress.TLSRules {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := egress.NewTLSRules([]egress.TLSRule{{Hosts: []string{"127.0.0.1", "localhost"}, CA: ca}})
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// Policy returns an egress policy that must be valid.
func Policy(t testing.TB, o egress.PolicyOptions) *egress.Policy {
	t.Helper()
	p, err := egress.NewPolicy(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Prefixes parses CIDR prefixes.
func Prefixes(t testing.TB, s ...string) []netip.Prefix {
	t.Helper()
	var out []netip.Prefix
	for _, c := range s {
		out = append(out, netip.MustParsePrefix(c))
	}
	return out
}

// Eventually waits until cond returns true, and fails the test after 30 s.
func Eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(limit) {
			t.Fatalf("%s: did not happen within 30 s", what)
		}
		runtime.Gosched()
	}
}
