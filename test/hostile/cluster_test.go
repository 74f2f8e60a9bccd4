package hostile_test

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/hubtest"
)

// startTrio starts a cluster of three processes on loopback, with no cluster.token unless more has one.
func startTrio(t *testing.T, more hubtest.Settings) (nodes []*hubtest.Node, addrs []string) {
	t.Helper()
	addrs, err := hubtest.FreeAddrs(6)
	if err != nil {
		t.Fatal(err)
	}
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	var peers []string
	for i := range 3 {
		peers = append(peers, fmt.Sprintf("node-%d=%s", i+1, addrs[3+i]))
	}
	started := make(chan error, 3)
	for i := range 3 {
		n, err := hubtest.PrepareNode(hubtest.Options{Dir: filepath.Join(t.TempDir(), "node"), Binary: hubtest.Binary(t), Settings: hubtest.Settings{"cluster.peers": peers}.With(more)})
		if err != nil {
			t.Fatal(err)
		}
		n.Place(fmt.Sprint("node-", i+1), addrs[i], addrs[3+i])
		if err := os.MkdirAll(n.DataDir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(n.DataDir, "secrets.key"), []byte(base64.StdEncoding.EncodeToString(raw[:])+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		n.ShowLogOnFailure(t)
		nodes = append(nodes, n)
		go func() { started <- n.Run() }()
	}
	for range nodes {
		if err := <-started; err != nil {
			t.Fatal(err)
		}
	}
	return nodes, addrs[3:]
}

// peer speaks the protocol between nodes, from its description only.
type peer struct {
	net.Conn
	in *bufio.Reader
}

func (p *peer) write(v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = p.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(data))), data...))
	}
	return err
}

func (p *peer) read(v any) error {
	var size [2]byte
	if _, err := io.ReadFull(p.in, size[:]); err != nil {
		return err
	}
	data := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(p.in, data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

type introduction struct {
	Version  int      `json:"version"`
	Node     string   `json:"node"`
	Instance string   `json:"instance"`
	Cluster  string   `json:"cluster,omitempty"`
	Token    string   `json:"token,omitempty"`
	Level    int      `json:"level"`
	Open     bool     `json:"open,omitempty"`
	Nonce    string   `json:"nonce,omitempty"`
	Proofs   []string `json:"proofs,omitempty"`
	Refused  string   `json:"refused,omitempty"`
}

// introduce opens a connection for kind. refused is the reason of a refusal.
func introduce(t *testing.T, addr string, kind byte, me introduction) (p *peer, refused string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	p = &peer{conn, bufio.NewReader(conn)}
	if _, err := conn.Write([]byte{kind}); err != nil {
		t.Fatal(err)
	}
	var answer introduction
	if err := p.write(me); err != nil {
		t.Fatal(err)
	}
	if err := p.read(&answer); err != nil {
		t.Fatal(err)
	}
	if answer.Nonce != "" { // the node's own proofs, sent back, and one that was made up
		if err := p.write(introduction{Proofs: append(answer.Proofs, strings.Repeat("ab", 32))}); err != nil {
			t.Fatal(err)
		}
		answer = introduction{}
		if err := p.read(&answer); err != nil {
			t.Fatal(err)
		}
	}
	return p, answer.Refused
}

// call makes a call and returns the first byte of the answer.
func (p *peer) call(t *testing.T, method byte, body []byte) (status byte, answer []byte) {
	t.Helper()
	f := binary.BigEndian.AppendUint32(nil, uint32(9+len(body)))
	f = binary.BigEndian.AppendUint64(f, 1)
	if _, err := p.Write(append(append(f, method), body...)); err != nil {
		t.Fatal(err)
	}
	var head [4]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(p.in, rest); err != nil {
		t.Fatal(err)
	}
	return rest[8], rest[9:]
}

// forwarded is a batch as a follower forwards it: it makes an operator's API key and a topic.
func forwarded(t *testing.T) []byte {
	t.Helper()
	proposal, err := hub.EncodeProposal([]*hubpb.Event{
		{Kind: &hubpb.Event_ApiKeyCreated{ApiKeyCreated: &hubpb.ApiKeyCreated{Id: "intruder", Hash: make([]byte, 32), Roles: []string{"operator"}}}},
		{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{Topic: "intruder", Body: []byte("x"), AutoRegister: true}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	origin := "intruder/1"
	body := append(binary.AppendUvarint([]byte{0}, uint64(len(origin))), origin...)
	body = binary.AppendUvarint(body, 1) // number of the batch
	body = binary.AppendUvarint(body, 1) // proposals
	return append(binary.AppendUvarint(body, uint64(len(proposal))), proposal...)
}

// A process on the machine that is no node of the cluster connects to the cluster ports, under its own name and under that of a member
// whose identity it has asked for. Of all calls there can be it may make two: ask for a node's state, and ask to join, in vain.
func TestHostileProcessAtTheClusterPort(t *testing.T) {
	nodes, ports := startTrio(t, nil)
	nodes[0].Publish(t, nodes[0].TopicURL("honest"), "text/plain", []byte("x"))
	batch := forwarded(t)
	for i, port := range ports {
		curious, refused := introduce(t, port, 'C', introduction{Version: 1, Node: "curious", Open: true, Level: 99, Nonce: strings.Repeat("0", 32)})
		if refused != "" {
			t.Fatalf("asking for the state is refused: %s", refused)
		}
		_, answer := curious.call(t, 1, []byte("{}"))
		var state struct {
			Cluster string            `json:"cluster"`
			Members map[string]string `json:"members"`
		}
		if err := json.Unmarshal(answer, &state); err != nil || state.Cluster == "" {
			t.Fatalf("%s: %v", answer, err)
		}
		victim := fmt.Sprint("node-", (i+1)%3+1)
		for _, me := range []introduction{
			{Node: "intruder", Instance: "x"},
			{Node: victim, Instance: state.Members[victim], Cluster: state.Cluster},
		} {
			for _, me.Nonce = range []string{"", strings.Repeat("0", 32)} {
				for _, me.Open = range []bool{false, true} {
					me.Version, me.Level = 1, 99
					if _, refused := introduce(t, port, 'R', me); refused == "" {
						t.Errorf("%+v may open raft's streams of node-%d", me, i+1)
					}
					for method := range 256 {
						p, refused := introduce(t, port, 'C', me)
						if refused != "" {
							break
						}
						body := []byte("{}")
						if method == 3 {
							body = batch
						}
						if method == 4 {
							body = fmt.Appendf(nil, `{"node":%q,"instance":%q,"address":"127.0.0.1:9","fresh":true,"voter":true}`, me.Node, me.Instance)
						}
						status, answer := p.call(t, byte(method), body)
						p.Close()
						switch {
						case method == 1:
						case method == 4 && !strings.Contains(string(answer), `"joined"`):
						case status == 5: // for members
						default:
							t.Errorf("%+v: node-%d answers call %d with status %d, %q", me, i+1, method, status, answer)
						}
					}
				}
			}
		}
	}
	for _, n := range nodes {
		if topic, ok := n.TopicNamed(t, n.TopicURL("intruder")); ok {
			t.Errorf("the hub has the topic %+v", topic)
		}
		if !strings.Contains(n.Log(), "refused a call of a node") {
			t.Errorf("%s says nothing of it in its log", n.URL)
		}
	}
	nodes[1].Publish(t, nodes[0].TopicURL("honest"), "text/plain", []byte("y"))
}
