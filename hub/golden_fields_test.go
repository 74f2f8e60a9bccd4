package hub_test

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"quorumhub/hub/hubpb"
)

// rowOf returns an empty message by name.
func rowOf(t *testing.T, name string) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(hubpb.File_hub_proto.Package().Append(protoreflect.Name(name)))
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

// fill sets every field: IDs to those in goldenState, other fields to distinct values.
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
	case "id", "topic", "subscription", "subscriptions", "request", "group", "epoch", "epochs", "first", "offset", "seq", "through", "level", "number":
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

// fields are those that no golden file contains yet, by full name.
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
