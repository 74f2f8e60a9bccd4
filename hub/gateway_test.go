package hub_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// View makes a partLog a hub.StateReader.
func (l *partLog) View(f func(*hub.State)) { f(l.state) }

// keyedBox seals with the key it is told to; a secret opens with its binding only.
type keyedBox struct{ key byte }

func (b *keyedBox) Seal(secret []byte, bound string) ([]byte, error) {
	out := []byte{hub.SealVersion, b.key, 0, 0, 0}
	for _, c := range append([]byte(bound+"\x00"), secret...) {
		out = append(out, c^0x5a)
	}
	return out, nil
}

func (b *keyedBox) Open(sealed []byte, bound string) ([]byte, error) {
	var out []byte
	for _, c := range sealed[5:] {
		out = append(out, c^0x5a)
	}
	secret, ok := bytes.CutPrefix(out, []byte(bound+"\x00"))
	if !ok {
		return nil, errors.New("sealed for something else")
	}
	return secret, nil
}

// gatewayRig is a hub to which registries are applied.
type gatewayRig struct {
	*partLog
	*hub.Service
	box   *keyedBox
	wrong []hub.GatewayMistake // what the checker finds
}

func newGatewayRig(t *testing.T) *gatewayRig {
	r := &gatewayRig{partLog: newPartLog(t), box: &keyedBox{key: 1}}
	r.Service = hub.NewService(hub.Policy{AutoRegister: true, MaxMessageBytes: 1 << 30, Parts: r.partLog, GatewayChecker: r}, namer(t), r.partLog, r.partLog, r.box)
	r.apply(levelSet(hub.FeatureLevel))
	return r
}

func (r *gatewayRig) CheckGateway(*hub.GatewayDocument) []hub.GatewayMistake { return r.wrong }

func (r *gatewayRig) put(d hub.GatewayDocument) hub.GatewayApplied {
	r.t.Helper()
	out, err := r.ApplyGateway(r.t.Context(), d, hub.GatewayChange{By: "tester"})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// is checks the present registry.
func (r *gatewayRig) is(want hub.GatewayDocument, hash string) {
	r.t.Helper()
	info, got, ok, err := r.Gateway()
	if err != nil || !ok {
		r.t.Fatal(ok, err)
	}
	if info.Hash != hash || !bytes.Equal(got.Text, want.Text) || !maps.EqualFunc(got.Files, want.Files, bytes.Equal) || !maps.Equal(got.Secrets, want.Secrets) {
		r.t.Fatalf("the registry is %s with %d bytes, files %v, secrets %v; want %s", info.Hash, len(got.Text), slices.Sorted(maps.Keys(got.Files)), got.Secrets, hash)
	}
}

func registryOf(size int, text string) hub.GatewayDocument {
	b := make([]byte, size)
	src := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = src.Read(b)
	return hub.GatewayDocument{Text: []byte(text), Files: map[string][]byte{"big.bin": b, "a.json": []byte("{}")}, Secrets: map[string]string{"HR_KEY": "s3cret", "OTHER": "x"}}
}

// A registry of megabytes becomes the present one at one place of the log. Applying it again changes nothing; the parts of
// the former one are given up, and those of the present one stay, whatever else is dropped.
func TestGatewayIsAppliedAsAWhole(t *testing.T) {
	r := newGatewayRig(t)
	if _, _, ok, err := r.Gateway(); ok || err != nil {
		t.Fatal("there is a registry before one was applied", err)
	}
	first := registryOf(2<<20, "version: 1")
	a := r.put(first)
	if !a.Changed || !r.fx.GatewayChanged || len(a.Hash) != 64 {
		t.Fatalf("%+v, effects %+v", a, r.fx)
	}
	r.is(first, a.Hash)
	seq := r.seq
	if again := r.put(first); again.Changed || again.Hash != a.Hash || r.seq != seq {
		t.Errorf("applied again: %+v, with %d entries", again, r.seq-seq)
	}
	second := registryOf(600<<10, "version: 1 # second")
	b := r.put(second)
	if !b.Changed || b.Hash == a.Hash {
		t.Fatalf("%+v", b)
	}
	r.is(second, b.Hash)
	if len(r.parts) > 4 {
		t.Errorf("%d parts are kept, of a document of 600 KiB", len(r.parts))
	}
	r.publishLarge("topic", "later", 300<<10)
	r.apply(trimThrough(1, 1))
	r.state = reloaded(t, r.state)
	r.is(second, b.Hash)
	if got := r.put(first); got.Hash != a.Hash {
		t.Errorf("the first registry has now the hash %s, had %s", got.Hash, a.Hash)
	}
	r.is(first, a.Hash)
}

func (r *gatewayRig) publishLarge(topic, key string, size int) {
	r.t.Helper()
	if _, err := r.Publish(r.t.Context(), hub.Publication{Topic: topic, ContentType: "text/plain", Body: make([]byte, size), IdempotencyKey: key}); err != nil {
		r.t.Fatal(err)
	}
}

// The secrets of a registry are in the log and in the rows only sealed, and its hash changes with them without telling them.
func TestGatewaySecretsAreSealedI10(t *testing.T) {
	r := newGatewayRig(t)
	d := registryOf(10, "version: 1")
	a := r.put(d)
	if !slices.Equal(a.Secrets, []string{"HR_KEY", "OTHER"}) {
		t.Errorf("changed secrets %v", a.Secrets)
	}
	for _, secret := range d.Secrets {
		if len(secret) > 2 && bytes.Contains(rows(t, r.state), []byte(secret)) {
			t.Errorf("the rows contain %q", secret)
		}
	}
	d.Secrets = map[string]string{"HR_KEY": "changed", "OTHER": "x"}
	b := r.put(d)
	if b.Hash == a.Hash || !slices.Equal(b.Secrets, []string{"HR_KEY"}) {
		t.Errorf("with another secret: %+v, was %s", b, a.Hash)
	}
	r.is(d, b.Hash)
	// Another hub has another salt: the same document does not have the same hash, so nobody can try values offline.
	if other := newGatewayRig(t).put(d); other.Hash == b.Hash {
		t.Error("two hubs give a document with secrets the same hash")
	}
}

// Who applies a registry in place of one that somebody else has replaced meanwhile is refused, before and in the log.
func TestGatewayRefusesALostUpdate(t *testing.T) {
	r := newGatewayRig(t)
	none := ""
	a, err := r.ApplyGateway(t.Context(), registryOf(10, "one"), hub.GatewayChange{Replaces: &none})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ApplyGateway(t.Context(), registryOf(10, "two"), hub.GatewayChange{Replaces: &none}); !errors.Is(err, hub.ErrGatewayReplaced) {
		t.Errorf("in place of none, though there is one: %v", err)
	}
	if again, err := r.ApplyGateway(t.Context(), registryOf(10, "one"), hub.GatewayChange{Replaces: &none}); err != nil || again.Changed || again.Hash != a.Hash {
		t.Errorf("the same once more, whose answer was lost: %+v, %v", again, err)
	}
	b, err := r.ApplyGateway(t.Context(), registryOf(10, "two"), hub.GatewayChange{Replaces: &a.Hash})
	if err != nil || !b.Changed {
		t.Fatal(b, err)
	}
	// Both have compared with the same registry; the second one in the log loses.
	r.apply(partAdded("blob", 0, "data"))
	late := &hubpb.GatewayApplied{Blob: []byte("blob"), Parts: 1, Size: 4, Hash: "c", Replaces: &a.Hash}
	r.outcome(hub.OutcomeStale, &hubpb.Event{Kind: &hubpb.Event_GatewayApplied{GatewayApplied: late}})
	r.is(registryOf(10, "two"), b.Hash)
}

// A registry that the checker refuses, and one that is only tried, are not written.
func TestGatewayIsCheckedFirst(t *testing.T) {
	r := newGatewayRig(t)
	good := r.put(registryOf(10, "good"))
	seq := r.seq
	r.wrong = []hub.GatewayMistake{{Line: 3, Column: 5, Path: "services[0].uri", Detail: "is empty; expected a path"}, {Path: "prefix", Detail: "is relative"}}
	_, err := r.ApplyGateway(t.Context(), registryOf(10, "bad"), hub.GatewayChange{})
	var invalid *hub.InvalidGatewayError
	if !errors.As(err, &invalid) || len(invalid.Mistakes) != 2 || !strings.Contains(err.Error(), "3:5: services[0].uri: is empty; expected a path (and 1 more") {
		t.Errorf("refused with %v", err)
	}
	r.wrong = nil
	tried, err := r.ApplyGateway(t.Context(), registryOf(10, "tried"), hub.GatewayChange{DryRun: true})
	if err != nil || !tried.Changed || tried.Index != 0 {
		t.Errorf("a dry run: %+v, %v", tried, err)
	}
	for name, d := range map[string]hub.GatewayDocument{
		"empty":   {},
		"large":   registryOf(hub.MaxGatewayBytes, "text"),
		"secrets": {Text: []byte("text"), Secrets: map[string]string{"A": strings.Repeat("x", hub.MaxGatewaySecretBytes)}},
	} {
		if _, err := r.ApplyGateway(t.Context(), d, hub.GatewayChange{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if r.seq != seq {
		t.Errorf("%d entries were written", r.seq-seq)
	}
	r.is(registryOf(10, "good"), good.Hash)

	old := newGatewayRig(t)
	old.state = hub.NewState()
	old.apply(levelSet(2))
	if _, err := old.ApplyGateway(t.Context(), registryOf(10, "good"), hub.GatewayChange{}); hub.CodeOf(err) != hub.CodeUnavailable || len(old.parts) > 0 {
		t.Errorf("with a node of the former release: %v, %d parts", err, len(old.parts))
	}
}

// The secrets of the registry take part in the rotation of sealing keys.
func TestGatewaySecretsAreReencrypted(t *testing.T) {
	r := newGatewayRig(t)
	d := registryOf(10, "version: 1")
	a := r.put(d)
	id := func(key byte) string { return hex.EncodeToString([]byte{key, 0, 0, 0}) }
	retired := func(key byte) *hubpb.Event {
		return &hubpb.Event{Kind: &hubpb.Event_SealingKeyRetired{SealingKeyRetired: &hubpb.SealingKeyRetired{Key: id(key)}}}
	}
	if c := r.state.SealedCounts()[id(1)]; c.Gateway != 1 || c.Total() != 1 || !slices.Contains(r.state.NeededKeys(), id(1)) {
		t.Fatalf("counted %+v", c)
	}
	r.outcome(hub.OutcomeStale, retired(1)) // it is still needed
	list := r.state.SecretsNotSealedWith(id(2), 0, 0, 10)
	if len(list) != 1 || !list[0].Gateway {
		t.Fatalf("%+v", list)
	}
	raw, err := r.box.Open(list[0].Sealed, list[0].Binding)
	if err != nil {
		t.Fatal(err)
	}
	r.box.key = 2
	sealed, _ := r.box.Seal(raw, list[0].Binding)
	r.apply(&hubpb.Event{Kind: &hubpb.Event_SecretsReencrypted{SecretsReencrypted: &hubpb.SecretsReencrypted{
		Items: []*hubpb.SecretsReencrypted_Item{{Gateway: true, Was: list[0].Sealed, Sealed: sealed}}}}})
	if left := r.state.SecretsNotSealedWith(id(2), 0, 0, 10); len(left) > 0 || r.fx.GatewayChanged {
		t.Errorf("left: %+v; nodes load it again: %v", left, r.fx.GatewayChanged)
	}
	r.outcome(hub.OutcomeOK, retired(1))
	r.state = reloaded(t, r.state)
	r.is(d, a.Hash)
	if again := r.put(d); again.Changed {
		t.Error("after a rotation the same registry is another one")
	}
	// A registry sealed with a key that was retired meanwhile is not taken, and its parts stay for another try.
	r.apply(partAdded("blob", 0, "data"))
	e := &hubpb.GatewayApplied{Blob: []byte("blob"), Parts: 1, Size: 4, Hash: "c", Sealed: []byte{hub.SealVersion, 1, 0, 0, 0, 9}}
	r.outcome(hub.OutcomeKeyRetired, &hubpb.Event{Kind: &hubpb.Event_GatewayApplied{GatewayApplied: e}})
	e.Sealed = nil
	r.outcome(hub.OutcomeOK, &hubpb.Event{Kind: &hubpb.Event_GatewayApplied{GatewayApplied: e}})
}

// Invariant I6 for registries and the life cycle of topics, among all other events.
func TestGatewayAndLifecyclesAreTheFoldI6(t *testing.T) {
	checkFold(t, func(t *rapid.T, s *hub.State, now time.Time) *hubpb.Event {
		topic := rapid.SampledFrom([]string{"news", "other", hub.EventsTopic}).Draw(t, "marked topic")
		switch rapid.IntRange(0, 7).Draw(t, "new kind") {
		case 0:
			return partAdded(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "blob"), rapid.IntRange(0, 1).Draw(t, "index"), "data")
		case 1:
			e := &hubpb.GatewayApplied{Blob: []byte(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "blob")), Parts: 1, Size: 4,
				Hash: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "hash")}
			if rapid.Bool().Draw(t, "guarded") {
				e.Replaces = new(rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "replaces"))
			}
			return &hubpb.Event{Kind: &hubpb.Event_GatewayApplied{GatewayApplied: e}}
		case 2:
			e := &hubpb.TopicLifecycleSet{Topic: topic}
			if rapid.Bool().Draw(t, "mark") {
				e.Lifecycle = &hubpb.TopicLifecycle{Successor: rapid.SampledFrom([]string{"", "other"}).Draw(t, "successor")}
				if rapid.Bool().Draw(t, "sunset") {
					e.Lifecycle.SunsetAt = now.Add(time.Duration(rapid.IntRange(-60, 60).Draw(t, "in")) * time.Second).UnixNano()
				}
				e.Lifecycle.RetiredAt = int64(rapid.IntRange(0, 1).Draw(t, "retired"))
			}
			return &hubpb.Event{Kind: &hubpb.Event_TopicLifecycleSet{TopicLifecycleSet: e}}
		case 3:
			return &hubpb.Event{Kind: &hubpb.Event_TopicsRetired{TopicsRetired: &hubpb.TopicsRetired{Topics: []uint64{1, 2, 9}}}}
		case 4:
			return ended(hubpb.EndReason_END_TOPIC_RETIRED, 1, 2, 3)
		}
		return anyEvent(t, s, now)
	})
}

// Programs of the former release must not see what they would overlook.
func TestLevelOfTheGateway(t *testing.T) {
	for _, e := range []*hubpb.Event{
		{Kind: &hubpb.Event_GatewayApplied{GatewayApplied: &hubpb.GatewayApplied{}}},
		{Kind: &hubpb.Event_TopicLifecycleSet{TopicLifecycleSet: &hubpb.TopicLifecycleSet{}}},
		{Kind: &hubpb.Event_TopicsRetired{TopicsRetired: &hubpb.TopicsRetired{}}},
		ended(hubpb.EndReason_END_TOPIC_RETIRED, 1),
		{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{EncryptionKey: "key"}}},
		{Kind: &hubpb.Event_SecretsReencrypted{SecretsReencrypted: &hubpb.SecretsReencrypted{Items: []*hubpb.SecretsReencrypted_Item{{}, {Gateway: true}}}}},
	} {
		if got := hub.LevelOf(e); got != 3 {
			t.Errorf("%s needs level %d, want 3", hub.EventName(e), got)
		}
	}
	if e := ended(hubpb.EndReason_END_OWNER_ENDED, 1); hub.LevelOf(e) != 2 || !reflect.DeepEqual(e.GetSubscriptionsEnded().Subscriptions, []uint64{1}) {
		t.Error("what the former release knows needs more than its level")
	}
}
