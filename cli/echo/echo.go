// Package echo is a service to put behind a gateway while trying it: it shows what it got, or answers as a service of employees would.
package echo

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// maxShown is how much of a body is shown; the rest is only counted and hashed.
const maxShown = 64 << 10

// Options say how requests are answered.
type Options struct {
	// As is employee for a service that answers in XML, within a CDATA section; empty: JSON of what was received.
	As string
	// Body and ContentType replace the answer, Status its status. Delay is waited before it.
	Body        []byte
	ContentType string
	Status      int
	Delay       time.Duration
	// Got is called with each request, one at a time for each connection; nil: nobody is told.
	Got func(*Received)
}

// Received is a request as the service got it.
type Received struct {
	Method  string      `json:"method"`
	URI     string      `json:"uri"` // path and query as they came
	Host    string      `json:"host"`
	Headers http.Header `json:"headers"`
	Bytes   int64       `json:"bytes"` // of the body
	SHA256  string      `json:"sha256"`
	// Body is text, or base64 if it is none; at most its first 64 KiB.
	Body   string `json:"body"`
	Base64 bool   `json:"base64,omitempty"`
}

// Handler answers requests. It reads each body to its end.
func Handler(o Options) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, body, err := receive(r)
		if err != nil {
			http.Error(w, "the body ended early: "+err.Error(), http.StatusBadRequest)
			return
		}
		if o.Got != nil {
			o.Got(got)
		}
		if !wait(r.Context(), o.Delay) {
			return
		}
		status := o.Status
		if status == 0 {
			status = http.StatusOK
		}
		content, contentType := o.Body, o.ContentType
		switch {
		case content != nil:
		case o.As == "employee":
			content, contentType = employee(r, body), "application/xml"
		default:
			content, contentType = got.json(), "application/json"
		}
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		_, _ = w.Write(content) // the client may be gone
	})
}

// receive reads a request. body is what is shown of its body.
func receive(r *http.Request) (got *Received, body []byte, _ error) {
	got = &Received{Method: r.Method, URI: r.RequestURI, Host: r.Host, Headers: r.Header}
	hash := sha256.New()
	shown := &head{most: maxShown}
	n, err := io.Copy(io.MultiWriter(hash, shown), r.Body)
	if err != nil {
		return nil, nil, err
	}
	got.Bytes, got.SHA256, got.Body = n, hex.EncodeToString(hash.Sum(nil)), string(shown.kept)
	if !utf8.Valid(shown.kept) {
		got.Body, got.Base64 = base64.StdEncoding.EncodeToString(shown.kept), true
	}
	return got, shown.kept, nil
}

// head keeps the beginning of what is written to it.
type head struct {
	kept []byte
	most int
}

func (h *head) Write(p []byte) (int, error) {
	h.kept = append(h.kept, p[:min(len(p), h.most-len(h.kept))]...)
	return len(p), nil
}

func (g *Received) json() []byte {
	text, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return []byte("{}") // texts and numbers always encode
	}
	return append(text, '\n')
}

func wait(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// employee answers as an old messaging service does: XML inside a CDATA section. The ID comes from the query, or from a body in JSON, XML
// or as a form.
func employee(r *http.Request, body []byte) []byte {
	id := r.URL.Query().Get("ID")
	if id == "" {
		id = idIn(body)
	}
	address := struct {
		XMLName  xml.Name `xml:"GetAddress"`
		ID       string   `xml:"ID"`
		Name     string   `xml:"Name"`
		Lines    []string `xml:"Line"`
		Internal struct {
			Path string `xml:"path"`
		} `xml:"internal"`
	}{ID: id, Name: "Anna & Co <" + id + ">", Lines: []string{"1 Main Street"}}
	address.Internal.Path = r.URL.Path
	if strings.HasPrefix(r.URL.Path, "/v2/") {
		address.Lines = append(address.Lines, "2nd floor")
	}
	inner, err := xml.Marshal(address)
	if err != nil {
		return nil // texts always encode
	}
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>` + "\n<Response><![CDATA[" + strings.ReplaceAll(string(inner), "]]>", "]]]]><![CDATA[>") + "]]></Response>\n")
}

func idIn(body []byte) string {
	var asJSON struct{ ID any }
	if json.Unmarshal(body, &asJSON) == nil && asJSON.ID != nil {
		return fmt.Sprint(asJSON.ID)
	}
	var asXML struct {
		ID string `xml:"ID"`
	}
	if xml.Unmarshal(body, &asXML) == nil { //nolint:gosec // one text of at most 64 KiB
		return strings.TrimSpace(asXML.ID)
	}
	if form, err := url.ParseQuery(string(body)); err == nil {
		return form.Get("ID")
	}
	return ""
}

// Serve answers at a listener until ctx ends, then lets requests in flight end for a moment.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 1 << 20}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := server.Shutdown(last)
	if err != nil {
		err = server.Close()
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}
