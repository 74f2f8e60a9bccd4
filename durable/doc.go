// Package durable is what the rooms need of a file system and the systems do differently: files that are replaced as a whole, locks between
// processes, and directories whose entries survive a power loss.
package durable
