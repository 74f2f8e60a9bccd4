package store

// Position is where a store stands in raft's log.
type Position struct {
	Index, Term        uint64
	Configuration      []byte // raft's encoded configuration, opaque here; shared, never changed
	ConfigurationIndex uint64
}

// Entry is one committed entry of raft's log.
type Entry struct {
	Index, Term   uint64
	Data          []byte // not changed, and not kept after Apply
	Configuration bool   // Data is an encoded raft configuration, else a hub log entry
}
