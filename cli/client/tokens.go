package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// TokenError is an error as OAuth2 answers with it (RFC 6749 section 5.2).
type TokenError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (e *TokenError) Error() string {
	return "the hub refused: " + terminal.OneLine(e.Code+" "+e.Description)
}

// Unproven posts a form without credentials, for what gets credentials, and decodes the answer, which may be empty. Another node is tried
// only if the request was certainly not sent: a code or token is good for one use. An answer of OAuth2 is a *TokenError.
func (c *Client) Unproven(ctx context.Context, path string, form url.Values, out any) error {
	k := call{method: http.MethodPost, target: below(path), bare: true, body: []byte(form.Encode()),
		header: map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}}
	first := int(c.at.Load())
	var failed []error
	for i := range c.bases {
		n := (first + i) % len(c.bases)
		resp, err := c.transmit(ctx, c.bases[n], k)
		if err == nil {
			c.at.Store(int64(n))
			return c.read(resp, path, out)
		}
		if failed = append(failed, err); !unsent(err) {
			break
		}
	}
	return exit.With(exit.CodeOf(failed[0]), errors.Join(failed...))
}

// read decodes an answer.
func (c *Client) read(resp *http.Response, path string, out any) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblemBytes))
	if err != nil {
		return exit.With(exit.Unreachable, fmt.Errorf("read the response of the hub at %s: %w", c.base(), err))
	}
	if resp.StatusCode/100 != 2 {
		refused := new(TokenError)
		if json.Unmarshal(body, refused) == nil && refused.Code != "" && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
			return exit.With(exit.Refused, refused)
		}
		return refusal(resp, body)
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return c.Unexpected(path, err)
	}
	return nil
}
