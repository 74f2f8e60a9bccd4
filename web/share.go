package web

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// sharePath is below which content is fetched by reference.
const sharePath = "/share/"

// shareRoutes are the routes of content by reference.
func (s *Server) shareRoutes() []*route {
	read := map[string]http.HandlerFunc{http.MethodGet: s.getShared, http.MethodHead: s.getShared}
	return []*route{
		{name: "share", paths: []string{sharePath + ":id"}, methods: read, access: access{byTopic: true}},
		{name: "revoke_references", paths: []string{"/v1/references/revoke"}, methods: map[string]http.HandlerFunc{http.MethodPost: s.revokeReferences},
			access: access{changes: auth.ActionTopics, own: true}},
	}
}

// shared is content that somebody fetches by reference.
type shared struct {
	reference *hub.Reference
	topic     string
	message   *hub.Message
	body      []byte // in place of the message's; nil: the message's
	size      int64
	etag      string
	// key is what the content is encrypted to; with encrypts and without a key there is nothing to be had.
	key      string
	encrypts bool
}

// getShared serves content to whoever has a ticket for it. Every ticket that opens nothing gets the same answer. A use is counted on a
// quorum before the first byte is sent; HEAD, 304 and 416 are no use, and ranges continue one.
func (s *Server) getShared(w http.ResponseWriter, r *http.Request) {
	c, err := s.findShared(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	h := w.Header()
	h["Cache-Control"] = []string{"private, no-store"}
	if c.encrypts {
		s.sendEncrypted(w, r, c)
		return
	}
	h["Accept-Ranges"] = []string{"bytes"}
	h["Etag"] = []string{c.etag}
	h[messageIDHeader] = []string{c.message.ID()}
	if matchesTag(r.Header["If-None-Match"], c.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	part, ok := rangeOf(r.Header, c.etag, c.size)
	if !ok {
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", c.size))
		s.fail(w, r, &problem.Details{Status: http.StatusRequestedRangeNotSatisfiable, Code: "range", Param: "Range", Detail: fmt.Sprintf("is not within the %d bytes of the content", c.size)})
		return
	}
	if r.Method != http.MethodHead {
		if !c.message.IsBlob() || c.body != nil {
			caller := callerAt(w)
			if err := s.budget.take(caller, c.size); err != nil {
				s.fail(w, r, err)
				return
			}
			defer s.budget.give(caller, c.size)
		}
		if err := s.countFetch(r, c, part); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	h.Set("Content-Type", c.message.ContentType)
	h.Set("Content-Length", strconv.FormatInt(part.length, 10))
	asData(h)
	status := http.StatusOK
	if part.partial {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.start, part.start+part.length-1, c.size))
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		s.sendShared(w, c, part)
	}
}

// asData says that published content must not run with the hub's origin.
func asData(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox")
}

// sendEncrypted answers a request for content that is encrypted to the subscription's key. Each time it is encrypted anew, so there are no
// ranges and no validators.
func (s *Server) sendEncrypted(w http.ResponseWriter, r *http.Request, c *shared) {
	h, caller := w.Header(), callerAt(w)
	h[messageIDHeader] = []string{c.message.ID()}
	size := 3 * c.size // as it is, encrypted, and encoded
	err := error(hub.ErrNoReference)
	if c.key != "" && s.Policies != nil {
		err = s.budget.take(caller, size)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer s.budget.give(caller, size)
	if c.body == nil {
		c.body, err = hub.ReadBody(s.Parts, c.message)
	}
	var sealed []byte
	var kind string
	if err == nil {
		if sealed, kind, err = s.Policies.Encrypt(c.topic, c.body, c.message.ContentType, c.key); err != nil {
			s.Log.Warn("content cannot be encrypted for a subscription", slog.String("message", c.message.ID()), slog.String("subscription", c.reference.Subscription.String()), slog.Any("error", err))
			err = &problem.Details{Status: http.StatusForbidden, Code: "forbidden", Detail: "the content cannot be encrypted to the subscription's key any more; renew the subscription with another hub.encryption_key"}
		}
	}
	if err == nil && r.Method != http.MethodHead {
		err = s.countFetch(r, c, byteRange{length: c.size})
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(sealed)))
	asData(h)
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(sealed) // fails only if the client is gone
	}
}

// findShared returns what the ticket of a request opens to its caller.
func (s *Server) findShared(r *http.Request) (*shared, error) {
	if s.References == nil {
		return nil, hub.ErrNoReference
	}
	ref, err := s.References.Parse(strings.TrimPrefix(r.URL.EscapedPath(), sharePath))
	if err != nil {
		return nil, err
	}
	now := s.Clock.Now()
	var sub hub.Subscription
	var t hub.Topic
	s.State.View(func(st *hub.State) {
		if sub, t, err = st.Referenced(ref, now); err == nil && !st.MayFetch(ref, now) {
			err = hub.ErrNoReference
		}
	})
	if err != nil {
		return nil, err
	}
	if ref.SamePrincipal || t.Content != nil && t.Content.SamePrincipal {
		if err := s.sameCaller(r, sub.Owner); err != nil {
			return nil, err
		}
	}
	msgs, err := s.Messages.Read(t.ID, ref.Offset, 1, 1)
	switch {
	case errors.Is(err, hub.ErrTrimmed), errors.Is(err, hub.ErrUnknownTopic):
		return nil, hub.ErrNoReference
	case err != nil:
		return nil, fmt.Errorf("read message %d-%d: %w", t.ID, ref.Offset, err)
	case len(msgs) == 0 || msgs[0].Offset != ref.Offset:
		return nil, hub.ErrNoReference
	}
	c := &shared{reference: ref, topic: t.Name, message: &msgs[0], size: msgs[0].Size(), etag: entityTag(&msgs[0]), key: sub.EncryptionKey,
		encrypts: sub.EncryptionKey != "" || t.Content.Encrypts()}
	return c, s.dress(c)
}

// sameCaller returns nil if the caller is the owner of the subscription that got the ticket.
func (s *Server) sameCaller(r *http.Request, owner string) error {
	if s.Guard == nil {
		return hub.ErrNoReference // nobody can prove who it is
	}
	if p := auth.CallerOf(r.Context()).Principal; p.ID != "" && !p.Is(owner) {
		return hub.ErrNoReference
	}
	return s.Guard.Proven(r.Context())
}

// dress makes of the content what the topic's policy lets callbacks have.
func (s *Server) dress(c *shared) error {
	if s.Policies == nil {
		return nil
	}
	p, ok := s.Policies.DeliveryPolicy(c.topic)
	if ok {
		c.encrypts = c.encrypts || p.Encrypts()
	}
	if !ok || !p.Transforms() {
		return nil
	}
	body, err := p.Transform(c.message, s.Parts)
	if err != nil {
		return fmt.Errorf("apply the policy of topic %s to message %s: %w", c.topic, c.message.ID(), err)
	}
	if body == nil {
		body = []byte{}
	}
	sum := sha256.Sum256(body)
	c.body, c.size, c.etag = body, int64(len(body)), `"`+hex.EncodeToString(sum[:16])+`"`
	return nil
}

// countFetch counts the fetch in the log, and notes it in the audit log.
func (s *Server) countFetch(r *http.Request, c *shared, part byteRange) error {
	use, err := s.Service.FetchReference(r.Context(), c.reference, hub.Fetch{Bytes: part.length, Size: c.size, Range: part.partial})
	if err != nil {
		return err
	}
	if s.Guard == nil {
		s.Log.Info("content was fetched by reference", slog.String("topic", c.topic), slog.String("message", c.message.ID()),
			slog.String("subscription", c.reference.Subscription.String()), slog.Int("use", use), slog.String("address", r.RemoteAddr))
		return nil
	}
	ctx := r.Context()
	auth.Note(ctx, "message", c.message.ID())
	auth.Note(ctx, "subscription", c.reference.Subscription.String())
	auth.Note(ctx, "use", strconv.Itoa(use))
	auth.Note(ctx, "bytes", strconv.FormatInt(part.length, 10))
	s.Guard.Fetched(ctx, c.topic)
	return nil
}

// sendShared sends a part of the content.
func (s *Server) sendShared(w http.ResponseWriter, c *shared, part byteRange) {
	var body io.Reader
	switch {
	case c.body != nil:
		_, _ = w.Write(c.body[part.start : part.start+part.length]) // fails only if the client is gone
		return
	case !c.message.IsBlob():
		_, _ = w.Write(c.message.Body[part.start : part.start+part.length])
		return
	default:
		body = hub.NewBodyReader(s.Parts, c.message)
	}
	if _, err := io.CopyN(io.Discard, body, part.start); err != nil {
		panic(http.ErrAbortHandler) // only closing the connection shows that the body is incomplete
	}
	s.sendBody(w, c.message, io.LimitReader(body, part.length))
}

// byteRange is a part of some content, or all of it.
type byteRange struct {
	start, length int64
	partial       bool
}

// rangeOf returns what a request asks for of content with a size (RFC 9110 section 14): one range, or all of it if there are several or
// none, if it is not understood or If-Range names other content. ok is false if the range is not within the content.
func rangeOf(h http.Header, etag string, size int64) (part byteRange, ok bool) {
	all := byteRange{length: size}
	lines := h["Range"]
	if len(lines) != 1 || len(h["If-Range"]) > 1 || len(h["If-Range"]) == 1 && h["If-Range"][0] != etag {
		return all, true
	}
	spec, found := strings.CutPrefix(strings.TrimSpace(lines[0]), "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(spec), "-")
	if !found || !dash || strings.Contains(spec, ",") {
		return all, true
	}
	number := func(s string) (int64, bool) {
		n, err := strconv.ParseUint(s, 10, 63)
		return int64(n), err == nil
	}
	if first == "" { // the last bytes
		n, fine := number(last)
		switch {
		case !fine:
			return all, true
		case n == 0 || size == 0:
			return all, false
		}
		n = min(n, size)
		return byteRange{size - n, n, n < size}, true
	}
	start, fine := number(first)
	end := size - 1
	if last != "" {
		var valid bool
		if end, valid = number(last); !valid || end < start {
			return all, true
		}
	}
	switch {
	case !fine:
		return all, true
	case start >= size:
		return all, false
	}
	end = min(end, size-1)
	return byteRange{start, end - start + 1, end-start+1 < size}, true
}

// revokeReferences takes {"topic": "reports", "offset": 17}, or without the offset ends all references up to the newest message.
func (s *Server) revokeReferences(w http.ResponseWriter, r *http.Request) {
	const expected = `expected JSON such as {"topic": "reports", "offset": 17}, or without the offset for all messages up to the newest`
	var in struct {
		Topic  string `json:"topic"`
		Offset uint64 `json:"offset"`
	}
	err := s.readJSON(w, r, maxShortJSONBytes, &in, expected)
	var name string
	if err == nil {
		name, err = s.Service.Namer().HostedName("topic", in.Topic)
	}
	if err == nil {
		auth.Note(r.Context(), "topic", name)
		_, operator := s.onlyOwner(r.Context())
		err = s.Service.RevokeReferences(r.Context(), name, in.Offset, operator)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// Names of how subscriptions get content.
const (
	contentBody      = "body"
	contentReference = "reference"
	requireTicket    = "ticket"
	requirePrincipal = "same-principal"
)

// shareItem says what references to a topic's content are good for. Absent fields have defaults.
type shareItem struct {
	Uses    *int    `json:"uses,omitempty"`
	For     *string `json:"for,omitempty"`
	Require string  `json:"require,omitempty"`
}

// contentItem returns how subscriptions get a topic's content, as lists and answers have it.
func contentItem(c *hub.TopicContent) (content string, share *shareItem) {
	if c == nil {
		return "", nil
	}
	if c.References() {
		age := formatAge(c.For)
		share = &shareItem{Uses: &c.Uses, For: &age, Require: requireTicket}
		if c.SamePrincipal {
			share.Require = requirePrincipal
		}
		content = contentBody
	}
	if c.ByReference {
		content = contentReference
	}
	return content, share
}

// setContent sets how subscriptions get a topic's content. content and share, which go together, are left alone without both, and so is
// encrypt if it is nil.
func (s *Server) setContent(r *http.Request, name, content string, share *shareItem, encrypt *bool) error {
	if content == "" && share == nil && encrypt == nil {
		return nil
	}
	c := &hub.TopicContent{}
	s.State.View(func(st *hub.State) {
		if t, ok := st.TopicByName(name); ok && t.Content != nil {
			*c = *t.Content
		}
	})
	if content != "" || share != nil {
		if err := s.setShare(c, content, share); err != nil {
			return err
		}
		auth.Note(r.Context(), "content", content)
	}
	if encrypt != nil {
		auth.Note(r.Context(), "require_encryption", strconv.FormatBool(*encrypt))
		c.RequireEncryption = *encrypt
	}
	_, operator := s.onlyOwner(r.Context())
	return s.Service.SetTopicContent(r.Context(), name, c, operator)
}

// setShare sets what references to a topic's content are good for, if there are any.
func (s *Server) setShare(c *hub.TopicContent, content string, share *shareItem) error {
	c.ByReference, c.Uses, c.For, c.SamePrincipal = false, 0, 0, false
	switch content {
	case contentBody, "":
	case contentReference:
		c.ByReference = true
		if share == nil {
			share = &shareItem{}
		}
	default:
		return hub.ParamErrorf("content", "is %s; expected body or reference", problem.Quote(content))
	}
	if share != nil {
		c.Uses, c.For = hub.DefaultReferenceUses, hub.DefaultReferenceTime
		if share.Uses != nil {
			c.Uses = *share.Uses
		}
		if c.Uses == 0 {
			return hub.ParamErrorf("share.uses", "is 0; expected 1 to %d", hub.MaxReferenceUses)
		}
		if share.For != nil {
			var ok bool
			if c.For, ok = parseAge(*share.For); !ok {
				return hub.ParamErrorf("share.for", "is %s; expected a duration such as 10m, 24h or 7d", problem.Quote(*share.For))
			}
		}
		switch share.Require {
		case requireTicket, "":
		case requirePrincipal:
			if s.Guard == nil {
				return hub.ParamErrorf("share.require", "is %s, but this hub asks for no credentials (auth.mode); expected %s", requirePrincipal, requireTicket)
			}
			c.SamePrincipal = true
		default:
			return hub.ParamErrorf("share.require", "is %s; expected %s or %s", problem.Quote(share.Require), requireTicket, requirePrincipal)
		}
	}
	return nil
}

// byReferenceOnly refuses to read a topic whose content is given out by reference or encrypted only, except to its owner and to operators:
// whoever could read it would need neither.
func (s *Server) byReferenceOnly(r *http.Request, name string) error {
	var t hub.Topic
	s.State.View(func(st *hub.State) { t, _ = st.TopicByName(name) })
	how := ""
	switch {
	case t.Content == nil:
	case t.Content.ByReference:
		how = "gives out its content by reference only; subscribe to it, and fetch what its deliveries refer to"
	case t.Content.RequireEncryption:
		how = "gives out its content encrypted only; subscribe to it with hub.encryption_key"
	}
	if how == "" {
		return nil
	}
	if s.Guard != nil {
		p := auth.CallerOf(r.Context()).Principal
		if p.Is(t.Owner) || s.Guard.May(p, auth.ActionTopics) {
			return nil
		}
	}
	return &problem.Details{Status: http.StatusForbidden, Code: "forbidden", Param: "topic", Detail: how}
}
