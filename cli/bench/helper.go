package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// The helpers of the phases gateway: processes of their own, as the hub is one.
const (
	helperUpstream = "upstream" // the service behind
	helperProxy    = "proxy"    // httputil.ReverseProxy in front of it
)

// Help is another process of a measurement: the service behind the gateway, or the proxy that the gateway is compared with, in front of
// the URL of. It writes its URL to out and serves until in or ctx ends.
func Help(ctx context.Context, name, of string, in io.Reader, out io.Writer) error {
	var h http.Handler
	switch name {
	case helperUpstream:
		h = newUpstream()
	case helperProxy:
		u, err := url.Parse(of)
		if err != nil {
			return err
		}
		h = newProxy(u)
	default:
		return fmt.Errorf("the benchmark has no helper %q", name)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := newServer(h)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	if _, err := fmt.Fprintf(out, "http://%s\n", l.Addr()); err != nil {
		return errors.Join(err, server.Close())
	}
	ended := make(chan struct{})
	go func() { // ends with the process, if not before
		defer close(ended)
		_, _ = io.Copy(io.Discard, in)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	case err := <-done:
		return err
	}
	err = server.Close()
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// newProxy returns what Go programs have as a gateway without one.
func newProxy(to *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.SetXForwarded()
		},
		Transport:  &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true},
		BufferPool: &buffers{sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}},
	}
}

// buffers saves the proxy a buffer for each answer, without which it would seem slower than it need be.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return *b.pool.Get().(*[]byte) }
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

// smallBody is what the service behind answers to GET.
const smallBody = `{"id":"121","name":"Anna Example","line":["1 Main Street","2nd floor"]}`

// newUpstream answers GET with a small body, and POST, once it has the body, with as many bytes. With ?crowd=N, N such requests wait for
// each other when half of the body has arrived, and again when half of the answer has been sent.
func newUpstream() http.Handler {
	var up, down crowd
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, smallBody) // the client may be gone
	})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("crowd"))
		size := r.ContentLength
		if err != nil || size < 0 {
			http.Error(w, "expected crowd and Content-Length", http.StatusBadRequest)
			return
		}
		if _, err := io.CopyN(io.Discard, r.Body, size/2); err != nil {
			return
		}
		up.await(r.Context(), n)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		if _, err := io.CopyN(w, zeroes{}, size/2); err != nil {
			return
		}
		down.await(r.Context(), n)
		_, _ = io.CopyN(w, zeroes{}, size-size/2)
	})
	return mux
}

// zeroes is an endless body.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// crowd makes its members wait for each other. Safe for concurrent use.
type crowd struct {
	mu   sync.Mutex
	here int
	all  chan struct{}
}

func (c *crowd) await(ctx context.Context, size int) {
	c.mu.Lock()
	if c.all == nil {
		c.all = make(chan struct{})
	}
	all := c.all
	if c.here++; c.here == size {
		close(all)
		c.here, c.all = 0, nil
	}
	c.mu.Unlock()
	select {
	case <-all:
	case <-ctx.Done():
	}
}

// helper is a running helper.
type helper struct {
	URL   string
	cmd   *exec.Cmd
	in    io.Closer
	ended chan struct{}
}

// startHelper starts a helper and waits until it serves.
func startHelper(name, of string) (*helper, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	h := &helper{cmd: exec.Command(binary, "bench", "--helper", name, "--of", of), ended: make(chan struct{})}
	in, inErr := h.cmd.StdinPipe()
	out, ours, outErr := os.Pipe()
	if err := errors.Join(inErr, outErr); err != nil {
		return nil, err
	}
	defer out.Close()
	h.in, h.cmd.Stdout = in, ours
	err = errors.Join(spawn(h.cmd, h.ended), ours.Close())
	if err != nil {
		return nil, fmt.Errorf("start %s of the benchmark: %w", name, err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if h.URL = strings.TrimSpace(line); err != nil {
		return nil, errors.Join(fmt.Errorf("%s of the benchmark: %w", name, err), h.Close())
	}
	return h, nil
}

// Close ends the process.
func (h *helper) Close() error {
	err := h.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-h.ended
	_ = h.in.Close() // closed already when the process has ended
	return err
}
