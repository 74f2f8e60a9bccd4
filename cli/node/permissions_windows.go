package node

// ReadableByOthers finds nothing: who may read a file here does not follow from its mode.
func ReadableByOthers(string) string { return "" }

// WritableByOthers finds nothing, either.
func WritableByOthers(string) string { return "" }
