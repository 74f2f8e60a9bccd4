package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"
	"unicode/utf8"
)

// flashCookie carries what an act has done to the page that the browser is sent to next. Only text goes into it, and pages show it as
// such.
const flashCookie = "quorumhub_console_done"

const (
	maxFlash = 400 // bytes of text
	// flashWait bounds how long a page waits for what was just done to reach this node.
	flashWait = 2 * time.Second
)

// flash is a message about what was just done.
type flash struct {
	Text string `json:"t"`
	// Warning says that it was not, or not all of it.
	Warning bool `json:"w,omitempty"`
	// Index is one of the log that the page must not be older than.
	Index uint64 `json:"i,omitempty"`
}

// done sends the browser to a page of the console with a message about what was done (POST, redirect, GET), so that loading it again
// does nothing again.
func (c *Console) done(w http.ResponseWriter, to, text string) { c.tell(w, to, flash{Text: text}) }

// warn is done for something that happened only in part, or not at all.
func (c *Console) warn(w http.ResponseWriter, to, text string) {
	c.tell(w, to, flash{Text: text, Warning: true})
}

func (c *Console) tell(w http.ResponseWriter, to string, f flash) {
	for len(f.Text) > maxFlash {
		_, n := utf8.DecodeLastRuneInString(f.Text)
		f.Text = f.Text[:len(f.Text)-n]
	}
	f.Index = c.Ports.Written()
	text, err := json.Marshal(f)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	//nolint:gosec // it holds no secret, and hubs with plain HTTP need it, too
	http.SetCookie(w, &http.Cookie{Name: flashCookie, Value: base64.RawURLEncoding.EncodeToString(text), Path: c.Base + "/console",
		MaxAge: 60, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	c.redirect(w, to)
}

// takeFlash returns the message that the request brings, and makes the browser forget it. It waits until this node has what the
// message is about.
func (c *Console) takeFlash(w http.ResponseWriter, r *http.Request) *flash {
	cookie, err := r.Cookie(flashCookie)
	if err != nil || r.Method != http.MethodGet {
		return nil
	}
	//nolint:gosec // likewise
	http.SetCookie(w, &http.Cookie{Name: flashCookie, Path: c.Base + "/console", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	text, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	f := new(flash)
	if err != nil || json.Unmarshal(text, f) != nil || f.Text == "" || len(f.Text) > maxFlash {
		return nil
	}
	if f.Index > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), flashWait)
		defer cancel()
		_ = c.Ports.AwaitIndex(ctx, f.Index) // the page is shown in any case
	}
	return f
}
