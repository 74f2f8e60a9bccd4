// Package keyring keeps the sealing keys that encrypt signing secrets at rest.
//
// A Ring seals and opens secrets with AES-256-GCM. A Store holds a node's Ring and the key file it comes from. A Keeper keeps
// each node's Store in step with the keys the replicated log names, and rotates them across the cluster: every node has the
// new key on disk before the first secret is sealed with it, and a key is dropped only once nothing is sealed with it.
//
// It decides nothing about access; package auth does. It imports only hub, and neither package imports the other.
package keyring
