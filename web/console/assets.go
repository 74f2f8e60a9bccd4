package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed static templates
var files embed.FS

// assets are the files that pages refer to. A name carries the hash of its content, so that browsers may keep it for good.
type assets struct {
	byName map[string]*asset // as in URLs
	hashed map[string]string // console.css -> console-0123456789ab.css
}

type asset struct {
	kind          string
	plain, zipped []byte
	tag           string
}

func newAssets() (*assets, error) {
	a := &assets{byName: map[string]*asset{}, hashed: map[string]string{}}
	err := fs.WalkDir(files, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		hash := hex.EncodeToString(sum[:6])
		base, ext := path.Base(name), path.Ext(name)
		full := strings.TrimSuffix(base, ext) + "-" + hash + ext
		zipped := new(bytes.Buffer)
		z, _ := gzip.NewWriterLevel(zipped, gzip.BestCompression) // the level is valid
		if _, err = z.Write(content); err == nil {
			err = z.Close()
		}
		a.byName[full] = &asset{kind: mime.TypeByExtension(ext), plain: content, zipped: zipped.Bytes(), tag: `"` + hash + `"`}
		a.hashed[base] = full
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("console: embedded files: %w", err)
	}
	return a, nil
}

// Static serves the stylesheet, the script and the icon.
func (c *Console) Static(w http.ResponseWriter, r *http.Request) {
	f, ok := c.assets.byName[strings.TrimPrefix(r.URL.Path, "/console/static/")]
	if !ok {
		http.NotFound(w, r) // a page of another version refers to it
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("ETag", f.tag)
	h.Set("Vary", "Accept-Encoding")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.plain
	if acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = f.zipped
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // fails only if the client is gone
	}
}

// acceptsGzip reports whether a client takes gzip. A weight of 0, which nobody sends, is not looked for.
func acceptsGzip(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
}
