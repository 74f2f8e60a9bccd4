package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/signing"
	"quorumhub/cli/terminal"
)

// maxCallBytes bounds a body, which is held to be signed.
const maxCallBytes = 64 << 20

// callCmd sends one request, signed as a client must.
type callCmd struct {
	URL     string       `arg:"" help:"The URL to call." placeholder:"URL"`
	Method  string       `short:"X" help:"The method; otherwise GET, or POST with a body." placeholder:"METHOD"`
	Data    string       `short:"d" help:"The body; @FILE reads a file, @- standard input." placeholder:"BODY"`
	Header  []string     `short:"H" sep:"none" help:"A header. Repeatable." placeholder:"NAME: VALUE"`
	Include bool         `short:"i" help:"Print the status and headers of the answer, too."`
	DryRun  bool         `help:"Sign and print the request, without sending it."`
	CA      string       `name:"ca" help:"A PEM file of CA certificates to trust in addition to the system's." env:"QUORUMHUB_CA" placeholder:"FILE"`
	Timeout flagDuration `name:"request-timeout" help:"How long to wait for the answer." default:"30s" placeholder:"DURATION"`

	Sign  string `help:"How to sign: geo (GEO-Auth), rfc9421 (HTTP Message Signatures), key (an API key) or token (a bearer token)." enum:",geo,rfc9421,key,token" default:"" placeholder:"HOW"`
	Token string `help:"key, token: the API key or access token." env:"QUORUMHUB_TOKEN" placeholder:"TOKEN"`

	KeyID          string       `help:"geo, rfc9421: the key's ID." placeholder:"ID"`
	Secret         string       `help:"geo, rfc9421: the shared secret." env:"QUORUMHUB_CALL_SECRET" xor:"key" placeholder:"TEXT"`
	SecretFile     string       `help:"geo, rfc9421: a file with the shared secret; a trailing newline is ignored." xor:"key" placeholder:"FILE"`
	SecretEncoding string       `help:"geo, rfc9421: of the secret." enum:"raw,hex,base64" default:"raw" placeholder:"ENCODING"`
	PrivateKey     string       `help:"rfc9421: a PEM file with the private key, in place of a shared secret." xor:"key" placeholder:"FILE"`
	Valid          flagDuration `help:"geo, rfc9421: how long the signature is valid." default:"200s" placeholder:"DURATION"`
	Tag            string       `help:"rfc9421: the signature's tag." default:"websub-hub" placeholder:"TAG"`
	Algorithm      string       `help:"geo: the hash." enum:"sha512,sha256,sha1" default:"sha512" placeholder:"HASH"`
	Username       string       `help:"geo: the user to speak for." placeholder:"NAME"`
	Source         string       `help:"geo: the source system." placeholder:"NAME"`
	Target         string       `help:"geo: the target system." placeholder:"NAME"`
	Nonce          string       `help:"geo: the nonce; otherwise a new UUID." placeholder:"UUID"`
	ExpiresBy      int64        `help:"geo: when the signature ends, in milliseconds since 1970, in place of --valid." placeholder:"MS"`
	Base64         bool         `name:"base64" help:"geo: the signature in base64; otherwise hexadecimal."`
}

// Help is shown by --help below the flags.
func (c *callCmd) Help() string {
	return `What was signed is printed to standard error, byte for byte, to compare it with what another client signs. Redirects are not followed: a
signature is for one URL.

    quorumhub call --sign geo --key-id GEOSystem --secret-file secret.key --username geo \
        "http://127.0.0.1:8080/gateway/Employee/requestAddress?ID=121"`
}

func (c *callCmd) Run(ctx context.Context, s Streams) error {
	r, body, err := c.request(ctx, s)
	if err != nil {
		return err
	}
	if err := c.sign(r, body, s); err != nil {
		return err
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		r.Body = http.NoBody
	}
	if c.DryRun {
		return c.show(r, body, s)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		return exit.With(exit.Unreachable, err)
	}
	defer resp.Body.Close()
	if c.Include {
		fmt.Fprintf(s.Out, "%s %s\n", resp.Proto, terminal.Printable(resp.Status))
		if err := resp.Header.Write(s.Out); err != nil {
			return err
		}
		fmt.Fprintln(s.Out)
	}
	if _, err := io.Copy(s.Out, resp.Body); err != nil {
		return exit.With(exit.Unreachable, fmt.Errorf("the answer ended early: %w", err))
	}
	switch {
	case resp.StatusCode >= http.StatusInternalServerError:
		return exit.With(exit.Unreachable, fmt.Errorf("answered %s", terminal.Printable(resp.Status)))
	case resp.StatusCode >= http.StatusBadRequest:
		return exit.With(exit.Refused, fmt.Errorf("answered %s", terminal.Printable(resp.Status)))
	}
	return nil
}

// request makes the request without a signature.
func (c *callCmd) request(ctx context.Context, s Streams) (*http.Request, []byte, error) {
	body, err := c.body(s)
	if err != nil {
		return nil, nil, err
	}
	method := c.Method
	if method == "" {
		method = http.MethodGet
		if c.Data != "" {
			method = http.MethodPost
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, c.URL, nil)
	if err != nil {
		return nil, nil, exit.With(exit.Usage, err)
	}
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" || r.URL.Host == "" || r.URL.User != nil {
		return nil, nil, exit.Usagef("%q is not a URL to call, expected http(s)://host/path", c.URL)
	}
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, nil, exit.Usagef("--header: got %q, expected NAME: VALUE", h)
		}
		if strings.EqualFold(strings.TrimSpace(name), "Host") {
			r.Host = strings.TrimSpace(value)
			continue
		}
		r.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if len(body) > 0 && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", http.DetectContentType(body))
		if start := bytes.TrimLeft(body, " \t\r\n"); len(start) > 0 {
			switch start[0] {
			case '{', '[':
				r.Header.Set("Content-Type", "application/json")
			case '<':
				r.Header.Set("Content-Type", "application/xml")
			}
		}
	}
	return r, body, nil
}

func (c *callCmd) body(s Streams) ([]byte, error) {
	name, isFile := strings.CutPrefix(c.Data, "@")
	if !isFile {
		return []byte(c.Data), nil
	}
	in := s.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, exit.Usagef("--data: %v", err)
		}
		defer f.Close()
		in = f
	}
	body, err := io.ReadAll(io.LimitReader(in, maxCallBytes+1))
	if err == nil && len(body) > maxCallBytes {
		err = fmt.Errorf("more than %d bytes", maxCallBytes)
	}
	if err != nil {
		return nil, exit.Usagef("--data: %v", err)
	}
	return body, nil
}

// sign adds the credentials, and prints what was signed.
func (c *callCmd) sign(r *http.Request, body []byte, s Streams) error {
	var signed string
	switch c.Sign {
	case "":
		return nil
	case "key", "token":
		if c.Token == "" {
			return exit.Usagef("--sign %s: expected --token or QUORUMHUB_TOKEN", c.Sign)
		}
		if c.Sign == "key" {
			r.Header.Set("X-API-Key", c.Token)
		} else {
			r.Header.Set("Authorization", "Bearer "+c.Token)
		}
		fmt.Fprintf(s.Err, "nothing is signed: the %s is sent as it is\n", c.Sign)
		return nil
	}
	secret, private, err := c.keys()
	if err != nil {
		return err
	}
	if c.Sign == "geo" {
		expires := time.Now().Add(time.Duration(c.Valid))
		if c.ExpiresBy != 0 {
			expires = time.UnixMilli(c.ExpiresBy)
		}
		signed, err = (&signing.GEO{KeyID: c.KeyID, Secret: secret, Algorithm: c.Algorithm, Username: c.Username, Source: c.Source, Target: c.Target,
			Nonce: c.Nonce, Expires: expires, Base64: c.Base64}).Sign(r, body)
	} else {
		signed, err = (&signing.Message{KeyID: c.KeyID, Private: private, Secret: secret, Tag: c.Tag, Valid: time.Duration(c.Valid)}).Sign(r, body)
	}
	if err != nil {
		return exit.Usagef("--sign %s: %v", c.Sign, err)
	}
	fmt.Fprintf(s.Err, "signed, %d bytes:\n%s\n", len(signed), signed)
	return nil
}

// keys returns the shared secret or the private key.
func (c *callCmd) keys() (secret, private []byte, err error) {
	if c.PrivateKey != "" {
		if private, err = os.ReadFile(c.PrivateKey); err != nil {
			return nil, nil, exit.Usagef("--private-key: %v", err)
		}
		return nil, private, nil
	}
	text := c.Secret
	if c.SecretFile != "" {
		content, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, nil, exit.Usagef("--secret-file: %v", err)
		}
		text = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	}
	switch c.SecretEncoding {
	case "hex":
		secret, err = hex.DecodeString(text)
	case "base64":
		secret, err = base64.StdEncoding.DecodeString(text)
	default:
		secret = []byte(text)
	}
	if err != nil {
		return nil, nil, exit.Usagef("the secret is not in %s", c.SecretEncoding)
	}
	return secret, nil, nil
}

// show prints a request as it would be sent.
func (c *callCmd) show(r *http.Request, body []byte, s Streams) error {
	fmt.Fprintf(s.Out, "%s %s HTTP/1.1\nHost: %s\n", r.Method, r.URL.RequestURI(), hostOf(r))
	if err := r.Header.Write(s.Out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.Out, "\n%s", body)
	return err
}

func hostOf(r *http.Request) string {
	if r.Host != "" {
		return r.Host
	}
	return r.URL.Host
}

func (c *callCmd) client() (*http.Client, error) {
	roots, err := (&hubFlags{CA: c.CA}).roots()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	return &http.Client{Transport: transport, Timeout: time.Duration(c.Timeout), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}
