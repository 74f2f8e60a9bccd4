package hubtest

import (
	"net/http"
	"strconv"
	"time"
)

// Answer is how a scripted server answers one request. The zero value is an empty 200.
type Answer struct {
	Status  int // 0: 200
	Header  http.Header
	Body    []byte
	Gate    <-chan struct{} // the answer waits until this is closed
	Delay   time.Duration   // and then this long
	Hang    bool            // never answers; the client or the end of the test ends the request
	Drop    bool            // closes the connection without an answer
	Cut     bool            // sends the header and half of the body, then closes the connection
	Endless bool            // sends a body that never ends
}

// Echo confirms a verification of intent.
func Echo(r Request) Answer { return Answer{Body: []byte(r.Value("hub.challenge"))} }

// Status returns an answer with this status and no body.
func Status(code int) Answer { return Answer{Status: code} }

// write sends the answer; stop ends an answer that would last forever.
func (a Answer) write(w http.ResponseWriter, r *http.Request, stop <-chan struct{}) {
	if a.Gate != nil && !waits(r, stop, a.Gate) {
		return
	}
	if a.Delay > 0 {
		timer := time.NewTimer(a.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		case <-stop:
			return
		}
	}
	if a.Hang {
		waits(r, stop, nil)
		return
	}
	if a.Drop {
		panic(http.ErrAbortHandler)
	}
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "text/plain")
	}
	if a.Cut {
		w.Header().Set("Content-Length", strconv.Itoa(2*len(a.Body)+2))
	}
	status := a.Status
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	if len(a.Body) > 0 && status != http.StatusNoContent && status != http.StatusNotModified {
		if _, err := w.Write(a.Body); err != nil {
			return
		}
	}
	if a.Cut {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	if a.Endless {
		junk := make([]byte, 16<<10)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := w.Write(junk); err != nil {
				return
			}
		}
	}
}

// waits reports whether gate opened before the request or the server ended.
func waits(r *http.Request, stop, gate <-chan struct{}) bool {
	select {
	case <-gate:
		return true
	case <-r.Context().Done():
		return false
	case <-stop:
		return false
	}
}
