package store

// Position is a store's position in raft's log.
type Position struct {
	Index, Term        uint64
	Configuration      []byte // raft's encoded configuration, opaque here; shared and immutable
	ConfigurationIndex uint64
}

// Entry is one committed entry of raft's log.
type Entry struct {
	Index, Term   uint64
	Data          []byte // not changed, and not retained after Apply
	Configuration bool   // Data is an encoded raft configuration; otherwise a hub log entry
}
