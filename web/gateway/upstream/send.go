package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
)

// copyBuffer is the size in bytes of the pieces in which a response passes through: a thousand of them must stay small.
const copyBuffer = 16 << 10

// Send passes a response of Call on to the client as it comes and closes its body. Responses of unknown length and event
// streams are flushed piece by piece. n is how much of the body has been written.
//
// After an error the response is incomplete, and the connection to the client must be cut so that it does not look
// complete: panic(http.ErrAbortHandler). If the error is an *Error, the upstream is the reason, or else the client is.
func (p *Pool) Send(w http.ResponseWriter, resp *http.Response) (n int64, err error) {
	defer resp.Body.Close()
	control := http.NewResponseController(w)
	if e, ok := resp.Body.(*exchange); ok && e.sending() {
		// The upstream answers before it has everything. Without this, net/http would read the rest before the header goes
		// out. It fails with HTTP/2, which needs no permission.
		_ = control.EnableFullDuplex()
	}
	h := w.Header()
	for name, values := range resp.Header {
		h[name] = values
	}
	flush := resp.ContentLength < 0 || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
	w.WriteHeader(resp.StatusCode)
	if flush {
		if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, err
		}
	}
	buffer, ok := p.buffers.Get().(*[copyBuffer]byte)
	if !ok {
		buffer = new([copyBuffer]byte)
	}
	defer p.buffers.Put(buffer)
	for {
		got, readErr := resp.Body.Read(buffer[:])
		if got > 0 {
			wrote, err := w.Write(buffer[:got])
			n += int64(wrote)
			if err != nil {
				return n, err
			}
			if flush {
				if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
					return n, err
				}
			}
		}
		switch readErr {
		case nil:
		case io.EOF:
			return n, nil
		default:
			return n, readErr
		}
	}
}
