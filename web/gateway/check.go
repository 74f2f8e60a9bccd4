package gateway

import (
	"fmt"

	"quorumhub/web/gateway/registry"
)

// Check returns what is wrong with a registry that registry.Read accepts and that yet no gateway could serve: what its keys,
// certificates and conversions are made of.
func Check(reg *registry.Registry) (out []registry.Mistake) {
	add := func(at registry.Position, path string, err error) {
		if err != nil {
			out = append(out, registry.Mistake{Position: at, Path: path, Detail: err.Error()})
		}
	}
	if reserved(reg.Prefix) {
		add(registry.Position{}, "prefix", fmt.Errorf("%s is the hub's own; expected another path such as %s", reg.Prefix, DefaultPrefix))
	}
	for i := range reg.Services {
		s := &service{Service: &reg.Services[i]}
		for j := range s.Service.Versions {
			rv := &s.Service.Versions[j]
			path := fmt.Sprintf("services[%d].versions[%d].", i, j)
			_, err := compileProtect(reg, rv.Protect)
			add(rv.Position, path+"protect", err)
			v := &version{Version: rv, service: s}
			add(rv.Position, path+"response", v.options().Check())
			_, err = keyHeaderOf(rv.Key)
			add(rv.Position, path+"key", err)
		}
	}
	return out
}
