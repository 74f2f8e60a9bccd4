// Package hostile attacks a real hub as a hostile client, callback or topic would, over raw TCP where need be. During every
// attack an honest publisher publishes and an honest subscriber gets it; after it, memory, goroutines, connections and file
// descriptors must be what they were.
package hostile
