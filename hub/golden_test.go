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
	"google.golang.org/protobuf/reflect/protoregistry"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// Golden files are what earlier versions wrote: one or more for every kind of event and of row. They are never changed
// once a release has written such data. After adding a kind or a field, have its file made:
//
//	go test ./hub -run Golden -update
//
// which adds what is missing and leaves the rest alone. Before the first release a kind may still change: delete its
// file first. A new kind of row needs its line in rowTables.
var update = flag.Bool("update", false, "write the golden files that are missing")

// formerNames maps the kinds of events and rows that have been renamed since their golden files were written to the names
// that those files use. Names are not part of the format: only field numbers are.
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

// renameFields gives the text of an event in a golden file the present names of its fields and values.
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

// jsonName is a field's name in protobuf's JSON.
func jsonName(field string) string {
	words := strings.Split(field, "_")
	for i := 1; i < len(words); i++ {
		words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
	}
	return strings.Join(words, "")
}

const howToUpdate = "; add it with: go test ./hub -run Golden -update"

// rowTables are the tables by the message that their rows hold.
func rowTables() map[string]hub.RowKey {
	return map[string]hub.RowKey{
		"MetaRow":         {Table: hub.TableMeta},
		"TopicRow":        {Table: hub.TableTopic, ID: 1},
		"SubscriptionRow": {Table: hub.TableSubscription, ID: 1},
		"CursorRow":       {Table: hub.TableCursor, ID: 1},
		"RequestRow":      {Table: hub.TableRequest, ID: 1},
		"DeadLetterRow":   {Table: hub.TableDeadLetter, ID: 1},
		"IdempotencyRow":  {Table: hub.TableIdempotency, ID: 1, Name: "key"},
		"OriginRow":       {Table: hub.TableOrigin, Name: "origin"},
		"GroupRow":        {Table: hub.TableGroup, ID: 1},
		"PendingBlobRow":  {Table: hub.TablePendingBlob, Name: "blob"},
		"MessageBlobRow":  {Table: hub.TableMessageBlob, ID: 1, Name: "\x00\x00\x00\x00\x00\x00\x00\x01"},
		"NodeRow":         {Table: hub.TableNode, Name: "node"},
		"ApiKeyRow":       {Table: hub.TableAPIKey, Name: "id"},
		"AccessRuleRow":   {Table: hub.TableAccessRule, Name: "name"},
		"NonceRow":        {Table: hub.TableNonce, Name: "nonce"},
	}
}

// goldenEvent is an entry with one event, and what folding it into goldenState came to.
type goldenEvent struct {
	Entry   string          `json:"entry"` // in hex, as it lies in the log
	Event   json.RawMessage `json:"event"`
	Results []hub.Result    `json:"results"`
	Hash    string          `json:"hash"` // of the state after it
}

// goldenRow is a row as it lies in the state file, in hex.
type goldenRow struct {
	Key   string          `json:"key"`
	Value string          `json:"value"`
	Row   json.RawMessage `json:"row"`
}

const goldenTime = 1_800_000_000_000_000_000

// goldenState is a small state that most events find something in: topic 1 with two messages, subscription 1 and
// the pending request 1.
func goldenState(t *testing.T) *hub.State {
	t.Helper()
	s := hub.NewState()
	subscribe := func(callback string) *hubpb.Event {
		return &hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
			Mode: hubpb.Mode_MODE_SUBSCRIBE, Topic: "topic", Callback: callback, CallbackKey: callback, LeaseSeconds: 3600}}}
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

// Every kind of event that was ever written is still read as what it said, and comes to the same.
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
				s := goldenState(t)
				res, err := s.Apply(entry, new(hub.Effects))
				if err != nil {
					t.Fatal(err)
				}
				return goldenEvent{hex.EncodeToString(entry), jsonOf(t, sample), res[0].Proposals[0], fmt.Sprintf("%016x", s.Hash())}
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
		t.Errorf("%s is read as %v, but it says %v", file, got, want)
	}
	s := goldenState(t)
	res, err := s.Apply(data, new(hub.Effects))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if got := res[0].Proposals[0]; !slices.Equal(got, g.Results) {
		t.Errorf("%s comes to %+v, when it was written it came to %+v", file, got, g.Results)
	} else if hash := fmt.Sprintf("%016x", s.Hash()); hash != g.Hash {
		t.Errorf("%s: the state's hash is %s, when it was written it was %s", file, hash, g.Hash)
	}
	missing.remove(want)
}

// Every kind of row that was ever stored is still loaded, and all of them together make a state that stores the same.
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
			var g goldenRow
			readGolden(t, file, &g)
			value, err := hex.DecodeString(g.Value)
			got, want := rowOf(t, name), rowOf(t, name)
			if err != nil || proto.Unmarshal(value, got) != nil || protojson.Unmarshal(g.Row, want) != nil {
				t.Fatalf("%s is not readable", file)
			}
			if !proto.Equal(got, want) {
				t.Errorf("%s is read as %v, but it says %v", file, got, want)
			}
			missing.remove(want)
			stored, err := hex.DecodeString(g.Key)
			if err != nil {
				t.Fatal(err)
			}
			k, err := hub.ParseRowKey(stored)
			if err != nil || k != key {
				t.Errorf("%s: the key is read as %v (%v), want %v", file, k, err, key)
			}
			if i == len(files)-1 {
				if err := all.Add(k, value); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				loaded[k] = want
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
		t.Fatalf("the golden rows do not make a state: %v", err)
	}
	for k, want := range loaded {
		value, ok, err := state.Row(k)
		got := rowOf(t, string(want.ProtoReflect().Descriptor().Name()))
		if !ok || err != nil || proto.Unmarshal(value, got) != nil {
			t.Errorf("row %v is lost after loading (%v)", k, err)
			continue
		}
		// What is nested is shared with events, which say more than is stored.
		want.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if f.Kind() != protoreflect.MessageKind && !got.ProtoReflect().Get(f).Equal(v) {
				t.Errorf("row %v has %s %v after loading, want %v", k, f.Name(), got.ProtoReflect().Get(f), v)
			}
			return true
		})
	}
}

// rowOf is an empty message by its name.
func rowOf(t *testing.T, name string) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(hubpb.File_hub_proto.Package().Append(protoreflect.Name(name)))
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

// fill gives every field a value: ids that goldenState knows, and something of its own for each of the others.
func fill(m protoreflect.Message) {
	list := m.Descriptor().Fields()
	for i := range list.Len() {
		f := list.Get(i)
		if o := f.ContainingOneof(); o != nil && m.WhichOneof(o) != nil {
			continue
		}
		if !f.IsList() {
			m.Set(f, sampleValue(f, func() protoreflect.Value { return m.NewField(f) }))
			continue
		}
		items := m.Mutable(f).List()
		items.Append(sampleValue(f, items.NewElement))
	}
}

func sampleValue(f protoreflect.FieldDescriptor, empty func() protoreflect.Value) protoreflect.Value {
	number := 10 + uint64(f.Number())
	switch f.Name() {
	case "id", "topic", "subscription", "subscriptions", "request", "group", "epoch", "epochs", "first", "offset", "seq", "through", "level":
		number = 1
	}
	text := string(f.Name())
	switch f.Name() {
	case "callback", "callback_key", "link_self":
		text = "http://c.example/"
	}
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		v := empty()
		fill(v.Message())
		return v
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(number))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(number)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(number))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(number))
	}
	panic("unknown kind of field " + f.Kind().String())
}

// fields are those that a golden file is still to show, by full name.
type fields map[protoreflect.FullName]bool

func fieldsOf(m proto.Message) fields {
	out := fields{}
	eachField(m.ProtoReflect(), true, func(f protoreflect.FieldDescriptor) { out[f.FullName()] = true })
	return out
}

func topFieldsOf(m proto.Message) fields {
	out := fields{}
	eachField(m.ProtoReflect(), false, func(f protoreflect.FieldDescriptor) { out[f.FullName()] = true })
	return out
}

func (s fields) remove(m proto.Message) {
	eachField(m.ProtoReflect(), true, func(f protoreflect.FieldDescriptor) { delete(s, f.FullName()) })
}

func (s fields) names() []string {
	var out []string
	for name := range s {
		out = append(out, string(name))
	}
	slices.Sort(out)
	return out
}

func eachField(m protoreflect.Message, deep bool, do func(protoreflect.FieldDescriptor)) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		do(f)
		switch {
		case !deep || f.Kind() != protoreflect.MessageKind:
		case f.IsList():
			for i := range v.List().Len() {
				eachField(v.List().Get(i).Message(), deep, do)
			}
		default:
			eachField(v.Message(), deep, do)
		}
		return true
	})
}

// goldenFiles lists the files of a kind, oldest first: kind.json, kind.2.json and so on.
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

// writeGolden writes the next file of a kind with -update. It reports whether nothing is missing any more.
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
	if err := json.Indent(&out, text, "", "  "); err != nil { // protojson's blanks differ from build to build
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

// noStrangers finds files of kinds that do not exist any more: what was once written must stay readable.
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
			t.Errorf("%s/%s is of a kind that this program does not know any more", dir, f.Name())
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
