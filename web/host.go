package web

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"quorumhub/web/problem"
)

// checkHost refuses requests under a name that is not the hub's. Without credentials, whoever reaches the hub may use it, and a web
// page reaches it as soon as its own name resolves to the hub's address (DNS rebinding). An address is no such name.
func (s *Server) checkHost(r *http.Request) error {
	if s.Guard != nil || r.Host == "" || s.hosts.get(r.Host) != "" {
		return nil
	}
	namer := s.Service.Namer()
	version := namer.Version()
	if name := hostname(r.Host); !isAddress(name) && !slices.ContainsFunc(namer.Bases(), func(base string) bool { return hostOf(base) == name }) {
		return &problem.Details{Status: http.StatusMisdirectedRequest, Code: "misdirected", Param: "Host",
			Detail: "is " + problem.Quote(r.Host) + ", which is no name of this hub; expected " + hostOf(s.PublicURL) +
				", an address, or the host of a URL in http.alias_urls (a hub with auth.mode: required serves all names)"}
	}
	s.hosts.put(r.Host, "known", version)
	return nil
}

// isAddress reports whether a host name always means the same machine: an IP address, or this one's own name.
func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// hostname returns the name in a Host header, without port and brackets.
func hostname(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}
