package hub

// GroupMembers returns the number of subscriptions in a group.
func (s *State) GroupMembers(id GroupID) int {
	if g := s.groups[id]; g != nil {
		return len(g.members)
	}
	return 0
}

// JSON returns the bytes of a lifecycle message.
func (e *Lifecycle) JSON() []byte { return e.json() }
