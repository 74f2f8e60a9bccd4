package console

import (
	"context"
	"net/http"
	"time"

	"quorumhub/hub"
	"quorumhub/web/view"
)

// DataPorts is what pages about topics, subscriptions and messages need of the server.
type DataPorts interface {
	// Owns reports whether the viewer may see what belongs to owner.
	Owns(ctx context.Context, owner string) bool
	// MayRead reports whether the viewer may read the content of a topic's messages; otherwise the error says why not, in words for
	// the viewer.
	MayRead(r *http.Request, topic string) error

	// Messages lists messages of a topic that the viewer may know of, the newest first, and returns the offset before which there are
	// more; 0: there are none.
	Messages(ctx context.Context, q MessageQuery) (_ []view.Message, next uint64, err error)
	// Message returns a message that the viewer may know of, with its topic.
	Message(ctx context.Context, id string) (*hub.Message, hub.Topic, error)
	// Content reads at most limit bytes of a message's content. Release them when they are no longer used.
	Content(w http.ResponseWriter, m *hub.Message, limit int) (body []byte, release func(), err error)
	// Way returns what has become of a message, with regard to subscriptions that the viewer may see.
	Way(ctx context.Context, m *hub.Message, t *hub.Topic, after hub.SubscriptionID, limit int) (*view.MessageWay, error)

	// Delivery asks the owner of a subscription about its deliveries.
	Delivery(ctx context.Context, id hub.SubscriptionID) (*view.Delivery, error)
	// Redeliver and Test send something to a subscription that the viewer may manage, and wait for the outcome.
	Redeliver(ctx context.Context, id hub.SubscriptionID, message string) (*view.Sent, error)
	Test(ctx context.Context, id hub.SubscriptionID, contentType, body string) (*view.Sent, error)
	// OffsetAt returns the offset of a topic's first message that is not older than at, or of the one to come.
	OffsetAt(topic hub.TopicID, at time.Time) (uint64, error)
	// Rewind moves the cursor of a subscription that the viewer may manage, or only counts what that would do.
	Rewind(ctx context.Context, id hub.SubscriptionID, to hub.Position, dryRun bool) (hub.Rewind, error)

	// Publish publishes to a topic and returns the message's ID, or that of the one that was published under the key before.
	Publish(w http.ResponseWriter, r *http.Request, topic, contentType, key string, body []byte) (id string, duplicate bool, err error)
	// MaxMessageBytes is the longest content.
	MaxMessageBytes() int64
	// SetTopic changes limits and lifecycle of a topic.
	SetTopic(r *http.Request, topic string, c TopicChange) error
	// MayDeregister reports whether the viewer may remove a topic.
	MayDeregister(ctx context.Context, topic string) bool
	// TopicName returns the name of a topic that a field of a form names.
	TopicName(param, text string) (string, error)

	// LetterFilter parses the filters of dead letters by their names in the API.
	LetterFilter(get func(string) string) (hub.DeadLetterFilter, error)
	// Letter returns a dead letter that the viewer may see, and its message, whose content Content reads. Without the message, its
	// content is lost.
	Letter(ctx context.Context, id string) (*hub.DeadLetter, *hub.Message, error)
}

// MessageQuery selects messages of a topic.
type MessageQuery struct {
	Topic        string
	Key          string    // Idempotency-Key; empty: any
	Since, Until time.Time // published at or after, and before; zero: no bound
	Before       uint64    // offset that none may reach; 0: none
	Limit        int
}

// TopicChange is what is to be changed of a topic. Texts are as in the API; empty ones mean the hub's setting, or none.
type TopicChange struct {
	Limits           bool // MaxAge and MaxBytes are to be set
	MaxAge, MaxBytes string

	Status            string // active, deprecated or retired; empty: as it is
	Sunset, Successor string
}
