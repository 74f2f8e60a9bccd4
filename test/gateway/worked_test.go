package gateway_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

const geoSecret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// employees is the service behind the gateway: it answers in XML that wraps the document in CDATA.
type employees struct {
	*httptest.Server
	mu   sync.Mutex
	last *http.Request
	body string
}

func newEmployees(t *testing.T) *employees {
	t.Helper()
	e := &employees{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.last, e.body = r, string(body)
		e.mu.Unlock()
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		_, _ = io.WriteString(w, `<?xml version="1.0"?><response><![CDATA[<GetAddress><ID>121</ID><Line>1 Main Street</Line><internal><salary>9</salary></internal></GetAddress>]]></response>`)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *employees) seen() (*http.Request, string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last, e.body
}

// trio is a cluster of three nodes that ask for credentials, and its operator's API key.
type trio struct {
	*chaos.Cluster
	key string
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	key, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "auth.yaml"), filepath.Join(dir, "geo.secret")
	if err := os.WriteFile(secret, []byte(geoSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
api_keys: [{id: '%s', name: root, sha256: '%x', roles: [root]}]
geo_auth:
  keys: [{id: GEOSystem, secret_file: '%s', usernames: [geo], source_system: INT, target_system: HRMS}]
rules:
  - {name: root, may: ["*"], topics: ["**"], resources: ["**"], who: [{role: root}]}
  - {name: hr, may: [call], resources: ["hr.*"], who: [{principal: "signed:geo-auth/GEOSystem/geo"}]}
`, id, hash, secret)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sites, err := chaos.FreeSites(3)
	if err != nil {
		t.Fatal(err)
	}
	c := chaos.PrepareCluster(t, sites, hubtest.Settings{"auth.mode": "required", "auth.file": file})
	c.Start(t, 0, 1, 2)
	return &trio{c, key}
}

// apply makes a registry the one in force, and waits until all nodes that run serve it.
func (c *trio) apply(t *testing.T, at int, text string, files map[string][]byte, secrets map[string]string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"text": text, "files": files, "secrets": secrets})
	if err != nil {
		t.Fatal(err)
	}
	reply := c.Nodes[at].Do(t, "PUT", "/v1/gateway", http.Header{"X-Api-Key": {c.key}, "Content-Type": {"application/json"}}, body)
	if reply.Status != 200 {
		t.Fatalf("apply: %v", reply)
	}
	var applied struct{ Hash string }
	if err := json.Unmarshal(reply.Body, &applied); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		hubtest.Eventually(t, "the registry is in force", func() error {
			reply, err := n.Send("GET", "/v1/gateway", http.Header{"X-Api-Key": {c.key}}, nil)
			if err != nil {
				return err
			}
			var serving struct {
				Hash   string
				Errors []string
			}
			if err := json.Unmarshal(reply.Body, &serving); err != nil {
				return err
			}
			if serving.Hash != applied.Hash || len(serving.Errors) > 0 {
				return fmt.Errorf("serves %s: %v", serving.Hash, serving.Errors)
			}
			return nil
		})
	}
}

func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func geoParts(sep string) string {
	return strings.Join([]string{"geo-username=geo", "geo-key-id=GEOSystem", "geo-source-system-name=INT", "geo-target-system-name=HRMS",
		fmt.Sprint("geo-expires-by=", time.Now().Add(200*time.Second).UnixMilli()), "geo-nonce=" + uuid()}, sep)
}

func geoMAC(text string) string {
	m := hmac.New(sha512.New, []byte(geoSecret))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

func geoGet(path string, business ...string) string {
	signed := strings.Join(append(business, geoParts("&")), "&")
	pieces := strings.Split(signed+"&geo-signature="+geoMAC(signed), "&")
	for i, p := range pieces {
		name, value, _ := strings.Cut(p, "=")
		pieces[i] = url.QueryEscape(name) + "=" + url.QueryEscape(value)
	}
	return path + "?" + strings.Join(pieces, "&")
}

func geoPost(body string) http.Header {
	header := geoParts(",")
	return http.Header{"Geo-Auth": {header + ",geo-signature=" + geoMAC(header+body)}, "Content-Type": {"application/json"}}
}

const workedExample = `
version: 1
defaults: {produces: [json, xml], timeout: 5s}
upstreams:
  hr: {urls: [UPSTREAM], headers: {X-Api-Key: "${HR_KEY}"}}
services:
  - name: request-address
    uri: Employee/requestAddress
    aliases: [{uri: emp/reqAddr, status: 308}, {uri: EmpAddr}]
    default: "2"
    versions:
      - {version: "0", status: retired, sunset_at: 2026-01-01, successor: "2", auth: geo}
      - {version: "1", status: deprecated, deprecated_at: 2026-01-01, sunset_at: 2027-06-30, successor: "2", target: "hr:/v1/address", methods: [GET], auth: geo, permission: {action: call, resource: hr.address}}
      - version: "2"
        target: hr:/v2/address
        methods: [GET, POST]
        auth: geo
        permission: {action: call, resource: hr.address}
        params: [{name: ID, in: query, pattern: "[0-9]{1,9}"}]
        body: {schema: address.schema.json, consumes: [json, xml]}
        response: {unwrap: true, arrays: [GetAddress/Line], strip: [internal/*]}
`

const addressSchema = `{"type": "object", "required": ["ID"], "properties": {"ID": {"type": "integer"}}, "additionalProperties": false}`

func TestWorkedExampleOnThreeNodes(t *testing.T) {
	t.Parallel()
	service := newEmployees(t)
	c := newTrio(t)
	c.apply(t, 0, strings.ReplaceAll(workedExample, "UPSTREAM", service.URL), map[string][]byte{"address.schema.json": []byte(addressSchema)}, map[string]string{"HR_KEY": "hr-key"})
	const path = "/gateway/Employee/requestAddress"

	// A JSON consumer of an XML service that wraps its answer in CDATA.
	signed := geoGet(path, "ID=121")
	reply := c.Nodes[1].Do(t, "GET", signed, http.Header{"Accept": {"application/json"}}, nil)
	if want := `{"ID":"121","Line":["1 Main Street"],"internal":{}}`; reply.Status != 200 || string(reply.Body) != want {
		t.Fatalf("got %v %s, want %s", reply, reply.Body, want)
	}
	r, _ := service.seen()
	if r.URL.RequestURI() != "/v2/address?ID=121" || r.Header.Get("X-Geo-Target-System") != "HRMS" || r.Header.Get("X-Api-Key") != "hr-key" ||
		r.Header.Get("X-Correlation-Id") != reply.Header.Get("X-Correlation-Id") {
		t.Errorf("the service got %s %v", r.URL.RequestURI(), r.Header)
	}
	// The same request at another node: its nonce was used.
	if reply := c.Nodes[2].Do(t, "GET", signed, http.Header{"Accept": {"application/json"}}, nil); reply.Status != 401 || !strings.Contains(string(reply.Body), `"replayed"`) {
		t.Errorf("a replay at another node: %v %s", reply, reply.Body)
	}
	// XML for those who ask for it; a signed POST.
	header := geoPost(`{"ID": 121}`)
	header.Set("Accept", "application/xml")
	reply = c.Nodes[2].Do(t, "POST", path, header, []byte(`{"ID": 121}`))
	if reply.Status != 200 || !strings.Contains(string(reply.Body), "<GetAddress><ID>121</ID><Line>1 Main Street</Line>") || strings.Contains(string(reply.Body), "salary") {
		t.Errorf("POST: %v %s", reply, reply.Body)
	}
	if reply := c.Nodes[0].Do(t, "POST", path, geoPost(`{"ID": "x"}`), []byte(`{"ID": "x"}`)); reply.Status != 400 || !strings.Contains(string(reply.Body), `"pointer":"/ID"`) {
		t.Errorf("a body that breaks the schema: %v %s", reply, reply.Body)
	}
	// The life of versions.
	reply = c.Nodes[0].Do(t, "GET", geoGet("/gateway/v1/Employee/requestAddress"), nil, nil)
	if reply.Status != 200 || reply.Header.Get("Deprecation") != "@1767225600" || reply.Header.Get("Sunset") == "" || !strings.Contains(reply.Header.Get("Link"), "/gateway/v2/Employee/requestAddress") {
		t.Errorf("version 1: %v %v", reply, reply.Header)
	}
	if reply := c.Nodes[0].Do(t, "GET", geoGet("/gateway/v0/Employee/requestAddress"), nil, nil); reply.Status != 410 || !strings.Contains(string(reply.Body), "/gateway/v2/") {
		t.Errorf("version 0: %v %s", reply, reply.Body)
	}
	moved := geoGet("/gateway/emp/reqAddr", "ID=7")
	reply = c.Nodes[0].Do(t, "GET", moved, nil, nil)
	if reply.Status != 308 || !strings.HasPrefix(reply.Header.Get("Location"), path+"?ID=7&") {
		t.Fatalf("the alias: %v %v", reply, reply.Header)
	}
	if reply := c.Nodes[1].Do(t, "GET", reply.Header.Get("Location"), nil, nil); reply.Status != 200 {
		t.Errorf("after the redirect: %v", reply)
	}
	// One node dies: the others serve, and who calls what is known.
	c.Kill(t, 0)
	hubtest.Eventually(t, "the others serve", func() error {
		reply, err := c.Nodes[1].Send("GET", geoGet("/gateway/EmpAddr", "ID=121"), nil, nil)
		if err != nil {
			return err
		}
		if reply.Status != 200 || reply.Header.Get("Deprecation") == "" {
			return fmt.Errorf("%v %v", reply, reply.Header)
		}
		return nil
	})
	usage := c.Nodes[1].Do(t, "GET", "/v1/gateway/usage", http.Header{"X-Api-Key": {c.key}}, nil)
	if !strings.Contains(string(usage.Body), `"consumer":"signed:geo-auth/GEOSystem/geo","service":"request-address","version":"2"`) {
		t.Errorf("usage: %s", usage.Body)
	}
}
