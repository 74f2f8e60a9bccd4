package registry

import (
	"strings"
)

func (c *checker) topics() {
	patterns := make([]Pattern, len(c.reg.Topics))
	for i := range c.reg.Topics {
		if i == maxTopics {
			return // walk says so
		}
		t := &c.reg.Topics[i]
		path := in("topics", i)
		p, err := ParsePattern(t.Match)
		if err != nil {
			if t.Match != "" {
				c.failf(below(path, "match"), "%s", err)
			}
			continue
		}
		patterns[i] = p
		for j, earlier := range patterns[:i] {
			if earlier.text != "" && earlier.covers(p) {
				c.failf(below(path, "match"), "never applies: topics[%d] (%s, line %d) matches first; expected the narrower pattern first", j, clip(earlier.text), c.reg.Topics[j].Position.Line)
				break
			}
		}
		if t.Publish == nil && t.Subscribe == nil && t.Deliver == nil {
			c.fail("does nothing, expected publish, subscribe or deliver", path...)
		}
		c.topicParts(t, path)
	}
}

func (c *checker) topicParts(t *TopicPolicy, path []any) {
	if p := t.Publish; p != nil {
		c.auth(p.Auth, below(path, "publish", "auth"))
		if p.Body != nil {
			c.file(p.Body.Schema, below(path, "publish", "body", "schema"))
		}
	}
	if s := t.Subscribe; s != nil {
		c.auth(s.Auth, below(path, "subscribe", "auth"))
		hosts := make([]string, len(s.CallbackHosts))
		for i, h := range s.CallbackHosts {
			hosts[i] = strings.ToLower(h)
		}
		unique(c, hosts, below(path, "subscribe", "callback_hosts"))
	}
	if d := t.Deliver; d != nil {
		c.headers(d.Headers, below(path, "deliver", "headers"))
		unique(c, d.Strip, below(path, "deliver", "strip"))
		if p := d.Protect; p != nil && p.Trust != "" {
			if _, is := c.reg.Trust[p.Trust]; !is {
				c.failf(below(path, "deliver", "protect", "trust"), "unknown authorities %q, expected one of: %s", clip(p.Trust), known(c.reg.Trust))
			}
		}
		for _, name := range []string{"Link", "Content-Type", "X-Hub-Signature", "X-Hub-Signature-256"} {
			for given := range d.Headers {
				if strings.EqualFold(given, name) {
					c.failf(below(path, "deliver", "headers", given), "%s is the hub's to set, expected another header", name)
				}
			}
		}
	}
}
