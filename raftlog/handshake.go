package raftlog

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
)

// The handshake between nodes: one byte that gives the stream's purpose, a hello from the dialing node, a welcome from the
// other. Nothing else is read before both agree. With plain TCP the two first prove to each other that they belong together
// (proof.go); with TLS their certificates do that.
const (
	protocolVersion = 1
	maxHello        = 4 << 10 // bytes of a hello or welcome

	streamRaft  byte = 'R'
	streamCalls byte = 'C'
)

// hello is the dialing node's half of the handshake.
type hello struct {
	Version  int    `json:"version"`
	Cluster  string `json:"cluster,omitempty"` // empty: not known yet
	Node     string `json:"node"`
	Instance string `json:"instance"`
	To       string `json:"to,omitempty"` // ID of the node it wants to reach
	Token    string `json:"token,omitempty"`
	Level    uint32 `json:"level"`           // feature level of its program
	Boot     string `json:"boot,omitempty"`  // identifies the run of its program
	Open     bool   `json:"open,omitempty"`  // for calls that need no membership
	Nonce    string `json:"nonce,omitempty"` // with plain TCP: it proves that it belongs to the cluster, and asks for the same
	// Settings should be the same on every node.
	Settings map[string]string `json:"settings,omitempty"`
}

// welcome is the other half. A refusal reveals nothing about the refusing node; a challenge, after which another welcome
// follows, its ID only.
type welcome struct {
	challenge
	Version  int     `json:"version"`
	Refused  refusal `json:"refused,omitempty"`
	Reason   string  `json:"reason,omitempty"`
	Settled  bool    `json:"settled,omitempty"` // with Refused: the refusing node is not fresh
	Cluster  string  `json:"cluster,omitempty"`
	Node     string  `json:"node,omitempty"`
	Instance string  `json:"instance,omitempty"`
	Level    uint32  `json:"level"`
	// Settings should be the same on every node.
	Settings map[string]string `json:"settings,omitempty"`
}

// refusal names the rule on which two nodes disagree.
type refusal string

const (
	refusedVersion refusal = "version"
	refusedToken   refusal = "token"
	refusedCluster refusal = "cluster"
	refusedID      refusal = "id"
	refusedWiped   refusal = "wiped"
	refusedPlain   refusal = "plain"
	refusedLevel   refusal = "level"
	refusedRemoved refusal = "removed"
	refusedTLS     refusal = "tls"
	refusedKey     refusal = "key"
	refusedAddress refusal = "address"
	// refusedCertificate: the node claims another ID than its certificate.
	refusedCertificate refusal = "certificate"
	// refusedProof: the nodes have no secret in common.
	refusedProof refusal = "proof"
	// refusedTwin: another process runs with the same ID and data.
	refusedTwin refusal = "twin"
	// refusedMember: raft's streams are for members.
	refusedMember refusal = "member"
)

// refusedError is the reason why one node refuses another.
type refusedError struct {
	what    refusal
	text    string
	theirs  bool // the other node refuses this one; otherwise this one refuses the other
	settled bool // the refusing node belongs to a cluster, so this is not a disagreement among founders
}

func (e *refusedError) Error() string { return e.text }

func refuse(what refusal, format string, args ...any) *refusedError {
	return &refusedError{what: what, text: fmt.Sprintf(format, args...)}
}

// self is what a node tells others about itself, and what it knows about them. It is immutable.
type self struct {
	id, instance string
	boot         string
	cluster      string            // empty: not known yet
	fresh        bool              // it belongs to no cluster yet
	members      map[string]string // instance of each node's files, as far as known
	removed      map[string]bool
	ids          map[string]string // ID by address
	former       []string          // IDs of the clusters from which this one was restored or recovered
	level        uint32            // feature level of this program
	clusterLevel uint32            // feature level of the cluster
	settings     map[string]string // see Options.Settings
}

// checkLevel refuses a node whose feature level is below the cluster's: it could not read the log.
func (s *self) checkLevel(id string, level uint32) *refusedError {
	if level < s.clusterLevel {
		return refuse(refusedLevel, "%s", levelText(id, level, "the cluster", s.clusterLevel)+"; run the same quorumhub version there as on the other nodes")
	}
	return nil
}

func levelText(who string, level uint32, cluster string, has uint32) string {
	return fmt.Sprintf("%s supports feature level %d, but %s is at level %d", who, level, cluster, has)
}

// checkNode compares a node that claims to be id with what this node knows.
func (s *self) checkNode(id, instance, cluster string) *refusedError {
	switch {
	case id == s.id:
		return refuse(refusedID, "two nodes have the cluster.node_id %q; each node needs its own", id)
	case cluster != "" && slices.Contains(s.former, cluster):
		return refuse(refusedCluster, "%s belongs to cluster %s, from which %s was restored or recovered as cluster %s; give it an empty data_dir to join this one",
			id, cluster, s.id, s.cluster)
	case cluster != "" && s.cluster != "" && cluster != s.cluster:
		return refuse(refusedCluster, "%s belongs to cluster %s, but %s to cluster %s; check cluster.peers and data_dir", id, cluster, s.id, s.cluster)
	}
	if s.removed[id] {
		return refuse(refusedRemoved, "%s was removed from the cluster; to join again it needs an empty data_dir and a new cluster.node_id", id)
	}
	if known := s.members[id]; known != "" && known != instance {
		return refuse(refusedWiped, "%s is known with other data: either it lost its data, and its votes with them, or the ID is taken; start it with a new cluster.node_id", id)
	}
	return nil
}

func (s *self) checkVersion(version int) *refusedError {
	if version != protocolVersion {
		return refuse(refusedVersion, "it speaks version %d of the node protocol, %s speaks version %d; run the same quorumhub version on every node", version, s.id, protocolVersion)
	}
	return nil
}

func (s *self) checkToken(given, token string) *refusedError {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return refuse(refusedToken, "its cluster.token differs from that of %s", s.id)
	}
	return nil
}

// checkHello checks a hello on the listening side, apart from its version and its proof.
func (s *self) checkHello(h *hello) *refusedError {
	switch {
	case h.To != "" && h.To != s.id:
		return refuse(refusedID, "it wants to reach %s, but this address belongs to %s; check cluster.peers", h.To, s.id)
	}
	if r := s.checkNode(h.Node, h.Instance, h.Cluster); r != nil {
		return r
	}
	return s.checkLevel(h.Node, h.Level)
}

// dialHandshake is the dialing side of the handshake: it sends a hello and checks the welcome. shared is nil with TLS.
func dialHandshake(conn net.Conn, p purpose, me *self, to, token string, shared *secrets) (*welcome, error) {
	h := hello{Version: protocolVersion, Cluster: me.cluster, Node: me.id, Instance: me.instance, To: to, Token: token, Level: me.level, Boot: me.boot, Open: p.open,
		Settings: me.settings}
	if shared != nil {
		h.Nonce = randomID() + randomID()
		if me.clusterLevel != levelUnproven {
			h.Token = "" // on this machine anybody may be listening in the node's place
		}
	}
	if err := writeHello(conn, []byte{p.kind}, &h); err != nil {
		return nil, fmt.Errorf("send hello: %w", err)
	}
	w, err := readWelcome(conn)
	if err != nil {
		return nil, err
	}
	if shared != nil {
		if w, err = answerChallenge(conn, p, me, &h, w, shared); err != nil {
			return nil, err
		}
	}
	if r := me.checkVersion(w.Version); r != nil {
		return nil, r
	}
	if to != "" && w.Node != to {
		return nil, refuse(refusedID, "%s wants to reach %s, but this address belongs to %s; check cluster.peers", me.id, to, w.Node)
	}
	if r := me.checkNode(w.Node, w.Instance, w.Cluster); r != nil {
		return nil, r
	}
	if r := me.checkLevel(w.Node, w.Level); r != nil {
		return nil, r
	}
	return w, nil
}

func readWelcome(conn net.Conn) (*welcome, error) {
	w := new(welcome)
	if err := readHello(conn, w); err != nil {
		return nil, fmt.Errorf("read welcome: %w", err)
	}
	if w.Refused != "" {
		return nil, &refusedError{what: w.Refused, text: oneLine(w.Reason), theirs: true, settled: w.Settled}
	}
	return w, nil
}

// oneLine reduces untrusted text to one short line of plain text.
func oneLine(s string) string {
	if len(s) > 300 {
		s = s[:300]
	}
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}

func writeHello(w io.Writer, before []byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(data) > maxHello {
		return fmt.Errorf("handshake of %d bytes, expected at most %d", len(data), maxHello)
	}
	out := binary.BigEndian.AppendUint16(before, uint16(len(data)))
	_, err = w.Write(append(out, data...))
	return err
}

func readHello(r io.Reader, v any) error {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxHello {
		return fmt.Errorf("handshake of %d bytes, expected at most %d", n, maxHello)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}
