package configs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knadh/koanf/maps"
	"github.com/knadh/koanf/v2"
)

// maxFileBytes is far above any sensible configuration file and bounds the cost of a wrong path.
const maxFileBytes = 1 << 20

// Source locates a configuration. Later fields take precedence over earlier ones.
type Source struct {
	// File is the path of a YAML file; empty for none.
	File string
	// Env holds NAME=value strings as in os.Environ; only names that begin with QUORUMHUB_ matter.
	Env []string
	// Set holds key=value strings.
	Set []string
}

// Load reads the configuration from its sources and validates it. An unknown key is an error in any source. The error
// is an *InvalidError that lists every problem, or reports why the file cannot be read.
func Load(src Source) (*Config, error) {
	var file []byte
	if src.File != "" {
		var err error
		if file, err = readFile(src.File); err != nil {
			return nil, err
		}
	}
	return load(filepath.Base(src.File), file, src.Env, src.Set)
}

// Secrets returns the keys in File whose values are secret, in order; none if the file cannot be read.
func (s Source) Secrets() (keys []string) {
	if s.File == "" {
		return nil
	}
	data, err := readFile(s.File)
	if err != nil {
		return nil
	}
	given, _ := readYAML(filepath.Base(s.File), data, newNames())
	for _, e := range entries() {
		if e.hidden && strings.Join(given[e.Name].Texts, "") != "" {
			keys = append(keys, e.Name)
		}
	}
	return keys
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	if !info.Mode().IsRegular() && info.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) == 0 {
		return nil, fmt.Errorf("configuration file: %s is not a regular file", path)
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("configuration file: %s is %s in size, expected at most %s", path, Bytes(info.Size()), Bytes(maxFileBytes))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	return data, nil
}

// layer holds the values from one source, by key. It is a koanf provider.
type layer map[string]given

// Read implements koanf.Provider.
func (l layer) Read() (map[string]any, error) {
	flat := make(map[string]any, len(l))
	for key, g := range l {
		flat[key] = g
	}
	return maps.Unflatten(flat, "."), nil
}

// ReadBytes implements koanf.Provider.
func (layer) ReadBytes() ([]byte, error) {
	return nil, errors.New("not supported")
}

func load(fileName string, file []byte, env, set []string) (*Config, error) {
	known := newNames()
	fileLayer, problems := readYAML(fileName, file, known)
	envLayer, more := readEnv(env, known)
	problems = append(problems, more...)
	setLayer, more := readSet(set, known)
	problems = append(problems, more...)

	merged := koanf.New(".")
	for _, l := range []layer{fileLayer, envLayer, setLayer} {
		if err := merged.Load(l, nil); err != nil {
			return nil, fmt.Errorf("merge the configuration: %w", err)
		}
	}

	c := Default()
	unread := make(map[string]bool)
	for _, e := range entries() {
		g, ok := merged.Get(e.Name).(given)
		if !ok {
			continue
		}
		if err := e.set(c, g); err != nil {
			unread[e.Name] = true
			problems = append(problems, Problem{Key: e.Name, Origin: g.Origin, Message: err.Error()})
		}
	}
	for _, p := range c.problems(unread) {
		if g, ok := merged.Get(p.Key).(given); ok {
			p.Origin = g.Origin
		}
		problems = append(problems, p)
	}
	if len(problems) > 0 {
		return nil, &InvalidError{Problems: problems}
	}
	return c, nil
}

// reservedEnv returns variables with the hub's prefix that belong to other commands and not to the configuration.
func reservedEnv() []string {
	return []string{EnvPrefix + "HUB", EnvPrefix + "TOKEN", EnvPrefix + "CA", EnvPrefix + "CONFIG", EnvPrefix + "CALL_SECRET"}
}

func readEnv(env []string, known *names) (layer, []Problem) {
	out := make(layer)
	var problems []Problem
	for _, line := range env {
		name, value, ok := strings.Cut(line, "=")
		if !ok || !strings.HasPrefix(name, EnvPrefix) || slices.Contains(reservedEnv(), name) {
			continue
		}
		key, ok := known.byEnv[name]
		if !ok {
			problems = append(problems, Problem{
				Key:     name,
				Message: "unknown variable; did you mean " + envName(known.nearest(strings.ToLower(strings.TrimPrefix(name, EnvPrefix)))) + "?",
			})
			continue
		}
		out[key] = given{Texts: []string{value}, Origin: name}
	}
	return out, problems
}

func readSet(set []string, known *names) (layer, []Problem) {
	const origin = "--set"
	out := make(layer)
	var problems []Problem
	for _, text := range set {
		key, value, ok := strings.Cut(text, "=")
		key = strings.TrimSpace(key)
		if !ok {
			problems = append(problems, Problem{Origin: origin, Message: fmt.Sprintf("got %q, expected key=value", text)})
			continue
		}
		if !known.is(key) {
			problems = append(problems, Problem{Key: key, Origin: origin, Message: known.unknown(key)})
			continue
		}
		out[key] = given{Texts: []string{value}, Origin: origin}
	}
	return out, problems
}
