package hub

import "quorumhub/hub/hubpb"

// EventName returns the name of an event's kind, such as "message_published", or "unknown" for a kind this program
// does not know.
func EventName(e *hubpb.Event) string {
	m := e.ProtoReflect()
	kind := m.Descriptor().Oneofs().ByName("kind")
	if f := m.WhichOneof(kind); f != nil {
		return string(f.Name())
	}
	return "unknown"
}
