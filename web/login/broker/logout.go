package broker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	httphelper "github.com/zitadel/oidc/v3/pkg/http"
	"github.com/zitadel/oidc/v3/pkg/op"

	"quorumhub/auth/session"
	"quorumhub/web/login"
	"quorumhub/web/login/screen"
)

// Decoder implements op.SessionEnder.
func (b *Broker) Decoder() httphelper.Decoder { return b.decoder }

// Logger implements op.SessionEnder.
func (b *Broker) Logger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// DefaultLogoutRedirectURI implements op.SessionEnder.
func (b *Broker) DefaultLogoutRedirectURI() string { return b.PublicURL + login.ByePath }

// IDTokenHintVerifier implements op.SessionEnder.
func (b *Broker) IDTokenHintVerifier(context.Context) *op.IDTokenHintVerifier {
	return op.NewIDTokenHintVerifier(b.Issuer, &op.OpenIDKeySet{Storage: storage{b}}, op.WithSupportedIDTokenHintSigningAlgorithms("ES256"))
}

// endSession logs somebody out because an application asks for it (OpenID Connect RP-Initiated Logout 1.0). With an ID token that proves
// that the application knows whose session it is, it ends at once; otherwise the person is asked first. The browser logs out at the
// identity provider, too, if that was configured, before it goes on to the application.
func (b *Broker) endSession(w http.ResponseWriter, r *http.Request) {
	peer := login.PeerOf(r.Context())
	if err := peer.Reserve(); err != nil {
		login.Fail(w, r, err)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	in, err := op.ParseEndSessionRequest(r, b.decoder)
	if err == nil {
		err = once(r.Form)
	}
	if err != nil {
		login.Fail(w, r, login.Mistake("query", "is not understood, or has a parameter twice; expected a logout request of OpenID Connect"))
		return
	}
	to, err := op.ValidateEndSessionRequest(op.ContextWithIssuer(r.Context(), b.Issuer), in, b)
	if err != nil {
		peer.Refused(r.Context(), err)
		login.Fail(w, r, login.Mistake("id_token_hint", "client_id or post_logout_redirect_uri are not those of an application that is registered here"))
		return
	}
	peer.Return()
	if len(to.RedirectURI) > login.MaxReturn {
		login.Fail(w, r, login.Mistake("state", fmt.Sprintf("is too long; expected at most %d bytes with post_logout_redirect_uri", login.MaxReturn)))
		return
	}
	s, next := peer.Session, to.RedirectURI
	hinted := s != nil && to.IDTokenHintClaims != nil && to.UserID == s.Principal.ID && slices.Contains(to.IDTokenHintClaims.GetAudience(), to.ClientID)
	confirmed := r.Method == http.MethodPost && r.PostForm.Get("confirm") == "yes"
	switch {
	case s == nil:
	case hinted || confirmed:
		then := ""
		if to.ClientID != "" && in.PostLogoutRedirectURI != "" {
			then = next
		}
		on, err := b.Logout.End(w, r, s, then, "by", to.ClientID)
		if err != nil {
			login.Fail(w, r, err)
			return
		}
		next = cmp.Or(on, next)
	default:
		b.confirmLogout(w, s, r.Form)
		return
	}
	login.Redirect(w, r, next)
}

// confirmLogout asks whether to log out.
func (b *Broker) confirmLogout(w http.ResponseWriter, s *session.Session, form url.Values) {
	f := screen.Form{Action: b.base + basePath + "/end_session", Buttons: []screen.Button{{Name: "confirm", Value: "yes", Text: "Log out"}}}
	for _, name := range []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state"} {
		if form.Has(name) {
			f.Hidden = append(f.Hidden, screen.Hidden{Name: name, Value: form.Get(name)})
		}
	}
	page := &screen.Page{Title: "Log out", Text: []string{"An application asks to log you out, everywhere where you are logged in with this browser through this hub. You are " + s.Name + "."},
		Forms: []screen.Form{f}, Links: []screen.Link{{URL: b.base + "/login/me", Text: "Stay logged in"}}}
	page.Write(w)
}
