package delivery

// Switches that take one guard away each.

func (o *DispatcherOptions) WithoutOwnership() { o.without.ownership = true }
func (o *DispatcherOptions) WithoutLease()     { o.without.lease = true }
func (o *DispatcherOptions) WithoutCatchUp()   { o.without.catchUp = true }
func (o *DispatcherOptions) WithoutDrain()     { o.without.drain = true }
func (o *PlacerOptions) WithoutMoveAfter()     { o.without.moveAfter = true }

// Pointed is the key of a message by its body.
func Pointed(body []byte, key string) []byte { return pointed(body, newKeying(key).path) }
