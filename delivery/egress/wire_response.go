package egress

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
)

// responseBuffer is the size in bytes of the buffer that responses are read through. Header lines that matter here
// must fit.
const responseBuffer = 4 << 10

// Errors about what is not a valid response.
var (
	errStatusLine    = errors.New("malformed status line")
	errHeaderLine    = errors.New("malformed header line")
	errHeaderTooLong = errors.New("response header too long")
	errLength        = errors.New("contradictory or malformed Content-Length")
	errEncoding      = errors.New("unsupported Transfer-Encoding")
	errSwitching     = errors.New("response switches protocols unasked")
)

// Response is a server's response without its body, which nobody needs (WebSub section 7).
type Response struct {
	Status     int
	RetryAfter string // the first Retry-After; empty: none
	reuse      bool   // nothing is left to read, and the connection can take another request
}

// Lengths of a body without Content-Length.
const (
	untilClose = -1
	chunked    = -2
)

// responseHead is the status line and header of one response (RFC 9112 sections 4 to 6 and 9.3).
type responseHead struct {
	status     int
	old        bool // HTTP/1.0
	retryAfter string
	length     int64 // of the body, or untilClose or chunked
	declared   int64 // Content-Length; -1: none
	encoded    bool  // Transfer-Encoding: chunked
	closes     bool  // Connection: close, or the connection is not to be trusted
	keeps      bool  // Connection: keep-alive
}

// readResponse reads one final response, and as much of its body as helps to reuse the connection. It skips interim
// responses. An error means that there was no response: what arrived is not HTTP or ended within the header. After a
// complete header nothing is an error, because the body does not matter; a faulty one costs the connection.
func readResponse(br *bufio.Reader) (Response, error) {
	budget := maxResponseHeaderBytes // for all responses together
	for {
		h, err := readHead(br, &budget)
		switch {
		case err != nil:
			return Response{}, err
		case h.status == 101:
			return Response{}, errSwitching
		case h.status < 200:
			continue
		}
		a := Response{Status: h.status, RetryAfter: h.retryAfter}
		a.reuse = h.skipBody(br) && br.Buffered() == 0
		return a, nil
	}
}

// readHead reads one status line and header.
func readHead(br *bufio.Reader, budget *int) (responseHead, error) {
	h := responseHead{declared: -1}
	line, whole, err := readLine(br, budget)
	if err != nil {
		return h, err
	}
	if !whole || !h.statusLine(line) {
		return h, errStatusLine
	}
	last := fieldOther
	for first := true; ; first = false {
		line, whole, err := readLine(br, budget)
		if err != nil {
			return h, err
		}
		if len(line) == 0 {
			break
		}
		switch {
		case line[0] == ' ' || line[0] == '\t': // a folded line (RFC 9112 section 5.2)
			if first || last != fieldOther {
				return h, errHeaderLine
			}
		default:
			if last, err = h.field(line); err != nil {
				return h, err
			}
		}
		if !whole {
			if last != fieldOther {
				return h, errHeaderTooLong
			}
			if err := skipLine(br, budget); err != nil {
				return h, err
			}
		}
	}
	h.frame()
	return h, nil
}

// frame determines the length of the body (RFC 9112 section 6.3). Contradictions that leave the response unambiguous
// cost the connection.
func (h *responseHead) frame() {
	switch {
	case h.status < 200 || h.status == 204 || h.status == 304:
		h.length = 0
		h.closes = h.closes || h.encoded || h.status == 204 && h.declared > 0
	case h.encoded && h.old:
		h.length, h.closes = untilClose, true // section 6.1
	case h.encoded:
		h.length = chunked
		h.closes = h.closes || h.declared >= 0
	case h.declared >= 0:
		h.length = h.declared
	default:
		h.length = untilClose
	}
}

// statusLine parses HTTP/1.x, a three-digit code and an ignored reason phrase.
func (h *responseHead) statusLine(line []byte) bool {
	const prefix = "HTTP/1."
	if len(line) < len(prefix)+5 || string(line[:len(prefix)]) != prefix || !digit(line[7]) || line[8] != ' ' {
		return false
	}
	h.old = line[7] == '0'
	code := line[9:12]
	if !digit(code[0]) || code[0] == '0' || !digit(code[1]) || !digit(code[2]) || len(line) > 12 && line[12] != ' ' {
		return false
	}
	h.status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	return true
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// fieldName identifies the header fields that matter here.
type fieldName uint8

const (
	fieldOther fieldName = iota
	fieldLength
	fieldEncoding
	fieldConnection
	fieldRetryAfter
)

func (h *responseHead) field(line []byte) (fieldName, error) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return fieldOther, errHeaderLine
	}
	for _, c := range line[:colon] {
		if !tokenByte(c) {
			return fieldOther, errHeaderLine
		}
	}
	name, value := nameOf(line[:colon]), line[colon+1:]
	if name == fieldOther {
		return name, nil
	}
	value = bytes.Trim(value, " \t")
	switch name {
	case fieldLength:
		n, ok := parseLength(value)
		if !ok || h.declared >= 0 && n != h.declared {
			return name, errLength
		}
		h.declared = n
	case fieldEncoding:
		if h.encoded || !foldEqual(value, "chunked") {
			return name, errEncoding
		}
		h.encoded = true
	case fieldConnection:
		for token := range bytes.SplitSeq(value, []byte(",")) {
			token = bytes.Trim(token, " \t")
			h.closes = h.closes || foldEqual(token, "close")
			h.keeps = h.keeps || foldEqual(token, "keep-alive")
		}
	case fieldRetryAfter:
		if h.retryAfter == "" {
			h.retryAfter = string(value)
		}
	case fieldOther:
	}
	return name, nil
}

func nameOf(name []byte) fieldName {
	switch len(name) {
	case len("Connection"):
		if foldEqual(name, "connection") {
			return fieldConnection
		}
	case len("Retry-After"):
		if foldEqual(name, "retry-after") {
			return fieldRetryAfter
		}
	case len("Content-Length"):
		if foldEqual(name, "content-length") {
			return fieldLength
		}
	case len("Transfer-Encoding"):
		if foldEqual(name, "transfer-encoding") {
			return fieldEncoding
		}
	}
	return fieldOther
}

// parseLength accepts digits only (RFC 9110 section 8.6).
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if !digit(c) || n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// foldEqual compares b with a lower-case name, ignoring case.
func foldEqual(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// tokenByte reports whether c may occur in a field name (RFC 9110 section 5.6.2).
func tokenByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', digit(c), c == '-':
		return true
	}
	return bytes.IndexByte([]byte("!#$%&'*+.^_`|~"), c) >= 0
}

// readLine reads a line without its end. whole is false if only the beginning fits the buffer; skipLine reads the
// rest. The line is valid until the next read.
func readLine(br *bufio.Reader, budget *int) (line []byte, whole bool, err error) {
	line, err = readPart(br, budget)
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, false, err
	}
	whole = err == nil
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	return line, whole, clean(line)
}

// skipLine reads the rest of a line that did not fit.
func skipLine(br *bufio.Reader, budget *int) error {
	for {
		part, err := readPart(br, budget)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		line := bytes.TrimSuffix(bytes.TrimSuffix(part, []byte("\n")), []byte("\r"))
		if cleanErr := clean(line); err == nil || cleanErr != nil {
			return cleanErr
		}
	}
}

func readPart(br *bufio.Reader, budget *int) ([]byte, error) {
	part, err := br.ReadSlice('\n')
	if *budget -= len(part); *budget < 0 {
		return nil, errHeaderTooLong
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return part, err
}

// clean rejects control characters other than tabs (RFC 9110 section 5.5): another reader might take a carriage
// return for the end of the line.
func clean(line []byte) error {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return errHeaderLine
		}
	}
	return nil
}

// skipBody discards the body, up to maxDrain, and reports whether the connection can be reused.
func (h *responseHead) skipBody(br *bufio.Reader) bool {
	reuse := !h.closes && (!h.old || h.keeps)
	switch {
	case h.length == untilClose:
		_, _ = br.Discard(maxDrain) // let a server with little to say finish
		return false
	case h.length == chunked:
		return skipChunks(br) && reuse
	case h.length > maxDrain:
		return false
	}
	n, _ := br.Discard(int(h.length))
	return int64(n) == h.length && reuse
}

// skipChunks discards a chunked body with its trailer (RFC 9112 section 7.1) and reports whether it ended properly
// within maxDrain bytes, overhead included.
func skipChunks(br *bufio.Reader) bool {
	budget := maxDrain
	for {
		line, ok := chunkLine(br, &budget)
		if !ok {
			return false
		}
		size, ok := chunkSize(line)
		if !ok || size > int64(budget) {
			return false
		}
		if size == 0 {
			break
		}
		if _, err := br.Discard(int(size)); err != nil {
			return false
		}
		budget -= int(size)
		if line, ok := chunkLine(br, &budget); !ok || len(line) > 0 {
			return false
		}
	}
	for {
		line, ok := chunkLine(br, &budget)
		switch {
		case !ok:
			return false
		case len(line) == 0:
			return true
		}
		if _, err := new(responseHead).field(line); err != nil {
			return false
		}
	}
}

// chunkLine reads a line that must end in CRLF.
func chunkLine(br *bufio.Reader, budget *int) ([]byte, bool) {
	line, err := readPart(br, budget)
	if err != nil || len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, false
	}
	line = line[:len(line)-2]
	return line, clean(line) == nil
}

// chunkSize parses hexadecimal digits up to an extension, which is ignored.
func chunkSize(line []byte) (int64, bool) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	digits = bytes.TrimRight(digits, " \t")
	if len(digits) == 0 || len(digits) > 8 {
		return 0, false
	}
	var n int64
	for _, c := range digits {
		switch {
		case digit(c):
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | int64(c)
	}
	return n, true
}
