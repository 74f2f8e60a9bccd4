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
	if r.Mode != ModeSubscribe || !r.Options.Reference {
		return nil
	}
	offered := false
	s.state.View(func(st *State) {
		t, ok := st.TopicByName(r.Topic)
		offered = ok && t.Content.References()
	})
	if !offered {
		return &Error{Code: CodeForbidden, Param: contentParam, Message: "is reference, which this topic does not offer; expected body, or a topic whose owner offers references (quorumhub topics content)"}
	}
	return s.knowsGateway("content by reference")
}
