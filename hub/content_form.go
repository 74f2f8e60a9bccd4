package hub

import "net/url"

const contentParam = "hub.content"

// parseContent parses whether the subscriber wants references in place of content, an extension.
func (r *SubscribeRequest) parseContent(form url.Values) error {
	content, given, err := optional(form, contentParam)
	switch {
	case err != nil:
		return err
	case !given, content == "body":
	case content == "reference":
		r.Options.Reference = true
	default:
		return ParamErrorf(contentParam, "is %s; expected body or reference", quote(content))
	}
	return nil
}

// checkContentOptions checks what a subscription asks for against what the topic offers.
func (s *Service) checkContentOptions(r *SubscribeRequest) error {
	if r.Mode != ModeSubscribe {
		return nil
	}
	var content *TopicContent
	s.state.View(func(st *State) {
		t, _ := st.TopicByName(r.Topic)
		content = t.Content
	})
	switch {
	case content.Encrypts() && r.EncryptionKey == "":
		return &Error{Code: CodeForbidden, Param: encryptionKeyParam, Message: "is missing; this topic is delivered encrypted only: expected a public JWK, or a certificate as x5c or PEM"}
	case !r.Options.Reference:
		return nil
	case !content.References():
		return &Error{Code: CodeForbidden, Param: contentParam, Message: "is reference, which this topic does not offer; expected body, or a topic whose owner offers references (quorumhub topics content)"}
	}
	return s.knowsGateway("content by reference")
}
