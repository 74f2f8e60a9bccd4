package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"quorumhub/web/gateway/convert"
	"quorumhub/web/gateway/negotiate"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/problem"
)

// checkFormat finds out which format the caller wants: ?format= where the version has it, else what Accept prefers, else whatever the
// service sends.
func (x *exchange) checkFormat() error {
	v := x.version
	if len(v.Produces) == 0 || v.Target.Kind == registry.TargetTopic {
		return nil
	}
	var param []string
	if v.FormatParam {
		param = x.formatParam()
	}
	var err error
	x.want, err = negotiate.Choose(x.r.Header["Accept"], param, v.produces)
	x.wants = err == nil
	return err
}

// formatParam takes ?format= out of the query, which is the gateway's.
func (x *exchange) formatParam() (given []string) {
	pieces := strings.Split(x.query, "&")
	kept := pieces[:0]
	for _, piece := range pieces {
		name, value, _ := strings.Cut(piece, "=")
		if name != "format" {
			kept = append(kept, piece)
			continue
		}
		text, err := url.QueryUnescape(value)
		if err != nil {
			text = value
		}
		given = append(given, text)
	}
	x.query = strings.Join(kept, "&")
	return given
}

// readsResponse reports whether the response may have to be looked into, so that it must not be compressed or partial.
func (x *exchange) readsResponse() bool {
	v := x.version
	if v.Response.Unwrap || len(v.Response.Strip) > 0 || v.protection != nil && (len(v.protection.release) > 0 || v.protection.encrypt) {
		return true
	}
	if !x.wants {
		return false
	}
	for _, f := range []negotiate.Format{negotiate.JSON, negotiate.XML} {
		if a, err := x.want.Answer("application/" + string(f)); err != nil || a.Format != "" {
			return true
		}
	}
	return false
}

// answer returns how to send a document of a media type.
func (x *exchange) answer(contentType string) (negotiate.Answer, error) {
	if !x.wants {
		return negotiate.Answer{ContentType: contentType}, nil
	}
	return x.want.Answer(contentType)
}

// maxDocument bounds the documents that are converted, in bytes.
const maxDocument = 8 << 20

func (v *version) limits() convert.Limits { return convert.Limits{Bytes: max(v.MaxBody, 1<<20)} }

// options are how documents of this version's responses are converted.
func (v *version) options() convert.Options {
	r := v.Response
	root := r.Root
	if root == "" {
		root = elementName(v.service.Name)
	}
	o := convert.Options{Arrays: r.Arrays, Root: root, Namespaces: r.Namespaces, Strip: r.Strip, Limits: v.limits()}
	if v.answers != nil {
		o.Types = v.answers.types
		o.Arrays = slices.Concat(o.Arrays, v.answers.arrays)
	}
	return o
}

// elementName makes the name of an XML element of a service's name.
func elementName(name string) string {
	out := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			return c
		}
		return '_'
	}, name)
	if out == "" || out[0] < 'A' || out[0] == '-' || out[0] == '.' {
		return "_" + out
	}
	return out
}

// document is a response that is looked into.
type document struct {
	text   []byte
	format registry.Format
}

// open reads the response's document, once, and takes it out of what it is wrapped in. nil: it is no document in a format that the
// gateway knows.
func (x *exchange) open() (*document, error) {
	if x.doc != nil || x.resp.body == nil {
		return x.doc, nil
	}
	format := formatOf(x.resp.header.Get("Content-Type"))
	if format == "" {
		return nil, nil
	}
	for _, enc := range x.resp.header["Content-Encoding"] {
		if !strings.EqualFold(enc, "identity") {
			x.note(fmt.Errorf("%w: it is compressed although the gateway asked for it not to be", errUpstreamBody), x.resp.status)
			return nil, upstreamProblem(errUpstreamBody.Error())
		}
	}
	text, err := x.holdResponse(min(max(x.version.MaxBody, 1<<20), maxDocument))
	if err != nil {
		return nil, x.documentFault(err)
	}
	if x.version.Response.Unwrap && format == registry.FormatXML && len(text) > 0 {
		inner, _, err := convert.Unwrap(text, x.version.limits())
		if err != nil {
			return nil, x.documentFault(err)
		}
		text = inner
	}
	x.doc, x.native = &document{text, format}, x.resp.header.Get("Content-Type")
	return x.doc, nil
}

// documentFault tells the caller that the service's document is no good, and the log why.
func (x *exchange) documentFault(err error) error {
	var d *problem.Details
	if errors.As(err, &d) || x.ctx().Err() != nil {
		return err
	}
	x.note(err, x.resp.status)
	if errors.Is(err, errResponseTooLarge) {
		return upstreamProblem(errResponseTooLarge.Error())
	}
	return upstreamProblem(errUpstreamBody.Error())
}

// turn converts the document, and leaves out what Response.Strip names.
func (x *exchange) turn(to registry.Format) error {
	d, v := x.doc, x.version
	if d.format == to && (len(v.Response.Strip) == 0 || x.stripped) || len(d.text) == 0 {
		return nil
	}
	o := v.options()
	if x.stripped {
		o.Strip = nil
	}
	var out bytes.Buffer
	var err error
	switch {
	case d.format == registry.FormatXML && to == registry.FormatXML:
		err = convert.StripXML(&out, bytes.NewReader(d.text), o)
	case d.format == registry.FormatXML:
		err = convert.XMLToJSON(&out, bytes.NewReader(d.text), o)
	case to == registry.FormatJSON:
		err = convert.StripJSON(&out, bytes.NewReader(d.text), o)
	default:
		err = convert.JSONToXML(&out, bytes.NewReader(d.text), o)
	}
	if err != nil {
		return x.documentFault(err)
	}
	d.text, d.format, x.stripped = out.Bytes(), to, true
	return nil
}

// convertStage gives the response the format that the caller accepts.
type convertStage struct{}

func (convertStage) name() string { return "convert" }
func (convertStage) explain(v *version) string {
	if v.Target.Kind == registry.TargetTopic {
		return ""
	}
	var parts []string
	if v.Response.Unwrap {
		parts = append(parts, "unwrap a document inside a text node")
	}
	if len(v.Response.Strip) > 0 {
		parts = append(parts, "leave out "+strings.Join(v.Response.Strip, ", "))
	}
	if len(v.Produces) > 0 {
		names := make([]string, len(v.Produces))
		for i, f := range v.Produces {
			names[i] = string(f)
		}
		parts = append(parts, "to "+strings.Join(names, " or ")+" by Accept, else as the service sends it")
	}
	return strings.Join(parts, "; ")
}

func (convertStage) do(x *exchange) error {
	resp, v := x.resp, x.version
	sent := resp.header.Get("Content-Type")
	if x.doc != nil {
		sent = x.native // as released, it is to be sent like what the service sent
	}
	answer, err := x.answer(sent)
	if err != nil {
		if resp.status < 300 && resp.body != nil {
			return err
		}
		answer.ContentType = sent // better told than hidden
	}
	to := registry.Format(answer.Format)
	if to == "" {
		to = formatOf(sent)
	}
	switch {
	case to == "":
		return nil // not what the gateway converts
	case resp.body == nil && x.doc == nil: // HEAD, or nothing to send
		if answer.Format != "" {
			resp.header.Set("Content-Type", answer.ContentType)
			forgetBytes(resp)
		}
		return nil
	case x.doc == nil && answer.Format == "" && !v.Response.Unwrap && len(v.Response.Strip) == 0:
		return nil // as it comes
	}
	doc, err := x.open()
	if err != nil || doc == nil {
		return err
	}
	if err := x.turn(to); err != nil {
		return err
	}
	resp.header.Set("Content-Type", answer.ContentType)
	forgetBytes(resp)
	resp.body, resp.length = readerOf(doc.text), int64(len(doc.text))
	return nil
}

// forgetBytes removes what was about the bytes that the service sent.
func forgetBytes(resp *response) {
	for _, name := range []string{"Content-Length", "Content-Md5", "Content-Digest", "Repr-Digest", "Digest", "Etag", "Accept-Ranges", "Content-Range", "Signature", "Signature-Input"} {
		delete(resp.header, name)
	}
}
