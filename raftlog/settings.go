package raftlog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// maxSettingText bounds the value of one setting in a handshake, whose size is limited; of a longer one the beginning and a
// digest are compared.
const maxSettingText = 96

// Setting is a setting that should be the same on every node.
type Setting struct{ Key, Value string }

// settingsOf returns the settings as they travel in a handshake.
func settingsOf(list []Setting) map[string]string {
	out := make(map[string]string, len(list))
	for _, s := range list {
		if len(s.Value) > maxSettingText {
			sum := sha256.Sum256([]byte(s.Value))
			s.Value = s.Value[:maxSettingText-24] + "... (" + hex.EncodeToString(sum[:8]) + ")"
		}
		out[s.Key] = s.Value
	}
	return out
}

// agreement compares the settings of the nodes that this one shakes hands with. A difference stops nobody, because it may be
// there on purpose for a while, but it is logged and shown. Safe for concurrent use.
type agreement struct {
	log *slog.Logger

	mu      sync.Mutex
	differs map[string][]string // by node: what differs, one line each
}

// compare notes a node's settings. Programs that send none are older, and settings that only one side knows are not compared.
func (a *agreement) compare(mine map[string]string, node string, theirs map[string]string) {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(mine)) {
		if value, ok := theirs[key]; ok && value != mine[key] {
			lines = append(lines, fmt.Sprintf("%s has %s %s, this node has %s; it should be the same on every node", node, key, settingText(value), settingText(mine[key])))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Equal(a.differs[node], lines) {
		return
	}
	if len(lines) == 0 {
		delete(a.differs, node)
		a.log.Info("settings agree again", "node", node)
		return
	}
	for _, line := range lines {
		if !slices.Contains(a.differs[node], line) {
			a.log.Warn("settings differ between nodes", "difference", line)
		}
	}
	a.differs[node] = lines
}

// warnings returns what differs from these nodes, one line each.
func (a *agreement) warnings(nodes []string) (out []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(a.differs)) {
		if slices.Contains(nodes, id) {
			out = append(out, a.differs[id]...)
		}
	}
	return out
}

func settingText(value string) string {
	if value == "" {
		return "none"
	}
	return oneLine(value)
}
