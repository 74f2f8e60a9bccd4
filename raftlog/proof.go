package raftlog

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"sync"
)

// With plain TCP, which is for loopback only, any process of the machine can connect to a cluster port or listen in a node's
// place. So two nodes prove to each other that they hold the same secret: cluster.token if there is one, otherwise a sealing
// key. Neither is sent: the listening node answers the hello with a challenge and its proofs, the dialing one replies with
// its own.
const (
	// levelUnproven is the feature level of clusters in which some node runs a program that knows no proofs. A cluster that was
	// founded by later programs never has it.
	levelUnproven = 1
	maxSecrets    = 8 // sealing keys that a node tries
	tokenRounds   = 20_000
	proofLabel    = "quorumhub cluster port, version 1"
)

// challenge is what the listening node answers to a hello with a nonce.
type challenge struct {
	Nonce  string   `json:"nonce,omitempty"`
	Proofs []string `json:"proofs,omitempty"`
}

// purpose is what a connection is for.
type purpose struct {
	kind byte
	open bool // only calls that need no membership; the nodes need not have proven anything
}

// secrets are what only the nodes of one cluster know. Safe for concurrent use.
type secrets struct {
	token   func() []byte   // derived, once
	sealing func() [][]byte // nil: none
	byToken bool
}

func newSecrets(token string, sealing func() [][]byte) *secrets {
	return &secrets{byToken: token != "", sealing: sealing, token: sync.OnceValue(func() []byte {
		// A token may be a word that somebody made up, and whoever connects gets a proof to guess against.
		key, err := pbkdf2.Key(sha256.New, token, []byte(proofLabel), tokenRounds, sha256.Size)
		if err != nil {
			return nil // not possible with these parameters; nothing is proven then
		}
		return key
	})}
}

func (s *secrets) all() [][]byte {
	switch {
	case s.byToken:
		return [][]byte{s.token()}
	case s.sealing == nil:
		return nil
	}
	all := s.sealing()
	return all[:min(len(all), maxSecrets)]
}

// prove returns the proofs of one side ("dialing" or "listening"), one for each secret.
func (s *secrets) prove(side string, kind byte, h *hello, nonce, listener string) (proofs []string) {
	for _, secret := range s.all() {
		m := hmac.New(sha256.New, secret)
		fmt.Fprintf(m, "%s: %s %c %q %q %q %q %q %q", proofLabel, side, kind, h.Nonce, nonce, h.Node, h.Instance, h.Boot, listener)
		proofs = append(proofs, hex.EncodeToString(m.Sum(nil)))
	}
	return proofs
}

// verify reports whether one of the other side's proofs shows that it knows a secret of this one.
func (s *secrets) verify(given []string, side string, kind byte, h *hello, nonce, listener string) bool {
	given = given[:min(len(given), maxSecrets)]
	for _, own := range s.prove(side, kind, h, nonce, listener) {
		for _, g := range given {
			if hmac.Equal([]byte(g), []byte(own)) {
				return true
			}
		}
	}
	return false
}

// refusal is what a node that has proven nothing is told.
func (s *secrets) refusal(id string) *refusedError {
	if s.byToken {
		return refuse(refusedToken, "its cluster.token differs from that of %s", id)
	}
	return refuse(refusedProof, "it has no sealing key in common with %s; copy one secrets.key_file to every node, or set the same cluster.token on every node", id)
}

// challengeVisitor is the listening side of the proof. proven is false without a refusal only for an open purpose.
func (s *secrets) challengeVisitor(conn net.Conn, p purpose, me *self, h *hello) (proven bool, _ *refusedError, _ error) {
	nonce := randomID() + randomID()
	c := challenge{Nonce: nonce, Proofs: s.prove("listening", p.kind, h, nonce, me.id)}
	if err := writeHello(conn, nil, &welcome{Version: protocolVersion, Node: me.id, challenge: c}); err != nil {
		return false, nil, err
	}
	var a challenge
	if err := readHello(conn, &a); err != nil {
		return false, nil, err
	}
	switch {
	case s.verify(a.Proofs, "dialing", p.kind, h, nonce, me.id):
		return true, nil, nil
	case s.byToken || !p.open:
		return false, s.refusal(me.id), nil
	}
	return false, nil, nil
}

// answerChallenge is the dialing side of the proof. It returns the welcome that follows.
func answerChallenge(conn net.Conn, p purpose, me *self, h *hello, w *welcome, s *secrets) (*welcome, error) {
	if w.Nonce == "" {
		if me.clusterLevel == levelUnproven || p.open && !s.byToken {
			return w, nil
		}
		return nil, s.refusal(me.id)
	}
	proven := s.verify(w.Proofs, "listening", p.kind, h, w.Nonce, w.Node)
	var a challenge
	if proven || p.open && !s.byToken {
		a.Proofs = s.prove("dialing", p.kind, h, w.Nonce, w.Node)
	} // otherwise it is told that this node does not trust it
	if err := writeHello(conn, nil, &a); err != nil {
		return nil, fmt.Errorf("send the proof: %w", err)
	}
	w, err := readWelcome(conn)
	if err == nil && a.Proofs == nil && !proven {
		return nil, s.refusal(me.id)
	}
	return w, err
}
