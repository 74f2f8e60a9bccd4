// Package idp runs the real OpenID providers of test/oidc for tests, and a browser without scripts that logs in with them.
package idp

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// Provider is a real OpenID provider in a child process.
type Provider struct {
	Issuer string

	start   func() *exec.Cmd
	running *child
}

type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// Client is what a provider knows of a hub.
type Client struct {
	ID, Secret string
	// Redirects are the URLs of its callbacks, and Logouts where people come back to after they have logged out.
	Redirects, Logouts []string
	// BackChannel is where it wants logout tokens; empty: nowhere. Only Panva sends them.
	BackChannel string
	// Auth is how it authenticates, as in discovery, and Keys its public ones, a JWK set; empty: by the secret. For Panva only.
	Auth string
	Keys json.RawMessage
}

// Zitadel starts a provider made with zitadel/oidc, which ends with the test. People log in as test-user2 with the password verysecure;
// their subject is id2.
func Zitadel(tb testing.TB, c Client) *Provider {
	tb.Helper()
	binary := filepath.Join(tb.TempDir(), "oidc")
	build := exec.CommandContext(tb.Context(), "go", "build", "-o", binary, ".")
	build.Dir = dir(tb)
	if out, err := build.CombinedOutput(); err != nil {
		unavailable(tb, "test/oidc does not build: "+string(out))
	}
	clients, err := json.Marshal(map[string]any{c.ID: map[string]any{"secret": c.Secret, "redirects": c.Redirects, "logouts": c.Logouts}})
	if err != nil {
		tb.Fatal(err)
	}
	return begin(tb, func(listen string) *exec.Cmd {
		return exec.Command(binary, "-clients", string(clients), "-listen", listen)
	})
}

// Panva starts a provider made with oidc-provider, which ends with the test. People log in by any name, which is their subject. Its clock
// is skew in front.
func Panva(tb testing.TB, c Client, skew time.Duration) *Provider {
	tb.Helper()
	at := dir(tb)
	if _, err := os.Stat(filepath.Join(at, "node_modules", "oidc-provider")); err != nil {
		unavailable(tb, "the npm package oidc-provider is not installed (make deps)")
	}
	return begin(tb, func(listen string) *exec.Cmd {
		about := map[string]any{"redirects": c.Redirects, "logouts": c.Logouts, "backchannel": c.BackChannel, "listen": listen, "skew": skew.Seconds(), "auth": c.Auth}
		if c.Keys != nil {
			about["jwks"] = c.Keys
		}
		people, err := json.Marshal(about)
		if err != nil {
			tb.Fatal(err)
		}
		cmd := exec.Command("node", "provider.mjs", c.ID, c.Secret, "", "", string(people))
		cmd.Dir = at
		return cmd
	})
}

// begin starts a provider at a free address, which it keeps when it is started again.
func begin(tb testing.TB, command func(listen string) *exec.Cmd) *Provider {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	at := ln.Addr().String()
	_ = ln.Close()
	p := &Provider{Issuer: "http://" + at, start: func() *exec.Cmd { return command(at) }}
	p.Start(tb)
	tb.Cleanup(func() {
		if p.running != nil {
			p.Kill(tb)
		}
	})
	return p
}

// Start starts a provider that was killed, with what a restart leaves of it: its address, and no keys, codes or logins.
func (p *Provider) Start(tb testing.TB) {
	tb.Helper()
	cmd := p.start()
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	said := &saying{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	p.running = &child{cmd, in, bufio.NewReader(out)}
	if line, err := p.running.out.ReadString('\n'); err != nil || strings.TrimSpace(line) != p.Issuer {
		p.Kill(tb)
		tb.Fatalf("the provider did not start at %s: %q, %v: %s", p.Issuer, line, err, said)
	}
}

// Kill ends the provider at once.
func (p *Provider) Kill(tb testing.TB) {
	tb.Helper()
	_ = p.running.cmd.Process.Kill()
	_ = p.running.cmd.Wait()
	p.running = nil
}

// Rotate replaces the keys of a provider that Zitadel has started.
func (p *Provider) Rotate(tb testing.TB) {
	tb.Helper()
	_, err := io.WriteString(p.running.in, "rotate\n")
	line, readErr := p.running.out.ReadString('\n')
	if err := errors.Join(err, readErr); err != nil || line != "rotated\n" {
		tb.Fatalf("the provider does not rotate its keys: %q, %v", line, err)
	}
}

// saying keeps what a child writes. Safe for concurrent use.
type saying struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *saying) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *saying) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func dir(tb testing.TB) string {
	tb.Helper()
	root, err := hubtest.Root()
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(root, "test", "oidc")
}

// unavailable skips the test because a program is missing, or fails it with CI=true.
func unavailable(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}
