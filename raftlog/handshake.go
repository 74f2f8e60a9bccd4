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

// Between nodes: a byte that says what the stream is for, a hello of the one who dials, a welcome of the other.
// Nothing else is read before both agree.
const (
	protocolVersion = 1
	maxHello        = 4 << 10 // bytes of a hello or welcome

	streamRaft  byte = 'R'
	streamCalls byte = 'C'
)

// hello is what the dialing node says of itself.
type hello struct {
	Version  int    `json:"version"`
	Cluster  string `json:"cluster,omitempty"` // empty: not known yet
	Node     string `json:"node"`
	Instance string `json:"instance"`
	To       string `json:"to,omitempty"` // id of the node it means to reach
	Token    string `json:"token,omitempty"`
	Level    uint32 `json:"level"` // feature level that its program knows
}

// welcome is the answer. A refusal says nothing of the node that refuses.
type welcome struct {
	Version  int     `json:"version"`
	Refused  refusal `json:"refused,omitempty"`
	Reason   string  `json:"reason,omitempty"`
	Settled  bool    `json:"settled,omitempty"` // with Refused: the one who refuses is no fresh node
	Cluster  string  `json:"cluster,omitempty"`
	Node     string  `json:"node,omitempty"`
	Instance string  `json:"instance,omitempty"`
	Level    uint32  `json:"level"`
}

// refusal says which rule two nodes do not agree on.
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
	// refusedCertificate: it says it is another node than its certificate is for.
	refusedCertificate refusal = "certificate"
)

// refusedError says why two nodes do not talk to each other.
type refusedError struct {
	what    refusal
	text    string
	theirs  bool // the other node refuses this one; else this one the other
	settled bool // it comes from a node that is no fresh one, so it is not for want of agreement among beginners
}

func (e *refusedError) Error() string { return e.text }

func refuse(what refusal, format string, args ...any) *refusedError {
	return &refusedError{what: what, text: fmt.Sprintf(format, args...)}
}

// self is what a node says of itself, and what it knows of the others. It is never changed in place.
type self struct {
	id, instance string
	cluster      string            // empty: not known yet
	fresh        bool              // it takes part in nothing yet
	members      map[string]string // instance of the files of each node, as far as known
	removed      map[string]bool
	ids          map[string]string // id by address
	former       []string          // ids of the clusters that this one goes on from
	level        uint32            // feature level that the program knows
	clusterLevel uint32            // that the cluster has agreed on
}

// checkLevel refuses a node whose program knows less than the cluster has agreed on: it could not read the log.
func (s *self) checkLevel(id string, level uint32) *refusedError {
	if level < s.clusterLevel {
		return refuse(refusedLevel, "%s", levelText(id, level, "the cluster", s.clusterLevel)+"; run the same quorumhub there as on the other nodes")
	}
	return nil
}

func levelText(who string, level uint32, cluster string, has uint32) string {
	return fmt.Sprintf("%s knows feature level %d, and %s is at level %d", who, level, cluster, has)
}

// checkNode compares a node that says it is id with what this node knows.
func (s *self) checkNode(id, instance, cluster string) *refusedError {
	switch {
	case id == s.id:
		return refuse(refusedID, "two nodes have the cluster.node_id %q; each needs its own", id)
	case cluster != "" && slices.Contains(s.former, cluster):
		return refuse(refusedCluster, "%s belongs to cluster %s, from which %s was restored or recovered as cluster %s; give it an empty data_dir, so that it joins this one",
			id, cluster, s.id, s.cluster)
	case cluster != "" && s.cluster != "" && cluster != s.cluster:
		return refuse(refusedCluster, "%s belongs to cluster %s, %s to cluster %s; check cluster.peers and data_dir", id, cluster, s.id, s.cluster)
	}
	if s.removed[id] {
		return refuse(refusedRemoved, "%s was removed from the cluster; to take part again it needs an empty data_dir and a new cluster.node_id", id)
	}
	if known := s.members[id]; known != "" && known != instance {
		return refuse(refusedWiped, "%s is known by other files: either its data are lost, and its votes with them, or the id is taken; start it with a new cluster.node_id", id)
	}
	return nil
}

// checkHello is the listening node's side.
func (s *self) checkHello(h *hello, token string) *refusedError {
	given, want := sha256.Sum256([]byte(h.Token)), sha256.Sum256([]byte(token))
	switch {
	case h.Version != protocolVersion:
		return refuse(refusedVersion, "it speaks version %d between nodes, %s speaks version %d; run the same quorumhub on every node", h.Version, s.id, protocolVersion)
	case subtle.ConstantTimeCompare(given[:], want[:]) != 1:
		return refuse(refusedToken, "its cluster.token is not that of %s", s.id)
	case h.To != "" && h.To != s.id:
		return refuse(refusedID, "it looks for %s, but this address is that of %s; check cluster.peers", h.To, s.id)
	}
	if r := s.checkNode(h.Node, h.Instance, h.Cluster); r != nil {
		return r
	}
	return s.checkLevel(h.Node, h.Level)
}

// dialHandshake is the dialing node's side: it says hello and checks the welcome.
func dialHandshake(conn net.Conn, kind byte, me *self, to, token string) (*welcome, error) {
	err := writeHello(conn, []byte{kind}, &hello{Version: protocolVersion, Cluster: me.cluster, Node: me.id, Instance: me.instance, To: to, Token: token, Level: me.level})
	if err != nil {
		return nil, fmt.Errorf("say hello: %w", err)
	}
	w := new(welcome)
	if err := readHello(conn, w); err != nil {
		return nil, fmt.Errorf("read welcome: %w", err)
	}
	if w.Refused != "" {
		return nil, &refusedError{what: w.Refused, text: oneLine(w.Reason), theirs: true, settled: w.Settled}
	}
	if w.Version != protocolVersion {
		return nil, refuse(refusedVersion, "it speaks version %d between nodes, %s speaks version %d; run the same quorumhub on every node", w.Version, me.id, protocolVersion)
	}
	if to != "" && w.Node != to {
		return nil, refuse(refusedID, "%s looks for %s, but this address is that of %s; check cluster.peers", me.id, to, w.Node)
	}
	if r := me.checkNode(w.Node, w.Instance, w.Cluster); r != nil {
		return nil, r
	}
	if r := me.checkLevel(w.Node, w.Level); r != nil {
		return nil, r
	}
	return w, nil
}

// line keeps what a stranger says to one line of plain text.
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
		return fmt.Errorf("it has %d bytes, the most is %d", len(data), maxHello)
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
		return fmt.Errorf("it has %d bytes, the most is %d", n, maxHello)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}
