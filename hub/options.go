package hub

import "net/url"

// parseOptions reads how the subscriber wants its messages, beyond WebSub.
func (r *SubscribeRequest) parseOptions(form url.Values) error {
	const start = "hub.start"
	text, err := single(form, start)
	if err != nil {
		return err
	}
	if text != "" || form.Has(start) {
		p, err := ParsePosition(start, text)
		if err != nil {
			return err
		}
		r.Start = &p
	}
	return nil
}
