package topics

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"sync"

	"quorumhub/hub"
	"quorumhub/web/gateway/convert"
	"quorumhub/web/gateway/protect"
	"quorumhub/web/gateway/registry"
)

// Bounds of the transformed bodies that one policy remembers for the other subscriptions of their topic.
const (
	maxRemembered      = 64
	maxRememberedBytes = 8 << 20
)

// delivery is a registry.DeliverPolicy, ready to be applied. It implements hub.DeliveryPolicy.
type delivery struct {
	headers  []hub.Header
	strip    []string
	limits   convert.Limits
	encrypts bool           // to the subscription's key
	trust    *protect.Trust // whose certificates keys must have; nil: anybody's

	mu    sync.Mutex
	known map[messageKey]*transformed
	order []messageKey // of known, oldest first
	bytes int
}

type messageKey struct {
	topic  hub.TopicID
	offset uint64
}

// transformed is the body of one message as it is sent. once makes it.
type transformed struct {
	once sync.Once
	body []byte
	err  error
	size int // of body; guarded by delivery.mu
}

func newDelivery(d *registry.DeliverPolicy, maxBytes int64) *delivery {
	out := &delivery{strip: d.Strip, limits: convert.Limits{Bytes: maxBytes}, known: map[messageKey]*transformed{}}
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		out.headers = append(out.headers, hub.Header{Name: textproto.CanonicalMIMEHeaderKey(name), Value: d.Headers[name]})
	}
	out.encrypts = d.Protect != nil && d.Protect.Encrypt != ""
	return out
}

// Headers implements hub.DeliveryPolicy.
func (d *delivery) Headers() []hub.Header { return d.headers }

// Transforms implements hub.DeliveryPolicy.
func (d *delivery) Transforms() bool { return len(d.strip) > 0 }

// Encrypts implements hub.DeliveryPolicy.
func (d *delivery) Encrypts() bool { return d.encrypts }

// Transform implements hub.DeliveryPolicy.
func (d *delivery) Transform(m *hub.Message, parts hub.PartReader) ([]byte, error) {
	k := messageKey{m.Topic, m.Offset}
	t := d.remember(k)
	t.once.Do(func() {
		t.body, t.err = d.transform(m, parts)
		d.weigh(k, t, len(t.body))
	})
	if t.err != nil && !errors.Is(t.err, errContent) {
		d.forget(k, t) // it could not be read; another time it may
	}
	return t.body, t.err
}

// errContent marks errors that are the message's own.
var errContent = errors.New("its content cannot be stripped")

func (d *delivery) transform(m *hub.Message, parts hub.PartReader) ([]byte, error) {
	body, err := hub.ReadBody(parts, m)
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	o := convert.Options{Strip: d.strip, Limits: d.limits}
	var out bytes.Buffer
	switch formatOf(m.ContentType) {
	case registry.FormatJSON:
		err = convert.StripJSON(&out, bytes.NewReader(body), o)
	case registry.FormatXML:
		err = convert.StripXML(&out, bytes.NewReader(body), o)
	default:
		err = errors.New("it is neither JSON nor XML")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errContent, err)
	}
	return out.Bytes(), nil
}

// remember returns the entry of a message, and makes room for it.
func (d *delivery) remember(k messageKey) *transformed {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.known[k]; t != nil {
		return t
	}
	for len(d.order) > 0 && (len(d.order) >= maxRemembered || d.bytes > maxRememberedBytes) {
		d.drop(d.order[0])
	}
	t := &transformed{}
	d.known[k] = t
	d.order = append(d.order, k)
	return t
}

// weigh records the size of an entry, unless it had to make room meanwhile.
func (d *delivery) weigh(k messageKey, t *transformed, size int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known[k] == t {
		t.size = size
		d.bytes += size
	}
}

func (d *delivery) forget(k messageKey, t *transformed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known[k] == t {
		d.drop(k)
	}
}

// drop removes an entry. The caller holds mu.
func (d *delivery) drop(k messageKey) {
	t := d.known[k]
	if t == nil {
		return
	}
	delete(d.known, k)
	if i := slices.Index(d.order, k); i >= 0 {
		d.order = slices.Delete(d.order, i, i+1)
	}
	d.bytes -= t.size
}
