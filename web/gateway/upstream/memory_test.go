//go:build !race

// The race detector needs more memory than the gateway.

package upstream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestThousandBodiesInLittleMemory: a thousand bodies of 1 MiB that pass through at the same time, up and then down, need
// no more than 100 MiB in all: the peak of the whole process counts.
func TestThousandBodiesInLittleMemory(t *testing.T) {
	const (
		crowd = 1000
		size  = 1 << 20
		limit = 100 << 20
	)
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc to read the memory of a process from")
	}
	ctx, giveUp := context.WithTimeout(t.Context(), patience)
	defer giveUp()
	half := func(arrived *atomic.Int32, all chan struct{}) { // waits until all are half way
		if arrived.Add(1) == crowd {
			close(all)
		}
		select {
		case <-all:
		case <-ctx.Done(): // some call failed and will never come
		}
	}
	var up, down atomic.Int32
	allUp, allDown := make(chan struct{}), make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.CopyN(io.Discard, r.Body, size/2)
		half(&up, allUp)
		rest, _ := io.Copy(io.Discard, r.Body)
		if n+rest != size {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		piece := make([]byte, 8<<10)
		for sent := 0; sent < size; sent += len(piece) {
			if sent == size/2 {
				half(&down, allDown)
			}
			_, _ = w.Write(piece)
		}
	}))
	defer service.Close()
	url, peak := startGateway(t, service.URL)
	var wg sync.WaitGroup
	var failed atomic.Int32
	client := transport(t)
	for range crowd {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, "POST", url+"/", io.LimitReader(zeros{}, size))
			req.ContentLength = size
			resp, err := client.RoundTrip(req)
			if err != nil {
				failed.Add(1)
				giveUp()
				return
			}
			n, err := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if n != size || err != nil || resp.StatusCode != 200 {
				failed.Add(1)
				giveUp()
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n != 0 {
		t.Fatalf("%d of %d calls failed", n, crowd)
	}
	got := peak()
	t.Logf("peak of the gateway's memory: %d MiB", got>>20)
	if got > limit {
		t.Errorf("the gateway needed %d MiB at its peak, more than %d", got>>20, limit>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// startGateway starts a gateway as a process of its own. peak returns the most memory it has had, in bytes.
func startGateway(t testing.TB, of string) (url string, peak func() int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), gatewayEnv+"="+of)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	url, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url = strings.TrimSpace(url)
	if _, err := net.ResolveTCPAddr("tcp", strings.TrimPrefix(url, "http://")); err != nil {
		t.Fatal(err)
	}
	return url, func() (kib int) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(text), "VmHWM:")
		if _, err := fmt.Sscan(line, &kib); err != nil {
			t.Fatal(err)
		}
		return kib << 10
	}
}
