package egress

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
)

// answerBuffer is the size of the buffer that answers are read through, in bytes. A header line that means
// something here must fit.
const answerBuffer = 4 << 10

// What is wrong with an answer that cannot be taken for one.
var (
	errStatusLine    = errors.New("malformed status line")
	errHeaderLine    = errors.New("malformed header line")
	errHeaderTooLong = errors.New("answer header too long")
	errLength        = errors.New("contradictory or malformed Content-Length")
	errEncoding      = errors.New("unsupported Transfer-Encoding")
	errSwitching     = errors.New("answer switches protocols, which nobody asked for")
)

// Answer is what a server said, without the body, which nobody needs (WebSub section 7).
type Answer struct {
	Status     int
	RetryAfter string // the first Retry-After, empty: none
	reuse      bool   // the connection stands right behind the answer and can take another request
}

// Lengths of a body that no Content-Length gives.
const (
	untilClose = -1
	chunked    = -2
)

// answerHead is the status line and header of one answer (RFC 9112 sections 4 to 6 and 9.3).
type answerHead struct {
	status     int
	old        bool // HTTP/1.0
	retryAfter string
	length     int64 // of the body, or untilClose or chunked
	declared   int64 // Content-Length, -1: there is none
	encoded    bool  // Transfer-Encoding: chunked
	closes     bool  // Connection: close, or reason to distrust the connection
	keeps      bool  // Connection: keep-alive
}

// readAnswer reads one final answer and the rest of it as far as that helps to use the connection again. Interim
// answers are skipped. An error means that the server gave no answer: what arrived is no HTTP, or came to an end
// within the header. Behind a complete header nothing is an error, for the body means nothing; what is wrong
// with it costs the connection.
func readAnswer(br *bufio.Reader) (Answer, error) {
	budget := maxResponseHeaderBytes // for all of them together
	for {
		h, err := readHead(br, &budget)
		switch {
		case err != nil:
			return Answer{}, err
		case h.status == 101:
			return Answer{}, errSwitching
		case h.status < 200:
			continue
		}
		a := Answer{Status: h.status, RetryAfter: h.retryAfter}
		a.reuse = h.skipBody(br) && br.Buffered() == 0
		return a, nil
	}
}

// readHead reads one status line and header.
func readHead(br *bufio.Reader, budget *int) (answerHead, error) {
	h := answerHead{declared: -1}
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

// frame tells how long the body is (RFC 9112 section 6.3). What contradicts itself without leaving a doubt about the
// answer costs the connection.
func (h *answerHead) frame() {
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

// statusLine reads HTTP/1.x, a code of three digits and a reason that means nothing.
func (h *answerHead) statusLine(line []byte) bool {
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

// fieldName says which of the fields that mean something here a line is.
type fieldName uint8

const (
	fieldOther fieldName = iota
	fieldLength
	fieldEncoding
	fieldConnection
	fieldRetryAfter
)

func (h *answerHead) field(line []byte) (fieldName, error) {
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

// parseLength reads digits only (RFC 9110 section 8.6).
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

// foldEqual compares b with a name in lower case.
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

// tokenByte tells whether c may stand in a field name (RFC 9110 section 5.6.2).
func tokenByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', digit(c), c == '-':
		return true
	}
	return bytes.IndexByte([]byte("!#$%&'*+.^_`|~"), c) >= 0
}

// readLine reads a line and takes its end off. whole is false when only the beginning fitted the buffer; the rest is
// skipLine's. The line is valid until the next read.
func readLine(br *bufio.Reader, budget *int) (line []byte, whole bool, err error) {
	line, err = readPart(br, budget)
	if err != nil && err != bufio.ErrBufferFull {
		return nil, false, err
	}
	whole = err == nil
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	return line, whole, clean(line)
}

// skipLine reads what did not fit.
func skipLine(br *bufio.Reader, budget *int) error {
	for {
		part, err := readPart(br, budget)
		if err != nil && err != bufio.ErrBufferFull {
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
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return part, err
}

// clean refuses control characters but the tab (RFC 9110 section 5.5): another reader might take a carriage return for
// the end of the line.
func clean(line []byte) error {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return errHeaderLine
		}
	}
	return nil
}

// skipBody reads the body away, as far as maxDrain, and tells whether the connection can be used again.
func (h *answerHead) skipBody(br *bufio.Reader) bool {
	reuse := !h.closes && (!h.old || h.keeps)
	switch {
	case h.length == untilClose:
		_, _ = br.Discard(maxDrain) // so that a server that says little can say it
		return false
	case h.length == chunked:
		return skipChunks(br) && reuse
	case h.length > maxDrain:
		return false
	}
	n, _ := br.Discard(int(h.length))
	return int64(n) == h.length && reuse
}

// skipChunks reads a chunked body with its trailer (RFC 9112 section 7.1) and tells whether it came to a proper
// end within maxDrain, the overhead included.
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
		if _, err := new(answerHead).field(line); err != nil {
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

// chunkSize reads hexadecimal digits up to an extension, which means nothing.
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
