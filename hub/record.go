package hub

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// AppendRecord appends the stored form of m to dst: everything the log keeps except topic and offset, which are its
// key. The form is protobuf: 1 time, 2 content type, 3 body, 4 rel=self, 5 part numbers, 6 size of the parts in
// bytes, 30 headers as name, zero byte, value; 31 those that are sent with deliveries.
func AppendRecord(dst []byte, m *Message) []byte {
	dst = protowire.AppendTag(dst, 1, protowire.Fixed64Type)
	dst = protowire.AppendFixed64(dst, uint64(m.Time))
	dst = protowire.AppendTag(dst, 2, protowire.BytesType)
	dst = protowire.AppendString(dst, m.ContentType)
	if m.LinkSelf != "" {
		dst = protowire.AppendTag(dst, 4, protowire.BytesType)
		dst = protowire.AppendString(dst, m.LinkSelf)
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		dst = protowire.AppendTag(dst, headerField(h), protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(len(h.Name)+1+len(h.Value)))
		dst = append(dst, h.Name...)
		dst = append(dst, 0)
		dst = append(dst, h.Value...)
	}
	if m.IsBlob() {
		dst = protowire.AppendTag(dst, 5, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(packedSize(m.Parts)))
		for _, n := range m.Parts {
			dst = protowire.AppendVarint(dst, n)
		}
		dst = protowire.AppendTag(dst, 6, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(m.PartsSize))
	}
	dst = protowire.AppendTag(dst, 3, protowire.BytesType)
	return protowire.AppendBytes(dst, m.Body)
}

func headerField(h *Header) protowire.Number {
	if h.Carried {
		return 31
	}
	return 30
}

func packedSize(list []uint64) (n int) {
	for _, v := range list {
		n += protowire.SizeVarint(v)
	}
	return n
}

// RecordSize returns the number of bytes that AppendRecord appends.
func RecordSize(m *Message) int {
	n := protowire.SizeTag(1) + 8 + protowire.SizeTag(2) + protowire.SizeBytes(len(m.ContentType)) +
		protowire.SizeTag(3) + protowire.SizeBytes(len(m.Body))
	if m.LinkSelf != "" {
		n += protowire.SizeTag(4) + protowire.SizeBytes(len(m.LinkSelf))
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		n += protowire.SizeTag(30) + protowire.SizeBytes(len(h.Name)+1+len(h.Value))
	}
	if m.IsBlob() {
		n += protowire.SizeTag(5) + protowire.SizeBytes(packedSize(m.Parts)) + protowire.SizeTag(6) + protowire.SizeVarint(uint64(m.PartsSize))
	}
	return n
}

// RecordBody returns the body in a stored record, sharing its memory.
func RecordBody(b []byte) ([]byte, error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, protowire.ParseError(n))
		}
		b = b[n:]
		if num == 3 && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return nil, fmt.Errorf("%w: %w", ErrCorrupt, protowire.ParseError(n))
			}
			return v, nil
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return nil, nil
}

// ParseRecord is the inverse of AppendRecord. The body is a copy. Errors wrap ErrCorrupt.
func ParseRecord(topic TopicID, offset uint64, b []byte) (Message, error) {
	m := Message{Topic: topic, Offset: offset}
	bad := func(n int) (Message, error) {
		return Message{}, fmt.Errorf("record %d-%d: %w: %w", topic, offset, ErrCorrupt, protowire.ParseError(n))
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return bad(n)
		}
		b = b[n:]
		switch {
		case num == 1 && typ == protowire.Fixed64Type:
			var v uint64
			if v, n = protowire.ConsumeFixed64(b); n >= 0 {
				m.Time = int64(v)
			}
		case (num == 30 || num == 31) && typ == protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n >= 0 {
				name, value, _ := strings.Cut(string(v), "\x00")
				m.Headers = append(m.Headers, Header{name, value, num == 31})
			}
		case num == 6 && typ == protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				m.PartsSize = int64(v)
			}
		case num == 5 && typ == protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			for n >= 0 && len(v) > 0 {
				part, used := protowire.ConsumeVarint(v)
				if used < 0 {
					return bad(used)
				}
				m.Parts = append(m.Parts, part)
				v = v[used:]
			}
		case num >= 2 && num <= 4 && typ == protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n >= 0 {
				switch num {
				case 2:
					m.ContentType = string(v)
				case 3:
					m.Body = append(make([]byte, 0, len(v)), v...)
				case 4:
					m.LinkSelf = string(v)
				}
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return bad(n)
		}
		b = b[n:]
	}
	return m, nil
}
