package convert

import (
	"io"
)

// XMLToJSON converts a document by the conventions of this package. It reads src to its end and writes nothing before all of
// it is accepted. Faults of the document are an *Error and faults of the options an *OptionsError; errors of src and dst come
// back wrapped or as they are.
func XMLToJSON(dst io.Writer, src io.Reader, o Options) error {
	r, err := o.compile()
	if err != nil {
		return err
	}
	v, err := readXML(src, r)
	if err != nil {
		return err
	}
	return r.sendJSON(dst, &v)
}

// JSONToXML is the reverse of XMLToJSON, with the same promises.
func JSONToXML(dst io.Writer, src io.Reader, o Options) error {
	r, err := o.compile()
	if err != nil {
		return err
	}
	v, err := readJSON(src, r, true)
	if err != nil {
		return err
	}
	strip(&v, r.start(r.Root))
	w := &xmlWriter{output: output{limit: r.Limits.Output}, rules: r}
	if err := w.document(&v); err != nil {
		return err
	}
	return w.writeTo(dst)
}

// StripJSON copies a JSON document without what Options.Strip names. It accepts exactly what JSONToXML reads as JSON: one
// value, without repeated keys, within the limits.
func StripJSON(dst io.Writer, src io.Reader, o Options) error {
	r, err := o.compile()
	if err != nil {
		return err
	}
	v, err := readJSON(src, r, false)
	if err != nil {
		return err
	}
	strip(&v, r.start(r.Root))
	return r.sendJSON(dst, &v)
}

func (r *rules) sendJSON(dst io.Writer, v *value) error {
	out := output{limit: r.Limits.Output}
	if err := out.writeJSON(v); err != nil {
		return err
	}
	_, err := dst.Write(out.buf)
	return err
}
