// Package protect decrypts, verifies, reduces and encrypts payloads: JOSE (RFC 7515, 7516) for the parties of a route or a
// subscription, X.509 for who they are.
//
// Messages are in compact serialization. What is accepted is a short list, and it is the key that chooses from it, never the
// message: JWE with RSA-OAEP-256 or ECDH-ES+A256KW and A256GCM, without compression; JWS by the certificate in its x5c. Keys of
// RSA have at least 2048 bits; curves are P-256, P-384, P-521 and, for encryption, X25519. Keys and certificates that a message
// points to (jku, x5u) are never fetched.
//
// The jose libraries do the cryptography and crypto/x509 the certificates; this package decides what they may do.
package protect
