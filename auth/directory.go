package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"quorumhub/configs/syntax"
)

// Subdirectories of auth.directory, with a file for each provider.
const (
	identityProvidersDir = "identity-providers"
	serviceProvidersDir  = "service-providers"
)

// Limits on auth.directory.
const (
	maxProviderFiles = 1000
	maxProviderBytes = 64 << 10
)

// fileError is a mistake in a file of auth.directory. Its text names the file.
type fileError struct{ error }

func (e *fileError) Unwrap() error { return e.error }

// providerFiles returns the files of providers of a kind, in the order of their names. Whatever begins with a dot or ends otherwise is
// somebody else's, such as an editor's.
func providerFiles(directory, kind string) (paths []string, err error) {
	entries, err := os.ReadDir(filepath.Join(directory, kind))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(directory); err != nil {
			return nil, err
		}
		return nil, nil
	}
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")) {
			paths = append(paths, filepath.Join(directory, kind, name))
		}
	}
	if len(paths) > maxProviderFiles {
		return nil, fmt.Errorf("%s has %d files; expected at most %d", filepath.Join(directory, kind), len(paths), maxProviderFiles)
	}
	return paths, err
}

// addDirectory adds the providers that have files of their own.
func (s *Settings) addDirectory(directory string) error {
	idps, err := providerFiles(directory, identityProvidersDir)
	if err != nil {
		return &fileError{err}
	}
	for _, path := range idps {
		p := IdentityProvider{file: path}
		if err := readProvider(path, &p); err != nil {
			return &fileError{fmt.Errorf("%s: %w", path, err)}
		}
		s.IdentityProviders = append(s.IdentityProviders, p)
	}
	sps, err := providerFiles(directory, serviceProvidersDir)
	if err != nil {
		return &fileError{err}
	}
	for _, path := range sps {
		p := ServiceProvider{file: path}
		if err := readProvider(path, &p); err != nil {
			return &fileError{fmt.Errorf("%s: %w", path, err)}
		}
		s.ServiceProviders = append(s.ServiceProviders, p)
	}
	return nil
}

func readProvider(path string, to any) error {
	text, err := os.ReadFile(path)
	switch {
	case err != nil:
		return err
	case len(text) > maxProviderBytes:
		return fmt.Errorf("has %d bytes; expected at most %d", len(text), maxProviderBytes)
	case len(bytes.TrimSpace(text)) == 0:
		return errors.New("is empty; expected the keys of one provider, such as name: corp")
	}
	if err := yaml.UnmarshalWithOptions(text, to, yaml.Strict()); err != nil {
		return syntax.Explain(text, err)
	}
	return nil
}

// ProviderFiles returns the files of auth.directory that the settings were read from.
func (s *Settings) ProviderFiles() (out []string) {
	for i := range s.IdentityProviders {
		if f := s.IdentityProviders[i].file; f != "" {
			out = append(out, f)
		}
	}
	for i := range s.ServiceProviders {
		if f := s.ServiceProviders[i].file; f != "" {
			out = append(out, f)
		}
	}
	return out
}

// DirectoryStamp returns a text that changes when a file of auth.directory does.
func DirectoryStamp(directory string) string {
	var b strings.Builder
	for _, kind := range []string{identityProvidersDir, serviceProvidersDir} {
		paths, err := providerFiles(directory, kind)
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				fmt.Fprintf(&b, "%v\n", err)
				continue
			}
			fmt.Fprintf(&b, "%s %d %d %s\n", path, info.ModTime().UnixNano(), info.Size(), info.Mode())
		}
	}
	return b.String()
}
