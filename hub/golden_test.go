package hub_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// Golden files hold what earlier versions wrote: at least one for every kind of event and row. They never change once
// a release has written such data. After adding a kind or a field, generate its file:
//
//	go test ./hub -run Golden -update
//
// This adds what is missing and leaves the rest alone. Before the first release a kind may still change: delete its
// file first. A new kind of row needs a line in rowTables.
var update = flag.Bool("update", false, "write the golden files that are missing")

// formerNames maps event and row kinds to the names they had when their golden files were written. Names are not part
// of the format; field numbers are.
func formerNames() map[string]string {
	return map[string]string{
		"new_cluster_forced":           "cluster_refounded",
		"blob_published":               "large_published",
		"blob_part_added":              "blob_part",
		"access_rule_set":              "rule_set",
		"access_rule_removed":          "rule_removed",
		"secrets_reencrypted":          "secrets_resealed",
		"node_run_changed":             "node_switched",
		"dead_letter_replay_requested": "dead_letters_replaying",
		"dead_letters_replayed":        "dead_letters_tried",
		"PendingBlobRow":               "BlobRow",
		"MessageBlobRow":               "LargeRow",
		"AccessRuleRow":                "RuleRow",
	}
}

// renameFields replaces former names of fields and values in the JSON of a golden event.
func renameFields(event json.RawMessage) []byte {
	text := string(event)
	for now, then := range formerNames() {
		text = strings.Replace(text, `"`+jsonName(then)+`":`, `"`+jsonName(now)+`":`, 1)
	}
	if strings.Contains(text, `"deadLettersReplayed":`) {
		text = strings.Replace(text, `"tries":`, `"results":`, 1)
	}
	return []byte(strings.Replace(text, `"REFOUND_`, `"NEW_CLUSTER_`, 1))
}

// jsonName converts a field name to protobuf's JSON form.
func jsonName(field string) string {
	words := strings.Split(field, "_")
	for i := 1; i < len(words); i++ {
		words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
	}
	return strings.Join(words, "")
}

const howToUpdate = "; add it with: go test ./hub -run Golden -update"

// rowTables maps the name of a row message to a key in its table.
func rowTables() map[string]hub.RowKey {
	return map[string]hub.RowKey{
		"MetaRow":                {Table: hub.TableMeta},
		"TopicRow":               {Table: hub.TableTopic, ID: 1},
		"SubscriptionRow":        {Table: hub.TableSubscription, ID: 1},
		"CursorRow":              {Table: hub.TableCursor, ID: 1},
		"RequestRow":             {Table: hub.TableRequest, ID: 1},
		"FailedRequestRow":       {Table: hub.TableFailedRequest, ID: 1},
		"CallbackCredentialsRow": {Table: hub.TableCallback, Name: "a.example"},
		"DeadLetterRow":          {Table: hub.TableDeadLetter, ID: 1},
		"IdempotencyRow":         {Table: hub.TableIdempotency, ID: 1, Name: "key"},
		"OriginRow":              {Table: hub.TableOrigin, Name: "origin"},
		"GroupRow":               {Table: hub.TableGroup, ID: 1},
		"PendingBlobRow":         {Table: hub.TablePendingBlob, Name: "blob"},
		"MessageBlobRow":         {Table: hub.TableMessageBlob, ID: 1, Name: "\x00\x00\x00\x00\x00\x00\x00\x01"},
		"NodeRow":                {Table: hub.TableNode, Name: "node"},
		"ApiKeyRow":              {Table: hub.TableAPIKey, Name: "id"},
		"AccessRuleRow":          {Table: hub.TableAccessRule, Name: "name"},
		"QuotaRow":               {Table: hub.TableQuota, Name: "name"},
		"PrincipalRow":           {Table: hub.TablePrincipal, Name: "owner"},
		"NonceRow":               {Table: hub.TableNonce, Name: "nonce"},
		"GatewayRow":             {Table: hub.TableGateway},
		"SharedContentRow":       {Table: hub.TableFetched, ID: 1, Name: "1"},
		"GrantRow":               {Table: hub.TableGrant, Name: "0123456789abcdef"},
		"DeviceRow":              {Table: hub.TableDevice, Name: "0123456789abcdef0123456789abcdef"},
		"SessionRow":             {Table: hub.TableSession, Name: "0123456789abcdef0123456789abcdef"},
	}
}

// goldenEvent is an entry with one event, and the result of applying it to goldenState.
type goldenEvent struct {
	Entry   string          `json:"entry"` // as stored in the log, in hex
	Event   json.RawMessage `json:"event"`
	Results []hub.Result    `json:"results"`
	Hash    string          `json:"hash"`            // of the state afterwards
	Level   uint32          `json:"level,omitempty"` // feature level of goldenState; the first files have none
}

// goldenRow is a row as stored in the state file, in hex.
type goldenRow struct {
	Key   string          `json:"key"`
	Value string          `json:"value"`
	Row   json.RawMessage `json:"row"`
}

const goldenTime = 1_800_000_000_000_000_000

// goldenState is a small state that most events can act on: topic 1 with two messages, subscription 1 and the pending
// request 1. From level 2 on the subscription has an owner.
func goldenState(t *testing.T, level uint32) *hub.State {
	t.Helper()
	s := hub.NewState()
	var caller *hubpb.Caller
	if level > 0 {
		caller = &hubpb.Caller{Principal: "owner"}
		if _, err := s.Apply(goldenEntry(t, 50, levelSet(level)), new(hub.Effects)); err != nil {
			t.Fatal(err)
		}
	}
	subscribe := func(callback string) *hubpb.Event {
		return &hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
			Mode: hubpb.Mode_MODE_SUBSCRIBE, Topic: "topic", Callback: callback, CallbackKey: callback, LeaseSeconds: 3600, Caller: caller}}}
	}
	publish := &hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
		Topic: "topic", ContentType: "text/plain", Body: []byte("body")}}}
	for i, e := range []*hubpb.Event{
		{Kind: &hubpb.Event_ClusterInitialized{ClusterInitialized: &hubpb.ClusterInitialized{ClusterId: "golden"}}},
		{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: "topic"}}},
		subscribe("http://a.example/"), subscribe("http://b.example/"),
		{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: 2, VerifiedFrom: goldenTime}}},
		publish, publish,
	} {
		if _, err := s.Apply(goldenEntry(t, uint64(i+1), e), new(hub.Effects)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func goldenEntry(t *testing.T, seq uint64, e *hubpb.Event) []byte {
	t.Helper()
	p, err := hub.EncodeProposal([]*hubpb.Event{e})
	if err != nil {
		t.Fatal(err)
	}
	var b hub.EntryBuilder
	b.AddBatch("golden/1", seq, [][]byte{p})
	return b.Encode(goldenTime + int64(seq))
}

// Every kind of event ever written can still be read, with the same meaning and the same result.
func TestGoldenEvents(t *testing.T) {
	kinds := new(hubpb.Event).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
	known := map[string]bool{}
	for i := range kinds.Len() {
		kind := kinds.Get(i)
		name := string(kind.Name())
		known[name] = true
		t.Run(name, func(t *testing.T) {
			sample := new(hubpb.Event)
			fill(sample.ProtoReflect().Mutable(kind).Message())
			missing := fieldsOf(sample)
			for _, file := range goldenFiles(t, "events", name) {
				checkGoldenEvent(t, file, name, missing)
			}
			if !writeGolden(t, "events", name, missing, func() any {
				entry := goldenEntry(t, 100, sample)
				s := goldenState(t, hub.FeatureLevel)
				res, err := s.Apply(entry, new(hub.Effects))
				if err != nil {
					t.Fatal(err)
				}
				return goldenEvent{hex.EncodeToString(entry), jsonOf(t, sample), res[0].Proposals[0], fmt.Sprintf("%016x", s.Hash()), hub.FeatureLevel}
			}) {
				t.Errorf("the event kind %s has no golden file for %s%s", name, strings.Join(missing.names(), ", "), howToUpdate)
			}
		})
	}
	noStrangers(t, "events", known)
}

func checkGoldenEvent(t *testing.T, file, kind string, missing fields) {
	var g goldenEvent
	readGolden(t, file, &g)
	data, err := hex.DecodeString(g.Entry)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := hub.DecodeEntry(data)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	got, want := entry.Batches[0].Proposals[0].Events[0], new(hubpb.Event)
	if err := protojson.Unmarshal(renameFields(g.Event), want); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if hub.EventName(got) != kind || !proto.Equal(got, want) {
		t.Errorf("%s is decoded as %v, want %v", file, got, want)
	}
	s := goldenState(t, g.Level)
	res, err := s.Apply(data, new(hub.Effects))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if got := res[0].Proposals[0]; !slices.Equal(got, g.Results) {
		t.Errorf("%s gives %+v, want %+v as when it was written", file, got, g.Results)
	} else if hash := fmt.Sprintf("%016x", s.Hash()); hash != g.Hash {
		t.Errorf("%s: the state's hash is %s, want %s as when it was written", file, hash, g.Hash)
	}
	missing.remove(want)
}

// Every kind of row ever stored can still be loaded, and together they make a state that stores the same rows.
func TestGoldenRows(t *testing.T) {
	tables, known := rowTables(), map[string]bool{}
	messages := hubpb.File_hub_proto.Messages()
	loaded := map[hub.RowKey]proto.Message{}
	all := hub.NewLoader()
	for i := range messages.Len() {
		name := string(messages.Get(i).Name())
		if !strings.HasSuffix(name, "Row") {
			continue
		}
		known[name] = true
		key, ok := tables[name]
		if !ok {
			t.Errorf("rowTables does not say which table holds %s", name)
			continue
		}
		sample := rowOf(t, name)
		fill(sample.ProtoReflect())
		missing := topFieldsOf(sample)
		files := goldenFiles(t, "rows", name)
		for i, file := range files {
			value, want := checkGoldenRow(t, file, name, key)
			missing.remove(want)
			if i == len(files)-1 {
				if err := all.Add(key, value); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				loaded[key] = want
			}
		}
		if !writeGolden(t, "rows", name, missing, func() any {
			value, err := proto.Marshal(sample)
			if err != nil {
				t.Fatal(err)
			}
			return goldenRow{hex.EncodeToString(key.Append(nil)), hex.EncodeToString(value), jsonOf(t, sample)}
		}) {
			t.Errorf("%s has no golden file for %s%s", name, strings.Join(missing.names(), ", "), howToUpdate)
		}
	}
	noStrangers(t, "rows", known)
	if *update || t.Failed() {
		return
	}
	state, err := all.State()
	if err != nil {
		t.Fatalf("the golden rows do not form a state: %v", err)
	}
	for k, want := range loaded {
		checkLoadedRow(t, state, k, want)
	}
}

// checkGoldenRow checks that a golden file can be decoded, and returns the stored value and the row.
func checkGoldenRow(t *testing.T, file, name string, key hub.RowKey) (value []byte, want proto.Message) {
	t.Helper()
	var g goldenRow
	readGolden(t, file, &g)
	value, err := hex.DecodeString(g.Value)
	got, want := rowOf(t, name), rowOf(t, name)
	if err != nil || proto.Unmarshal(value, got) != nil || protojson.Unmarshal(g.Row, want) != nil {
		t.Fatalf("%s is not readable", file)
	}
	if !proto.Equal(got, want) {
		t.Errorf("%s is decoded as %v, want %v", file, got, want)
	}
	stored, err := hex.DecodeString(g.Key)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := hub.ParseRowKey(stored); err != nil || k != key {
		t.Errorf("%s: the key is decoded as %v (%v), want %v", file, k, err, key)
	}
	return value, want
}

func checkLoadedRow(t *testing.T, state *hub.State, k hub.RowKey, want proto.Message) {
	t.Helper()
	value, ok, err := state.Row(k)
	got := rowOf(t, string(want.ProtoReflect().Descriptor().Name()))
	if !ok || err != nil || proto.Unmarshal(value, got) != nil {
		t.Errorf("row %v is lost after loading (%v)", k, err)
		return
	}
	// Nested messages are shared with events, which hold more than is stored.
	want.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() != protoreflect.MessageKind && !got.ProtoReflect().Get(f).Equal(v) {
			t.Errorf("row %v has %s %v after loading, want %v", k, f.Name(), got.ProtoReflect().Get(f), v)
		}
		return true
	})
}

// goldenFiles returns the files of a kind, oldest first: kind.json, kind.2.json and so on.
func goldenFiles(t *testing.T, dir, kind string) []string {
	t.Helper()
	var out []string
	for n := 1; ; n++ {
		file := goldenFile(dir, kind, n)
		if _, err := os.Stat(file); err != nil {
			return out
		}
		out = append(out, file)
	}
}

func goldenFile(dir, kind string, n int) string {
	if former, ok := formerNames()[kind]; ok {
		kind = former
	}
	if n > 1 {
		kind = fmt.Sprintf("%s.%d", kind, n)
	}
	return filepath.Join("testdata", "golden", dir, kind+".json")
}

func readGolden(t *testing.T, file string, v any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// writeGolden writes the next file of a kind if -update is set. It reports whether nothing is missing.
func writeGolden(t *testing.T, dir, kind string, missing fields, make func() any) bool {
	t.Helper()
	have := goldenFiles(t, dir, kind)
	if len(have) > 0 && len(missing) == 0 {
		return true
	}
	if !*update {
		return false
	}
	text, err := json.Marshal(make())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil { // the whitespace of protojson varies between builds
		t.Fatal(err)
	}
	out.WriteByte('\n')
	file := goldenFile(dir, kind, len(have)+1)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("wrote %s", file)
	return true
}

// noStrangers reports files of kinds that no longer exist: whatever was written must stay readable.
func noStrangers(t *testing.T, dir string, known map[string]bool) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join("testdata", "golden", dir))
	if err != nil {
		t.Fatal(err)
	}
	for now, then := range formerNames() {
		known[then] = known[now]
	}
	for _, f := range files {
		if kind, _, _ := strings.Cut(f.Name(), "."); !known[kind] {
			t.Errorf("%s/%s belongs to a kind this program no longer knows", dir, f.Name())
		}
	}
}

func jsonOf(t *testing.T, m proto.Message) json.RawMessage {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
