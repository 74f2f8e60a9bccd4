// Package convert turns XML into JSON and back, within limits, for services and their clients that speak different formats.
//
// # XML to JSON
//
// The document is the value of its root element, whose name is dropped. An element with only text is a string. Its attributes
// are members named "@name", text beside attributes or children is "#text", trimmed beside children. Repeated children are an
// array, and so is a child that Options.Arrays names. An element with nothing in it is null, but "" in an array whose other
// items are text, and where Options.Types says String; with xsi:nil="true" it is always null. Prefixes are dropped; namespaces
// are kept as "@xmlns" only with Options.Namespaces. Comments, processing instructions and the order of elements with different
// names are dropped. Two attributes of an element that differ only in their prefixes are refused.
//
// DTDs are refused, so there are no entities but the five of XML. Documents are UTF-8, or converted from the few other encodings
// that an XML declaration may name; all others are refused.
//
// # JSON to XML
//
// The reverse. The root element's name is Options.Root. Keys that are no XML names without a colon, keys that occur twice,
// values of "@name" and "#text" that are not scalar, and characters that XML cannot hold are refused with their JSON pointer.
//
// JSON made XML and read again with the same options is the same JSON, except that numbers and booleans are strings unless
// Options.Types says otherwise. Where plain XML cannot tell two values apart, attributes in the namespace urn:quorumhub:json
// (prefix j) do, which readers that do not know them can ignore:
//
//   - j:type="string": the empty string, not null;
//   - j:type="object": an empty object, not null;
//   - j:type="text": an object with "#text", however little it is;
//   - j:type="array": an array that is itself an item, or the whole document; its items are the children, whatever their names;
//   - j:item="true": the only item of an array;
//   - j:empty="a b": members a and b are empty arrays; there is no element for them.
//
// A null among strings has xsi:nil="true".
package convert
